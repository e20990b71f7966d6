"""GET /info. The first fourteen fields are TGI's, in its order; the rest are ours."""

from msgspec import Struct


class Info(Struct, kw_only=True):
    """What is served, and within which limits."""

    model_id: str
    model_sha: str | None = None
    model_pipeline_tag: str | None = None
    max_concurrent_requests: int
    max_best_of: int
    max_stop_sequences: int
    max_input_tokens: int
    max_total_tokens: int
    validation_workers: int
    max_client_batch_size: int
    router: str = "text-generation-router"
    version: str
    sha: str | None = None
    docker_label: str | None = None
    max_top_n_tokens: int
    model_dtype: str
    model_device_type: str
    max_batch_total_tokens: int
    max_batch_prefill_tokens: int
