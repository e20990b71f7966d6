"""Each answer carries the id of its request."""

from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from support.http_bench import says
from tgi_router.http.request_id import HEADER


@pytest.mark.parametrize("given", ["abc-123", "x" * 128, "a b/c"])
async def test_a_clients_own_id_is_sent_back(start: Any, given: str) -> None:
    bench = await start(says("a"))
    for path, body in (
        ("/generate", {"inputs": "hi"}),
        ("/generate_stream", {"inputs": "hi"}),
        ("/generate", {}),
        ("/no/such", {}),
    ):
        reply = await bench.post(path, body, headers={HEADER: given})
        assert reply.headers.getall(HEADER) == [given]


@pytest.mark.parametrize("given", ["", "x" * 129, "é", "a\tb"])
async def test_an_id_that_cannot_be_used_is_replaced(start: Any, given: str) -> None:
    bench = await start(says("a"))
    reply = await bench.client.get("/health", headers={HEADER: given})
    assert reply.headers[HEADER] not in ("", given)


async def test_requests_without_one_get_different_ones(start: Any) -> None:
    bench = await start()
    seen = {(await bench.client.get("/health")).headers[HEADER] for _ in range(3)}
    assert len(seen) == 3


async def test_log_lines_of_a_request_carry_its_id(start: Any) -> None:
    bench = await start()
    bench.batcher.refusal = RuntimeError("secret detail")
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await bench.post("/generate", {"inputs": "hi"}, headers={HEADER: "abc"})
        await bench.post("/generate", {"inputs": "hi"}, headers={HEADER: "def"})
    assert [line["request_id"] for line in lines] == ["abc", "def"]
