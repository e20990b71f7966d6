import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import grpc.aio
import pytest

from tgi_launcher import readiness
from tgi_launcher.readiness import NotReadyError, router_answers, shard_answers
from tgi_proto import generate_pb2, generate_pb2_grpc

SECONDS = 20.0


class Shard(generate_pb2_grpc.TextGenerationServiceServicer):
    async def Info(self, request: generate_pb2.InfoRequest, context: object) -> generate_pb2.InfoResponse:  # noqa: N802
        return generate_pb2.InfoResponse()


@pytest.fixture
def path() -> Iterator[Path]:
    with TemporaryDirectory(prefix="tgi-") as folder:
        yield Path(folder) / "s-0"


@asynccontextmanager
async def serving(path: Path, *, servicer: Shard | None) -> AsyncIterator[None]:
    server = grpc.aio.server()
    if servicer is not None:
        generate_pb2_grpc.add_TextGenerationServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


async def test_a_shard_is_ready_once_it_answers(path: Path) -> None:
    waiting = asyncio.create_task(shard_answers(path))
    async with serving(path, servicer=Shard()), asyncio.timeout(SECONDS):
        await waiting


async def test_a_socket_alone_is_not_ready(path: Path) -> None:
    server = await asyncio.start_unix_server(lambda reader, writer: None, path)
    async with server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await shard_answers(path)


async def test_another_service_on_the_socket_is_told(path: Path) -> None:
    async with serving(path, servicer=None), asyncio.timeout(SECONDS):
        with pytest.raises(NotReadyError, match=r"the shard at .*s-0 answers"):
            await shard_answers(path)


@asynccontextmanager
async def answering(*statuses: str) -> AsyncIterator[int]:
    """A router that answers its health checks with these, and then goes on with the last."""
    left = list(statuses)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readline()).startswith(b"GET /health HTTP/")
        status = left.pop(0) if len(left) > 1 else left[0]
        writer.write(status.encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_the_router_is_ready_once_it_is_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_POLL_SECONDS", 0.001)
    statuses = ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "garbage", "", "HTTP/1.1 200 OK\r\n\r\n")
    async with answering(*statuses) as port, asyncio.timeout(SECONDS):
        await router_answers("127.0.0.1", port)


async def test_a_router_that_is_not_healthy_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_POLL_SECONDS", 0.001)
    async with answering("HTTP/1.1 503 Service Unavailable\r\n\r\n") as port:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await router_answers("127.0.0.1", port)
