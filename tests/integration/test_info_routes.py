"""What a server says about itself: /info, /v1/models, /health, /metrics, /tokenize."""

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.metric_names import COUNTERS, GAUGES, HISTOGRAMS
from support.prompts import chat_prompt
from support.server import Server

INFO_KEYS = [
    "model_id",
    "model_sha",
    "model_pipeline_tag",
    "max_concurrent_requests",
    "max_best_of",
    "max_stop_sequences",
    "max_input_tokens",
    "max_total_tokens",
    "validation_workers",
    "max_client_batch_size",
    "router",
    "version",
    "sha",
    "docker_label",
]


def test_info_has_tgis_keys_first_and_in_order(server: Server) -> None:
    info = server.api.get("/info").json()
    assert list(info)[: len(INFO_KEYS)] == INFO_KEYS
    assert info["router"] == "text-generation-router"
    assert info["max_concurrent_requests"] == 128
    assert (info["max_best_of"], info["max_stop_sequences"], info["validation_workers"]) == (2, 4, 2)
    assert info["max_input_tokens"] < info["max_total_tokens"] <= 2048
    assert info["version"]


def test_options_and_their_environment_variables_are_seen_in_info(tight_server: Server) -> None:
    assert tight_server.api.get("/info").json()["max_concurrent_requests"] == 4


@pytest.mark.parametrize("path", ["/health", "/ping", "/"])
def test_a_healthy_server_answers_empty(server: Server, path: str) -> None:
    reply = server.api.get(path)
    assert (reply.status, reply.body) == (200, b"")
    assert server.api.request("HEAD", path, None, {}).status == 200


def test_the_model_is_listed_as_openai_lists_models(server: Server) -> None:
    listed = server.api.get("/v1/models").json()
    assert listed["object"] == "list"
    [model] = listed["data"]
    assert list(model)[:4] == ["id", "object", "created", "owned_by"]
    assert (model["object"], model["id"]) == ("model", server.api.get("/info").json()["model_id"])


def test_every_metric_is_there_under_its_name_and_type(server: Server) -> None:
    server.api.generate("Hello", max_new_tokens=2)
    server.api.post("/generate", {"inputs": "Hello", "parameters": {"temperature": -1}})
    reply = server.api.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    types = {family.name: family.type for family in text_string_to_metric_families(reply.text)}
    for names, kind in ((COUNTERS, "counter"), (GAUGES, "gauge"), (HISTOGRAMS, "histogram")):
        wrong = {name: types.get(name) for name in names if types.get(name) != kind}
        assert not wrong, f"not a {kind}: {wrong}"
    assert types["tgi_request_skipped_tokens"] == "summary"


def test_counters_carry_no_total_suffix(server: Server) -> None:
    samples = {
        line.split("{")[0].split(" ")[0]
        for line in server.api.get("/metrics").text.splitlines()
        if line[0] != "#"
    }
    assert not {name for name in samples if name.endswith(("_total", "_created"))} - {"tgi_kv_blocks_total"}
    assert "tgi_request_count" in samples


def test_one_request_is_counted_once_with_its_tokens_and_times(server: Server) -> None:
    before = server.metrics()
    answer = server.api.generate(chat_prompt("Count from 3 to 9"), max_new_tokens=12)
    after = server.metrics()

    def grown(name: str) -> float:
        return after[name] - before[name]

    tokens = answer["details"]["generated_tokens"]
    assert grown("tgi_request_count") == grown("tgi_request_success") == 1
    assert grown("tgi_request_generated_tokens_sum") == tokens
    assert grown("tgi_request_max_new_tokens_sum") == 12
    assert grown("tgi_request_time_to_first_token_duration_count") == 1
    assert grown("tgi_request_inter_token_latency_duration_count") == tokens - 1
    for name in ("", "_validation", "_queue", "_inference", "_mean_time_per_token"):
        assert grown(f"tgi_request{name}_duration_count") == 1, name
    assert grown("tgi_request_duration_sum") >= grown("tgi_request_inference_duration_sum") > 0
    assert grown('tgi_batch_inference_count{method="prefill"}') == 1
    assert grown('tgi_batch_inference_count{method="decode"}') == tokens - 1


def test_the_gauge_of_all_blocks_is_the_size_of_the_cache(server: Server) -> None:
    metrics = server.metrics()
    assert metrics["tgi_kv_blocks_total"] * 16 >= server.api.get("/info").json()["max_total_tokens"]
    assert metrics["tgi_batch_max_total_tokens"] > 0


@pytest.mark.parametrize("text", ["Hello world", "héllo 🎉 wörld", "", "12 + 7", "日本語 text", "a\nb\t c"])
def test_tokenize_gives_byte_offsets_into_the_text(server: Server, text: str) -> None:
    tokens = server.api.post("/tokenize", {"inputs": text}).json()
    raw = text.encode()
    assert tokens[0]["text"] == ""
    assert (tokens[0]["start"], tokens[0]["stop"]) == (0, 0)
    for token in tokens:
        assert list(token) == ["id", "text", "start", "stop"]
        assert token["text"] == raw[token["start"] : token["stop"]].decode(errors="replace")
    covered = {place for token in tokens for place in range(token["start"], token["stop"])}
    assert {raw[place : place + 1] for place in range(len(raw)) if place not in covered} <= {
        b" ",
        b"\n",
        b"\t",
    }


def test_tokenize_ignores_parameters_and_counts_nothing(server: Server) -> None:
    before = server.metrics()["tgi_request_count"]
    whole = server.api.post("/tokenize", {"inputs": "one two three"}).json()
    cut = server.api.post("/tokenize", {"inputs": "one two three", "parameters": {"truncate": 1}}).json()
    assert cut == whole
    assert server.metrics()["tgi_request_count"] == before


def test_browsers_may_ask_from_anywhere(server: Server) -> None:
    headers = {"origin": "http://example.org", "access-control-request-method": "POST"}
    reply = server.api.request("OPTIONS", "/generate", None, headers)
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "POST" in reply.headers["access-control-allow-methods"]


def test_every_log_line_is_json_when_asked_for(tight_server: Server) -> None:
    lines = tight_server.log.splitlines()
    assert lines
    for line in lines:
        assert isinstance(json.loads(line), dict), line
