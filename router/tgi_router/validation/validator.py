"""Checks a request against the server's limits and turns its text into tokens."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from tgi_common.grammar import Grammar, GrammarError
from tgi_router.generation import StoppingParameters, ValidRequest
from tgi_router.schema.generate import GenerateParameters
from tgi_router.text.grammar import GrammarChecker
from tgi_router.text.grammar_forms import read_tgi_grammar
from tgi_router.text.tokenizer import PromptTokenizer, TokenSpan
from tgi_router.text.workers import TextWorkers
from tgi_router.validation.extensions import check_extensions, check_token_ids
from tgi_router.validation.limits import RequestLimits
from tgi_router.validation.refusal import refuse
from tgi_router.validation.request import UncheckedRequest, WrittenGrammar
from tgi_router.validation.rules import (
    check_inputs,
    check_length,
    check_sampling,
    check_stopping,
    refuse_unsupported,
)
from tgi_router.validation.sampling import resolve_sampling

T = TypeVar("T")

INLINE_CHARACTERS = 1024
"""Texts up to this length are tokenized on the event loop: about 0.1 ms, as much as the way to a thread."""


class Validator:
    """Applies TGI's rules (router/src/validation.rs) in TGI's order; the first that is broken is reported.

    Differences: `top_p` and `typical_p` may be 1, which is their neutral value, and `max_new_tokens` is
    checked as given rather than cut to 1024 first.
    """

    def __init__(
        self,
        limits: RequestLimits,
        tokenizer: PromptTokenizer,
        workers: TextWorkers,
        grammars: GrammarChecker | None,
    ) -> None:
        """Make a validator.

        Args:
            limits: what a request may ask for.
            tokenizer: the model's.
            workers: where long texts are tokenized, and grammars checked.
            grammars: checks grammars; None where none are taken.
        """
        self.limits = limits
        self._grammars = grammars
        self._tokenizer = tokenizer
        self._workers = workers

    async def validate(self, request: UncheckedRequest) -> ValidRequest:
        """Everything that needs a permit first; see also `check_single_answer` and `check_stream`.

        Raises:
            ValidationError: a rule is broken.
            OverloadedError: too many texts wait to be tokenized.
        """
        parameters, extensions, limits = request.parameters, request.extensions, self.limits
        check_sampling(request)
        check_stopping(parameters, limits)
        check_inputs(request, limits)
        text, ids = await self._read(request.inputs, add_special_tokens=request.add_special_tokens)
        if parameters.truncate is not None:
            ids = ids[-parameters.truncate :]
        max_new_tokens = check_length(len(ids), parameters.max_new_tokens, limits)
        check_extensions(extensions, max_new_tokens, self._tokenizer.vocab_size, limits)
        refuse_unsupported(parameters)
        grammar = await self._check_grammar(extensions.grammar or tgi_grammar(parameters))
        return ValidRequest(
            inputs=text,
            input_ids=ids,
            add_special_tokens=request.add_special_tokens,
            truncate=parameters.truncate or limits.max_input_tokens,
            parameters=resolve_sampling(parameters, extensions, grammar=grammar),
            stopping=StoppingParameters(
                max_new_tokens,
                tuple(parameters.stop),
                extensions.ignore_eos_token,
                extensions.min_new_tokens,
                extensions.stop_token_ids,
            ),
            top_n_tokens=parameters.top_n_tokens or 0,
            prefill_logprobs=parameters.decoder_input_details,
            prefill_top_n_tokens=extensions.prefill_top_n_tokens,
        )

    async def tokenize(
        self, text: str, render: Callable[[Iterable[TokenSpan]], T], *, add_special_tokens: bool = True
    ) -> T:
        """What `render` makes of the tokens of a text and their places in it.

        A long text is rendered by a worker too: its answer is many times as long as the text.

        Raises:
            OverloadedError: too many texts wait to be tokenized.
        """

        def work() -> T:
            return render(self._tokenizer.encode_with_spans(text, add_special_tokens=add_special_tokens))

        return work() if len(text) <= INLINE_CHARACTERS else await self._workers.run(work)

    async def _check_grammar(self, written: WrittenGrammar | None) -> Grammar | None:
        if written is None:
            return None
        if self._grammars is None:
            refuse("grammars are disabled (`--disable-grammar-support`)", written.field)
        try:
            return await self._workers.run(partial(self._grammars.check, written.kind, written.source))
        except GrammarError as error:
            refuse(f"`{written.field}` cannot be used: {error}", written.field)

    async def _read(self, inputs: str | Sequence[int], *, add_special_tokens: bool) -> tuple[str, list[int]]:
        """The prompt as text and as token ids, whichever it came as."""
        if not isinstance(inputs, str):
            check_token_ids(inputs, self._tokenizer.vocab_size, "inputs")
            ids = list(inputs)
            return await self._run(partial(self._tokenizer.decode, ids), len(ids)), ids
        work = partial(self._tokenizer.encode, inputs, add_special_tokens=add_special_tokens)
        ids = await self._run(work, len(inputs))
        if not ids:
            refuse("`inputs` cannot be empty: they have no tokens", "inputs")
        return inputs, ids

    async def _run(self, work: Callable[[], T], length: int) -> T:
        return work() if length <= INLINE_CHARACTERS else await self._workers.run(work)


def tgi_grammar(parameters: GenerateParameters) -> WrittenGrammar | None:
    """The grammar among TGI's parameters.

    Raises:
        ValidationError: it is in no form that TGI knows.
    """
    if parameters.grammar is None:
        return None
    try:
        return WrittenGrammar(*read_tgi_grammar(parameters.grammar), "grammar")
    except GrammarError as error:
        refuse(str(error), "grammar")
