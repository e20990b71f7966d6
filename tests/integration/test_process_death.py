"""When one process is killed, streams end with an error, the others stop, and nothing is left."""

import contextlib
import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from support.api import EventStream
from support.prompts import LONG_COUNT, chat_prompt
from support.server import Launch, Server
from support.waiting import eventually

# The bound is 5 s; finding the launcher's end takes a moment on top of it on a busy machine.
SECONDS_TO_EXIT = 6.0
CHAT = {"messages": [{"role": "user", "content": LONG_COUNT}], "max_tokens": 1500, "stream": True}
COMPLETION = {"prompt": "1 2 3", "max_tokens": 1500, "temperature": 0, "stream": True, "ignore_eos": True}


def generate(tokens: int) -> dict[str, Any]:
    return {"inputs": chat_prompt(LONG_COUNT), "parameters": {"max_new_tokens": tokens}}


def first_event(stream: EventStream) -> tuple[EventStream, Iterator[Any]]:
    assert stream.status == 200, stream.read()
    events = iter(stream)
    next(events)
    return stream, events


def events_until_the_end(events: Iterator[Any]) -> list[Any]:
    """What still comes; a connection that breaks ends it too."""
    found = []
    with contextlib.suppress(http.client.HTTPException, ConnectionError):
        for event in events:
            found.append(event)  # noqa: PERF402 - what came before the break is kept
    return found


def one_line_names(log: str, *words: str) -> bool:
    return any(all(word in line.lower() for word in words) for line in log.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2])
def test_a_killed_shard_ends_streams_with_an_error_and_everything_else(
    start_launcher: Launch, shards: int
) -> None:
    server = start_launcher("--num-shard", str(shards))
    server.wait_until_ready()
    streams = [
        server.api.stream("/generate_stream", generate(1500)),
        server.api.stream("/v1/chat/completions", CHAT),
        server.api.stream("/v1/completions", COMPLETION),
    ]
    opened = [first_event(stream) for stream in streams]
    victim = server.shards[-1]
    victim.kill()
    exit_code = server.wait_for_exit(SECONDS_TO_EXIT)

    native, chat, completion = [events_until_the_end(events) for _, events in opened]
    for stream, _ in opened:
        stream.close()
    assert exit_code not in (0, None)
    assert native, "the open stream ended without an error event"
    assert native[-1]["error_type"] in {"generation", "incomplete_generation_stream"}, native[-1]
    assert native[-1]["error"]
    assert not streams[0].done
    for events in (chat, completion):
        assert events, "the open stream ended without an error event"
        assert events[-1]["error"]["message"], events[-1]
    server.assert_nothing_left()
    assert one_line_names(server.log, "shard", "sigkill") or one_line_names(
        server.log, "shard", "signal 9"
    ), f"no line names the shard and how it ended:\n{server.log}"
    assert "Traceback" not in server.log, server.log


@pytest.mark.slow
def test_a_killed_shard_fails_requests_that_are_not_streamed_too(start_launcher: Launch) -> None:
    server = start_launcher()
    server.wait_until_ready()
    connections = [
        server.api.start("/generate", generate(1500)),
        server.api.start("/v1/completions", COMPLETION | {"stream": False}),
    ]
    eventually(lambda: server.metrics()["tgi_batch_current_size"] == 2, "both requests run")
    server.shards[0].kill()
    replies = []
    for connection in connections:
        response = connection.getresponse()
        replies.append((response.status, json.loads(response.read())))
        connection.close()
    assert server.wait_for_exit(SECONDS_TO_EXIT) != 0
    for status, body in replies:
        assert status in {424, 500, 503}, (status, body)
        assert body["error"]
        assert body["error_type"] in {"generation", "incomplete_generation"}
    server.assert_nothing_left()


@pytest.mark.slow
def test_a_killed_router_takes_the_shards_with_it(start_launcher: Launch) -> None:
    server = start_launcher()
    server.wait_until_ready()
    stream, events = first_event(server.api.stream("/generate_stream", generate(1500)))
    server.router.kill()
    exit_code = server.wait_for_exit(SECONDS_TO_EXIT)
    events_until_the_end(events)
    stream.close()
    assert exit_code not in (0, None)
    server.assert_nothing_left()
    assert one_line_names(server.log, "router", "sigkill") or one_line_names(
        server.log, "router", "signal 9"
    ), f"no line names the router and how it ended:\n{server.log}"
    assert "Traceback" not in server.log, server.log


@pytest.mark.slow
def test_a_killed_launcher_leaves_no_orphan_and_the_next_start_succeeds(start_launcher: Launch) -> None:
    """SIGKILL gives no time to clean up: the children notice, and the next start sweeps stale sockets."""
    server = start_launcher("--num-shard", "2")
    server.wait_until_ready()
    stream, _ = first_event(server.api.stream("/generate_stream", generate(1500)))
    server.process.send_signal(signal.SIGKILL)
    server.wait_for_exit(SECONDS_TO_EXIT)
    eventually(lambda: not server.left_processes(), "no orphan", within=10)
    stream.close()

    # What a killed server leaves in the worst case: socket files that nobody listens on.
    for rank in range(2):
        leave_stale_socket(server, rank)
    again = start_launcher("--num-shard", "2", uds_path=server.uds_path, port=server.port)
    again.wait_until_ready()
    assert again.api.generate(chat_prompt("What is 12 + 7?"), max_new_tokens=8)["generated_text"]
    again.stop()


def leave_stale_socket(server: Server, rank: int) -> None:
    path = server.uds_path.with_name(f"{server.uds_path.name}-{rank}")
    if not path.exists():
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_requests_finish(start_launcher: Launch, end: signal.Signals) -> None:
    server = start_launcher()
    server.wait_until_ready()
    stream, events = first_event(server.api.stream("/generate_stream", generate(400)))
    plain = server.api.start("/generate", generate(300))
    eventually(lambda: server.metrics()["tgi_batch_current_size"] == 2, "both requests run")
    os.kill(server.process.pid, end)

    rest = list(events)
    response = plain.getresponse()
    assert response.status == 200
    assert json.loads(response.read())["generated_text"]
    plain.close()
    stream.close()
    assert rest[-1]["generated_text"], rest[-1]
    assert server.wait_for_exit(30) == 0, server.log
    server.assert_nothing_left()
    assert "Traceback" not in server.log, server.log


@pytest.mark.slow
def test_no_request_is_taken_once_the_server_stops(start_launcher: Launch) -> None:
    server = start_launcher()
    server.wait_until_ready()
    stream, events = first_event(server.api.stream("/v1/completions", COMPLETION | {"max_tokens": 600}))
    server.process.send_signal(signal.SIGTERM)

    def refused() -> bool:
        try:
            return server.api.get("/health").status == 503
        except OSError:
            return True

    eventually(refused, "new connections are refused while the old stream runs")
    assert next(events)["choices"], "the running stream goes on"
    list(events)
    assert stream.done
    stream.close()
    assert server.wait_for_exit(30) == 0, server.log
    server.assert_nothing_left()


@pytest.mark.slow
def test_requests_that_outlast_the_graceful_timeout_are_cut(start_launcher: Launch) -> None:
    server = start_launcher("--graceful-termination-timeout", "1")
    server.wait_until_ready()
    streams = [first_event(server.api.stream("/v1/completions", COMPLETION)) for _ in range(8)]
    # A stopped shard never finishes anything, however fast the machine is.
    shard = psutil.Process(server.shards[0].pid)
    shard.suspend()
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_exit(15)
    for stream, _ in streams:
        stream.close()
    server.assert_nothing_left()


@pytest.mark.slow
def test_a_second_signal_ends_everything_at_once(start_launcher: Launch) -> None:
    server = start_launcher()
    server.wait_until_ready()
    stream, _ = first_event(server.api.stream("/v1/completions", COMPLETION))
    server.shards[0].suspend()
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: "SIGTERM" in server.log, "the first signal is noticed")
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_exit(SECONDS_TO_EXIT)
    stream.close()
    server.assert_nothing_left()
    assert "Traceback" not in server.log, server.log


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["serving", "model loaded"])
def test_a_signal_during_the_start_ends_it_soon(start_launcher: Launch, phase: str) -> None:
    server = start_launcher()
    eventually(lambda: phase in server.log, f"the log says {phase!r}", within=60)
    server.processes()
    server.process.send_signal(signal.SIGTERM)
    assert server.wait_for_exit(15) == 0, server.log
    server.assert_nothing_left()
    assert "Traceback" not in server.log, server.log


@pytest.mark.slow
def test_a_shard_killed_during_the_start_is_named(start_launcher: Launch) -> None:
    server = start_launcher("--num-shard", "2")
    eventually(lambda: len(server.shards) == 2, "the shards are started", within=30)
    server.shards[1].kill()
    assert server.wait_for_exit(SECONDS_TO_EXIT) not in (0, None)
    server.assert_nothing_left()
    assert one_line_names(server.log, "shard 1", "sigkill"), server.log
    assert "Traceback" not in server.log, server.log
