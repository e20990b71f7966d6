"""/docs and /chat: everything they need comes from this server, and nothing else of the disk does."""

from typing import Any

import pytest

from support.http_bench import says


@pytest.mark.parametrize("path", ["/docs", "/chat"])
async def test_a_page_runs_only_what_this_server_sends(start: Any, path: str) -> None:
    bench = await start(says("x"))
    reply = await bench.client.get(path)
    assert (reply.status, reply.content_type) == (200, "text/html")
    assert "default-src 'none'; script-src 'self'" in reply.headers["Content-Security-Policy"]
    text = await reply.text()
    assert "http://" not in text
    assert "https://" not in text


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/docs/swagger-ui-bundle.js", "text/javascript"),
        ("/docs/swagger-ui.css", "text/css"),
        ("/chat/main.js", "text/javascript"),
        ("/chat/chat.css", "text/css"),
    ],
)
async def test_its_files_are_typed_and_asked_for_anew_only_when_they_change(
    start: Any, path: str, content_type: str
) -> None:
    bench = await start(says("x"))
    reply = await bench.client.get(path)
    assert (reply.status, reply.content_type) == (200, content_type)
    again = await bench.client.get(path, headers={"If-None-Match": reply.headers["ETag"]})
    assert again.status == 304


@pytest.mark.parametrize("path", ["/chat/..%2F..%2Fapp.py", "/chat/index.html", "/docs/LICENSE"])
async def test_other_files_are_not_there(start: Any, path: str) -> None:
    bench = await start(says("x"))
    assert (await bench.client.get(path)).status == 404


async def test_tgis_address_of_the_documentation_leads_to_it(start: Any) -> None:
    bench = await start(says("x"))
    reply = await bench.client.get("/docs/", allow_redirects=False)
    assert (reply.status, reply.headers["Location"]) == (308, "../docs")


async def test_the_pages_need_no_api_key(start: Any) -> None:
    bench = await start(says("x"), api_keys=("secret",))
    for path in ("/docs", "/chat", "/api-doc/openapi.json", "/chat/main.js"):
        assert (await bench.client.get(path)).status == 200
    assert (await bench.client.get("/info")).status == 401
