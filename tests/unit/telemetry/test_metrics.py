"""The metrics: names, types and buckets as TGI's dashboards know them, in text that a scraper can read."""

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from support.metric_names import COUNTERS, GAUGES, HISTOGRAMS
from tgi_router.telemetry.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(max_input_tokens=1000, max_total_tokens=2048)


def scrape(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(metrics.exposition().decode())}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    # The parser spells the samples of counters as OpenMetrics does, whatever the text said.
    names = {name, name + "_total"} if name in COUNTERS else {name}
    samples = [sample for family in scrape(metrics).values() for sample in family.samples]
    [found] = [sample.value for sample in samples if sample.name in names and sample.labels == labels]
    return found


def test_every_metric_is_there_from_the_start_with_its_type(metrics: Metrics) -> None:
    types = {name: family.type for name, family in scrape(metrics).items()}

    assert types == {
        **dict.fromkeys(COUNTERS, "counter"),
        **dict.fromkeys(GAUGES, "gauge"),
        **dict.fromkeys(HISTOGRAMS, "histogram"),
        "tgi_request_skipped_tokens": "summary",
    }


def test_every_family_has_samples_a_description_and_lines_under_its_own_name(metrics: Metrics) -> None:
    text = metrics.exposition().decode()

    for name in COUNTERS:
        assert f"# TYPE {name} counter\n" in text
        assert f"# HELP {name} " in text
        assert f"\n{name}{{" in text or f"\n{name} 0\n" in text
    assert "_total{" not in text
    assert "_total 0\n" not in text.replace("tgi_kv_blocks_total 0\n", "")
    assert all(family.samples and family.documentation for family in scrape(metrics).values())


def test_label_values_that_are_known_have_series_from_the_start(metrics: Metrics) -> None:
    families = scrape(metrics)

    failures = {sample.labels["err"] for sample in families["tgi_request_failure"].samples}
    methods = {sample.labels["method"] for sample in families["tgi_batch_inference_count"].samples}
    reasons = {sample.labels["reason"] for sample in families["tgi_batch_concat"].samples}
    assert failures == {"overloaded", "validation", "template", "incomplete", "generation", "dropped"}
    assert methods == {"prefill", "decode"}
    assert reasons == {"backpressure", "wait_exceeded", "chunking"}


def bounds(metrics: Metrics, name: str) -> list[str]:
    return [s.labels["le"] for s in scrape(metrics)[name].samples if s.name.endswith("_bucket")]


def test_durations_have_35_buckets_growing_by_half(metrics: Metrics) -> None:
    les = bounds(metrics, "tgi_request_duration")

    assert len(les) == 36
    assert float(les[0]) == pytest.approx(0.00015)
    assert float(les[34]) == pytest.approx(145.61, abs=0.01)
    assert les[35] == "+Inf"


def test_lengths_have_buckets_at_every_hundredth_of_their_limit(metrics: Metrics) -> None:
    prompts = [float(bound) for bound in bounds(metrics, "tgi_request_input_length")[:-1]]
    answers = [float(bound) for bound in bounds(metrics, "tgi_request_generated_tokens")[:-1]]

    assert prompts == [10.0 * k for k in range(1, 101)]
    assert answers == pytest.approx([20.48 * k for k in range(1, 101)])


def test_batch_sizes_have_a_bucket_each_up_to_1024(metrics: Metrics) -> None:
    assert bounds(metrics, "tgi_batch_next_size") == [*map(str, range(1, 1025)), "+Inf"]


def test_buckets_count_what_is_at_or_below_their_bound(metrics: Metrics) -> None:
    for tokens in (10, 11, 5000):
        metrics.request_input_length.observe(tokens)

    assert value(metrics, "tgi_request_input_length_bucket", le="10") == 1
    assert value(metrics, "tgi_request_input_length_bucket", le="20") == 2
    assert value(metrics, "tgi_request_input_length_bucket", le="1000") == 2
    assert value(metrics, "tgi_request_input_length_bucket", le="+Inf") == 3
    assert value(metrics, "tgi_request_input_length_count") == 3
    assert value(metrics, "tgi_request_input_length_sum") == 5021


def test_a_labelled_metric_counts_each_label_alone(metrics: Metrics) -> None:
    metrics.batch_inference_count.labels("decode").inc(3)
    metrics.batch_forward_duration.labels("prefill").observe(0.5)

    assert value(metrics, "tgi_batch_inference_count", method="decode") == 3
    assert value(metrics, "tgi_batch_inference_count", method="prefill") == 0
    assert value(metrics, "tgi_batch_forward_duration_count", method="prefill") == 1
    assert value(metrics, "tgi_batch_forward_duration_count", method="decode") == 0


def test_a_new_label_value_makes_a_new_series(metrics: Metrics) -> None:
    metrics.request_refused.labels('odd "reason"\\').inc()

    assert value(metrics, "tgi_request_refused", reason='odd "reason"\\') == 1


def test_two_sets_of_metrics_share_nothing(metrics: Metrics) -> None:
    other = Metrics(max_input_tokens=1, max_total_tokens=2)
    other.request_count.inc()

    assert value(metrics, "tgi_request_count") == 0
    assert value(other, "tgi_request_count") == 1
