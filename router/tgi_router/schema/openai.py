"""What the chat and the completions route of the OpenAI API have in common."""

from typing import Any

from msgspec import Struct

from tgi_router.schema.numbers import F32, I32, U32, AnySeed, check_seed


class StreamOptions(Struct, kw_only=True):
    """`include_usage`: send the token counts in a last chunk of their own."""

    include_usage: bool | None = None


class SamplingFields(Struct, kw_only=True):
    """Fields of both requests that say how to generate.

    Those from `top_k` on are not OpenAI's: clients of other servers send them, under these names.
    """

    model: str | None = None
    max_tokens: U32 | None = None
    temperature: F32 | None = None
    top_p: F32 | None = None
    frequency_penalty: F32 | None = None
    presence_penalty: F32 | None = None
    logit_bias: dict[str, F32] | None = None
    n: U32 | None = None
    seed: AnySeed | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: dict[str, Any] | None = None
    user: str | None = None
    top_k: I32 | None = None
    min_p: F32 | None = None
    typical_p: F32 | None = None
    repetition_penalty: F32 | None = None
    ignore_eos: bool | None = None
    min_tokens: U32 | None = None
    stop_token_ids: list[U32] | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)


class PromptTokensDetails(Struct):
    """`cached_tokens`: tokens of the prompt that need not be computed, since an earlier request had them."""

    cached_tokens: int


class CompletionTokensDetails(Struct):
    """`reasoning_tokens`: generated tokens that were spent on reasoning before the answer."""

    reasoning_tokens: int


class Usage(Struct):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class Model(Struct):
    """An entry of /v1/models."""

    id: str
    object: str
    created: int
    owned_by: str


class ModelList(Struct):
    """Answer of /v1/models."""

    object: str
    data: list[Model]
