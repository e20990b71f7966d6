"""Translates what shards generate into events."""

from collections.abc import Sequence

from tgi_proto import generate_pb2 as pb
from tgi_router.batching.entry import Entry
from tgi_router.generation import EndEvent, FinishReason, PrefillEvent, Token, TokenEvent

FINISH_REASONS = {
    pb.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    pb.FINISH_REASON_EOS_TOKEN: FinishReason.EOS_TOKEN,
    pb.FINISH_REASON_STOP_SEQUENCE: FinishReason.STOP_SEQUENCE,
}


def read_prefill(generation: pb.Generation) -> PrefillEvent:
    """The prompt's tokens. TGI's shards do not say which of them are special: none is then."""
    tokens = generation.prefill_tokens
    special = tokens.is_special or [False] * len(tokens.ids)
    rows = zip(tokens.ids, tokens.texts, tokens.logprobs, special, strict=True)
    top_tokens = [_read_tokens(top) for top in generation.prefill_top_tokens]
    return PrefillEvent([Token(*row) for row in rows], top_tokens)


def read_token_events(generation: pb.Generation) -> list[TokenEvent]:
    """One event for each token of a step.

    Raises:
        ValueError, LookupError: tokens lack their texts or log-probabilities.
    """
    tokens = _read_tokens(generation.tokens)
    if not generation.top_tokens:
        return list(map(TokenEvent, tokens))
    # There may be more lists than tokens, where a stop cut the tokens.
    top_tokens = [_read_tokens(top) for top in generation.top_tokens]
    return [TokenEvent(token, top) for token, top in zip(tokens, top_tokens, strict=False)]


def read_end(events: Sequence[TokenEvent], generated: pb.GeneratedText, entry: Entry) -> EndEvent:
    """The last event, from the last token and the sum of the generation.

    Raises:
        ValueError: there is no last token.
        LookupError: nobody knows such a reason to end.
    """
    if not events:
        raise ValueError("a generation ended without its last token")
    assert entry.started_at is not None
    return EndEvent(
        token=events[-1].token,
        top_tokens=events[-1].top_tokens,
        generated_text=generated.text,
        finish_reason=FINISH_REASONS[generated.finish_reason],
        generated_tokens=generated.generated_tokens,
        seed=generated.seed if generated.HasField("seed") else None,
        queued_at=entry.queued_at,
        started_at=entry.started_at,
        cached_tokens=0 if entry.allocation is None else entry.allocation.prefix_length,
    )


def _read_tokens(tokens: pb.Tokens) -> list[Token]:
    ids, texts, logprobs, special = tokens.ids, tokens.texts, tokens.logprobs, tokens.is_special
    if len(ids) == 1:
        # Nearly every message; the general way takes three times as long.
        return [Token(ids[0], texts[0], logprobs[0], special[0])]
    return [Token(*row) for row in zip(ids, texts, logprobs, special, strict=True)]
