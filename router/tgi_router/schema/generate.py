"""TGI's native routes: /generate, /generate_stream and POST /. Field order is the order on the wire.

Names, types and defaults are those of TGI's published schema (router/src/lib.rs).
"""

from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType, field

from tgi_router.schema.numbers import F32, I32, U32, UnsignedSeed, check_seed


class GenerateParameters(Struct, kw_only=True):
    """How to generate. `None` means the default of section "parameters" in docs/http-api.md."""

    best_of: U32 | None = None
    temperature: F32 | None = None
    repetition_penalty: F32 | None = None
    frequency_penalty: F32 | None = None
    top_k: I32 | None = None
    top_p: F32 | None = None
    typical_p: F32 | None = None
    do_sample: bool = False
    max_new_tokens: U32 | None = None
    return_full_text: bool | None = None
    stop: list[str] = []
    truncate: U32 | None = None
    watermark: bool = False
    details: bool = False
    decoder_input_details: bool = False
    seed: UnsignedSeed | None = None
    top_n_tokens: U32 | None = None
    grammar: Any = None
    adapter_id: str | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)


def parameters_of_a_body_without_any() -> GenerateParameters:
    """TGI samples when `parameters` is left out, though not when it is `{}`."""
    return GenerateParameters(do_sample=True)


class GenerateRequest(Struct, kw_only=True):
    """Body of /generate, /generate_stream and /tokenize."""

    inputs: str
    parameters: GenerateParameters = field(default_factory=parameters_of_a_body_without_any)


class CompatGenerateRequest(GenerateRequest, kw_only=True):
    """Body of POST /, where `stream` chooses between the other two."""

    stream: bool = False


class Token(Struct):
    """A generated token; a log-probability that is not a number is sent as null."""

    id: int
    text: str
    logprob: float
    special: bool


class PrefillToken(Struct):
    """A token of the prompt."""

    id: int
    text: str
    logprob: float


class BestOfSequence(Struct):
    """A generation that was not the best of its request."""

    generated_text: str
    finish_reason: str
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[Token]
    top_tokens: list[list[Token]] | UnsetType = UNSET


class Details(Struct):
    """What a generation did, token by token."""

    finish_reason: str
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[Token]
    best_of_sequences: list[BestOfSequence] | UnsetType = UNSET
    top_tokens: list[list[Token]] | UnsetType = UNSET


class GenerateResponse(Struct):
    """Answer of /generate."""

    generated_text: str
    details: Details | UnsetType = UNSET


class StreamDetails(Struct):
    """The sum of a streamed generation."""

    finish_reason: str
    generated_tokens: int
    seed: int | None
    input_length: int


class StreamResponse(Struct):
    """One event of /generate_stream."""

    index: int
    token: Token
    top_tokens: list[Token] | UnsetType = UNSET
    generated_text: str | None = None
    details: StreamDetails | None = None


class SimpleToken(Struct):
    """A token of /tokenize with the bytes of the text it stands for."""

    id: int
    text: str
    start: int
    stop: int


class ChatTokenizeResponse(Struct):
    """Answer of /chat_tokenize: a list of `SimpleToken`, written already, and the prompt that they are of."""

    tokenize_response: Raw
    templated_text: str
