"""One request in flight: its tokens, how far they are computed, and what watches its output."""

from dataclasses import dataclass, field

from tgi_shard.engine.request import EngineRequest
from tgi_shard.engine.stopping import StopChecker
from tgi_shard.grammar.matcher import GrammarMatcher
from tgi_shard.text.detokenizer import IncrementalDetokenizer
from tgi_shard.text.tokenizer import ShardTokenizer


@dataclass(slots=True, eq=False)
class Sequence:
    """A request's state between steps. Only a step that succeeded changes it: a failed one can be repeated.

    Attributes:
        id: the request's.
        prompt_length: number of prompt tokens.
        token_ids: the prompt and what was generated so far.
        computed: leading tokens whose keys and values are in the cache.
        query_length: tokens the next step computes: a chunk of the prompt, or the one token to go on from.
        matcher: says which tokens the text may go on with; None where any may follow.
        prompt_logprobs: log-probabilities of the prompt tokens computed so far, where they were asked for.
        prompt_top_tokens: the likeliest tokens in the place of each, ids and log-probabilities, likewise.
    """

    request: EngineRequest
    token_ids: list[int]
    computed: int
    query_length: int
    detokenizer: IncrementalDetokenizer
    stop: StopChecker
    matcher: GrammarMatcher | None
    prompt_logprobs: list[float] = field(default_factory=list)
    prompt_top_tokens: list[tuple[list[int], list[float]]] = field(default_factory=list)
    id: int = field(init=False)
    prompt_length: int = field(init=False)

    def __post_init__(self) -> None:
        self.id = self.request.id
        self.prompt_length = len(self.request.prompt_ids)

    @property
    def generated(self) -> int:
        """Number of generated tokens."""
        return len(self.token_ids) - self.prompt_length

    @property
    def remaining(self) -> int:
        """Tokens not yet in the cache: at least one, or there would be nothing to go on from."""
        return len(self.token_ids) - self.computed


def start_sequence(request: EngineRequest, tokenizer: ShardTokenizer) -> Sequence:
    """The state of a request that has not been stepped yet."""
    rest = len(request.prompt_ids) - request.cached_length
    return Sequence(
        request=request,
        token_ids=list(request.prompt_ids),
        computed=request.cached_length,
        query_length=rest if request.chunk_length is None else request.chunk_length,
        detokenizer=IncrementalDetokenizer(tokenizer, request.prompt_ids),
        stop=StopChecker(request.stopping),
        matcher=None if request.grammar is None else request.grammar.start(),
    )


def plan_chunks(sequences: list[Sequence], max_prefill_tokens: int) -> None:
    """Set how many tokens each sequence computes in the next step.

    Each sequence gets one token; what is left of the budget goes to unfinished prompts, from the last
    sequence to the first, as TGI's shard does (flash_causal_lm.py, `prepare_for_prefill`): a router that
    cuts the first chunk relies on the shard to cut the rest.
    """
    spare = max(max_prefill_tokens - len(sequences), 0)
    for sequence in reversed(sequences):
        sequence.query_length = min(sequence.remaining, 1 + spare)
        spare -= sequence.query_length - 1
