"""A closed loop of streaming clients on an OpenAI-compatible /v1/completions route."""

import asyncio
import ipaddress
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from benchmarks.cases import Work
from benchmarks.measurement import Answer, RunRecord
from benchmarks.sse import EventSplitter, StreamFormatError

_TIMEOUT = aiohttp.ClientTimeout(total=600, sock_connect=10)


class RefusedHostError(ValueError):
    """The address is not on this machine: only one's own machine is put under load."""


class RequestError(Exception):
    """A request was not answered as it should have been."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server and how to ask it.

    Attributes:
        url: address without a path, such as `http://127.0.0.1:3000`; a loopback address.
        model: name that the server knows its model by.
        extra: fields beyond OpenAI's that go into each request's body.
    """

    url: str
    model: str
    extra: dict[str, Any] = field(default_factory=lambda: {"ignore_eos": True})

    def __post_init__(self) -> None:
        """Refuse any address that could be someone else's.

        Raises:
            RefusedHostError: the host is not a loopback address.
            ValueError: the address is no http URL.
        """
        parts = urlsplit(self.url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{self.url} is no http address: give one like http://127.0.0.1:3000")
        if not _is_loopback(parts.hostname):
            raise RefusedHostError(
                f"{parts.hostname} is not this machine: only loopback addresses (127.0.0.1, ::1, localhost) "
                "are put under load"
            )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# What is read of a chunk. Other fields are skipped: this client shares the machine with the server.
class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Choice(msgspec.Struct):
    text: str = ""
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = msgspec.field(default_factory=list)
    usage: _Usage | None = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


async def run_load(target: Target, work: Work, on_answer: Callable[[], None]) -> RunRecord:
    """Send every prompt once, so many at a time as the work has streams, and record when the tokens came.

    A request that fails is recorded with its error; the others go on. `on_answer` is called after each.
    """
    left = iter(work.prompts)
    answers: list[Answer] = []
    # No pool limit: a stream must never wait for another one's connection.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=_TIMEOUT) as session:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(work.streams):
                group.create_task(_client(session, target, left, work.output_tokens, answers, on_answer))
        return RunRecord(tuple(answers), time.perf_counter() - started)


async def _client(
    session: aiohttp.ClientSession,
    target: Target,
    prompts: Iterator[str],
    output_tokens: int,
    answers: list[Answer],
    on_answer: Callable[[], None],
) -> None:
    for prompt in prompts:
        answers.append(await _answer(session, target, prompt, output_tokens))
        on_answer()


async def _answer(session: aiohttp.ClientSession, target: Target, prompt: str, output_tokens: int) -> Answer:
    try:
        return await _complete(session, target, prompt, output_tokens)
    except TimeoutError:
        return Answer(error=f"no answer within {_TIMEOUT.total:.0f} s")
    except (aiohttp.ClientError, RequestError, StreamFormatError, msgspec.DecodeError) as error:
        return Answer(error=str(error) or type(error).__name__)


async def _complete(
    session: aiohttp.ClientSession, target: Target, prompt: str, output_tokens: int
) -> Answer:
    """Send one request and read its stream.

    Raises:
        RequestError: it was refused, broke off, or gave other than `output_tokens` tokens.
    """
    body = {
        "model": target.model,
        "prompt": prompt,
        "max_tokens": output_tokens,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **target.extra,
    }
    sent = time.perf_counter()
    arrivals: list[float] = []
    usage: _Usage | None = None
    async with session.post(f"{target.url}/v1/completions", json=body) as response:
        if response.status != 200:
            raise RequestError(f"status {response.status}: {(await response.text())[:200]}")
        events = EventSplitter()
        finished = False
        async for received in response.content.iter_any():
            now = time.perf_counter()
            for data in events.feed(received):
                if data == b"[DONE]":
                    finished = True
                    continue
                chunk = _decode_chunk(data)
                if chunk.error is not None:
                    raise RequestError(str(chunk.error)[:200])
                arrivals.extend(_tokens_at(now, chunk.choices))
                usage = chunk.usage or usage
    if not finished:
        raise RequestError("the stream ended before [DONE]")
    if usage is None:
        raise RequestError("the stream carried no usage")
    if usage.completion_tokens != output_tokens:
        raise RequestError(f"answered {usage.completion_tokens} tokens instead of {output_tokens}")
    return Answer(sent, tuple(arrivals), usage.prompt_tokens, usage.completion_tokens)


def _tokens_at(now: float, choices: Iterable[_Choice]) -> Iterator[float]:
    """Stamp each choice that brings a token; some servers send the finish reason in a chunk of its own."""
    return (now for choice in choices if choice.text or choice.finish_reason is None)
