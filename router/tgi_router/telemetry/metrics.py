"""Every metric of the router, under TGI's names and with TGI's buckets, and a few of our own."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from prometheus_client import CollectorRegistry

from tgi_router.telemetry.exposition import render
from tgi_router.telemetry.instruments import (
    Counter,
    Gauge,
    Histogram,
    Instrument,
    InstrumentCollector,
    Labelled,
    Summary,
)

PREFIX = "tgi_"
METHODS = ("prefill", "decode")
FAILURES = ("overloaded", "validation", "template", "incomplete", "generation", "dropped")
REFUSALS = ("overloaded", "validation", "template")
CONCAT_REASONS = ("backpressure", "wait_exceeded", "chunking")
LARGEST_BATCH_BUCKET = 1024

InstrumentT = TypeVar("InstrumentT", bound=Instrument)


class Metrics:
    """All metrics, one attribute each, named as the metric without its `tgi_` prefix.

    Built once, after warmup, and passed down. Write to it from the event loop's thread only.

    Args:
        max_input_tokens: longest prompt; sets the buckets of the prompts' lengths.
        max_total_tokens: longest prompt and answer; sets the buckets of the answers' lengths.
    """

    def __init__(self, *, max_input_tokens: int, max_total_tokens: int) -> None:
        self.registry = CollectorRegistry()
        duration = partial(Histogram, duration_buckets())
        length = partial(Histogram, hundredths_of(max_total_tokens))
        self._add_request_metrics(duration, length, partial(Histogram, hundredths_of(max_input_tokens)))
        self._add_batch_metrics(duration)
        self._add_memory_metrics()

    def exposition(self) -> bytes:
        """The body of GET /metrics."""
        return render(self.registry.collect())

    def _add_request_metrics(
        self,
        duration: Callable[[], Histogram],
        length: Callable[[], Histogram],
        input_length: Callable[[], Histogram],
    ) -> None:
        add = self._add
        self.request_count = add("request_count", "Generations asked for.", Counter())
        self.request_success = add("request_success", "Generations answered in full.", Counter())
        self.request_failure = add(
            "request_failure", "Generations that failed, by cause.", Labelled("err", FAILURES, Counter)
        )
        self.request_refused = add(
            "request_refused",
            "Requests turned away at the door, by reason.",
            Labelled("reason", REFUSALS, Counter),
        )
        self.request_duration = add(
            "request_duration", "Seconds from a request's arrival to its last token.", duration()
        )
        self.request_validation_duration = add(
            "request_validation_duration", "Seconds from a request's arrival to its queueing.", duration()
        )
        self.request_queue_duration = add("request_queue_duration", "Seconds in the queue.", duration())
        self.request_inference_duration = add(
            "request_inference_duration",
            "Seconds from a request's first batch to its last token.",
            duration(),
        )
        self.request_mean_time_per_token_duration = add(
            "request_mean_time_per_token_duration", "Seconds of inference per generated token.", duration()
        )
        self.request_time_to_first_token_duration = add(
            "request_time_to_first_token_duration",
            "Seconds from a request's arrival to its first token.",
            duration(),
        )
        self.request_inter_token_latency_duration = add(
            "request_inter_token_latency_duration", "Seconds between two tokens of a request.", duration()
        )
        self.request_generated_tokens = add(
            "request_generated_tokens", "Tokens generated for a request.", length()
        )
        self.request_max_new_tokens = add(
            "request_max_new_tokens", "Most new tokens that a request allowed.", length()
        )
        self.request_input_length = add("request_input_length", "Tokens in a prompt.", input_length())
        self.request_skipped_tokens = add(
            "request_skipped_tokens", "Tokens gained by speculation in one step of a request.", Summary()
        )

    def _add_batch_metrics(self, duration: Callable[[], Histogram]) -> None:
        add = self._add

        def by_method(make: Callable[[], InstrumentT]) -> Labelled[InstrumentT]:
            return Labelled("method", METHODS, make)

        self.queue_size = add("queue_size", "Requests waiting for their first batch.", Gauge())
        self.batch_next_size = add(
            "batch_next_size",
            "Requests in a new batch.",
            Histogram([float(size) for size in range(1, LARGEST_BATCH_BUCKET + 1)]),
        )
        self.batch_current_size = add("batch_current_size", "Requests in the running batch.", Gauge())
        self.batch_current_max_tokens = add(
            "batch_current_max_tokens", "Tokens that the running batch can grow to.", Gauge()
        )
        self.batch_max_total_tokens = add(
            "batch_max_total_tokens", "Tokens that all running requests together may grow to.", Gauge()
        )
        self.batch_concat = add(
            "batch_concat",
            "New batches joined to the running one, by reason.",
            Labelled("reason", CONCAT_REASONS, Counter),
        )
        self.batch_inference_count = add("batch_inference_count", "Steps sent.", by_method(Counter))
        self.batch_inference_success = add("batch_inference_success", "Steps answered.", by_method(Counter))
        self.batch_inference_failure = add("batch_inference_failure", "Steps failed.", by_method(Counter))
        self.batch_inference_duration = add(
            "batch_inference_duration", "Seconds from sending a step to its answer.", by_method(duration)
        )
        self.batch_forward_duration = add(
            "batch_forward_duration", "Seconds of a step in the model.", by_method(duration)
        )
        self.batch_decode_duration = add(
            "batch_decode_duration", "Seconds of a step after the model: tokens to text.", by_method(duration)
        )
        self.batch_concat_duration = add(
            "batch_concat_duration", "Seconds of a step spent joining batches.", by_method(duration)
        )
        self.batch_filter_duration = add(
            "batch_filter_duration", "Seconds spent dropping requests from a batch.", by_method(duration)
        )

    def _add_memory_metrics(self) -> None:
        add = self._add
        self.kv_blocks_total = add("kv_blocks_total", "KV blocks that requests may use.", Gauge())
        self.kv_blocks_used = add("kv_blocks_used", "KV blocks reserved by live requests.", Gauge())
        self.kv_blocks_cached = add(
            "kv_blocks_cached", "KV blocks kept for their contents only, free for the taking.", Gauge()
        )
        self.prefix_cache_query_tokens = add(
            "prefix_cache_query_tokens", "Prompt tokens looked up in the prefix cache.", Counter()
        )
        self.prefix_cache_hit_tokens = add(
            "prefix_cache_hit_tokens",
            "Prompt tokens found in the prefix cache and not computed again.",
            Counter(),
        )

    def _add(self, name: str, description: str, instrument: InstrumentT) -> InstrumentT:
        self.registry.register(InstrumentCollector(PREFIX + name, description, instrument))
        return instrument


def duration_buckets() -> Sequence[float]:
    """Bounds in seconds: 0.0001 x 1.5^k for k = 1..35, multiplied up step by step as TGI does."""
    bounds = []
    bound = 0.0001
    for _ in range(35):
        bound *= 1.5
        bounds.append(bound)
    return bounds


def hundredths_of(limit: int) -> Sequence[float]:
    """A hundred even bounds up to a limit."""
    return [limit / 100 * part for part in range(1, 101)]
