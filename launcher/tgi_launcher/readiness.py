"""When a process counts as ready: it answers."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio

from tgi_proto.generate_pb2 import InfoRequest
from tgi_proto.generate_pb2_grpc import TextGenerationServiceStub

_POLL_SECONDS = 0.05
_CALL_SECONDS = 5.0
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
    # A socket file is never reached through a proxy.
    ("grpc.enable_http_proxy", 0),
)
_NOT_YET = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


class NotReadyError(Exception):
    """A process answers, but not as one of this server does."""


async def shard_answers(socket: Path) -> None:
    """Return once the shard behind a socket answers `Info`.

    Raises:
        NotReadyError: it answers with an error.
    """
    async with grpc.aio.insecure_channel(f"unix:{socket}", options=_CHANNEL_OPTIONS) as channel:
        # The stub of grpc's generator has no types.
        info: Callable[..., Awaitable[Any]] = TextGenerationServiceStub(channel).Info
        while True:
            try:
                await info(InfoRequest(), timeout=_CALL_SECONDS, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _NOT_YET:
                    raise NotReadyError(f"the shard at {socket} answers: {error.details()}") from None
            else:
                return


async def router_answers(address: str, port: int) -> None:
    """Return once GET /health answers 200."""
    while True:
        if await _is_healthy(address, port):
            return
        await asyncio.sleep(_POLL_SECONDS)


async def _is_healthy(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_CALL_SECONDS):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, ValueError):
        return False
    return status.split()[1:2] == [b"200"]
