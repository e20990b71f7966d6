"""A request before it is checked, whichever route it came by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tgi_common.grammar import GrammarKind
from tgi_router.schema.generate import GenerateParameters


@dataclass(frozen=True, slots=True)
class WrittenGrammar:
    """A grammar as it came, not checked yet.

    Attributes:
        field: where the request has it.
    """

    kind: GrammarKind
    source: str
    field: str


@dataclass(frozen=True, slots=True)
class Extensions:
    """Wishes that TGI's parameters have no words for. The defaults ask for nothing.

    Attributes:
        min_p: drop tokens less likely than this share of the likeliest one's probability.
        presence_penalty: subtracted from the score of each token that was generated before.
        token_bias: added to the scores of tokens, by id.
        min_new_tokens: nothing ends the generation before so many tokens.
        stop_token_ids: tokens that end it as the end-of-sequence token does.
        prefill_top_n_tokens: answer so many of the likeliest tokens for each prompt token, too.
        grammar: what the text must match.
    """

    min_p: float = 0.0
    presence_penalty: float = 0.0
    token_bias: Mapping[int, float] = field(default_factory=dict)
    min_new_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos_token: bool = False
    prefill_top_n_tokens: int = 0
    grammar: WrittenGrammar | None = None


@dataclass(frozen=True, slots=True)
class UncheckedRequest:
    """A prompt and the wishes of its sender.

    Attributes:
        inputs: the prompt as text, or as token ids.
        add_special_tokens: whether the tokenizer adds its own to a text.
    """

    inputs: str | Sequence[int]
    parameters: GenerateParameters
    extensions: Extensions = Extensions()
    add_special_tokens: bool = True

    @property
    def member_count(self) -> int:
        """Generations to run side by side, of which the best is answered."""
        return self.parameters.best_of or 1
