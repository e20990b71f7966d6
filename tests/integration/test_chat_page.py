"""The pages in a real browser: what someone who tries the server sees."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from support.browser import Page, open_tab
from support.http_bench import HttpBench, events, start_bench, token
from tgi_router.generation import EndEvent, FinishReason, GenerationEvent, TokenEvent

ENTER = ("Enter", 13)


@pytest.fixture
async def bench() -> AsyncIterator[HttpBench]:
    """A server whose batcher does what the test says."""
    bench = await start_bench()
    yield bench
    await bench.client.close()


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A tab that must have nothing to complain about."""
    async with open_tab() as page:
        yield page


async def open_chat(page: Page, bench: HttpBench) -> None:
    """The chat page, once it knows what is served."""
    await page.open(str(bench.client.make_url("/chat")))
    await page.wait_for("document.getElementById('model').textContent === 'org/model'")


async def say(page: Page, text: str) -> None:
    """Send a message with Enter."""
    await page.fill("#text", text)
    await page.press(*ENTER)


async def submitted(bench: HttpBench, page: Page, count: int) -> None:
    """Wait until so many requests have come."""
    await page.wait_for("!document.getElementById('stop').hidden")
    async with asyncio.timeout(10):
        while len(bench.batcher.entries) < count:  # noqa: ASYNC110 - the batcher tells nobody
            await asyncio.sleep(0)


def push(bench: HttpBench, *generated: GenerationEvent) -> None:
    """Let the running request go on by these events."""
    for event in generated:
        bench.batcher.entries[-1].stream.push(event)


def all_said(bench: HttpBench, *texts: str) -> None:
    """Let the running request end with these texts, each with three alternatives."""
    push(bench, *events(*texts, top=3, reason=FinishReason.LENGTH))
    bench.batcher.entries[-1].stream.end()


async def test_a_message_is_answered_token_by_token(page: Page, bench: HttpBench) -> None:
    await open_chat(page, bench)
    await say(page, "hello <b>you</b>")
    await submitted(bench, page, 1)
    push(bench, TokenEvent(token(10, "Good"), []))
    await page.wait_for("document.querySelector('.assistant .text').textContent === 'Good'")
    assert await page.evaluate("document.getElementById('log').ariaBusy") == "true"
    push(bench, TokenEvent(token(11, " <i>day</i>"), []))
    await page.wait_for("document.querySelector('.assistant .text').textContent === 'Good <i>day</i>'")
    push(bench, EndEvent(token(2, "</s>", special=True), [], "", FinishReason.EOS_TOKEN, 3, None, 0.0, 0.0))
    bench.batcher.entries[-1].stream.end()
    await page.wait_for("document.getElementById('status').textContent === 'Answered.'")
    assert await page.text(".user .text") == "hello <b>you</b>"
    assert await page.evaluate("document.querySelectorAll('#log b, #log i').length") == 0
    assert page.complaints == []


async def test_a_token_tells_how_likely_it_was_and_what_else_was(page: Page, bench: HttpBench) -> None:
    await open_chat(page, bench)
    await say(page, "hello")
    await submitted(bench, page, 1)
    all_said(bench, "one", " two")
    await page.wait_for("document.getElementById('status').textContent === 'Answered.'")
    await page.hover(".token:nth-child(2)")
    await page.wait_for("!document.getElementById('tip').hidden")
    tip = await page.text("#tip")
    assert "␣two 60.7 %" in tip
    assert "t0\t36.8 %" in tip
    await page.evaluate("document.querySelector('.assistant .text').focus()")
    await page.press("ArrowLeft", 37)
    await page.wait_for("document.getElementById('tip').innerText.includes('one')")


async def test_stopping_ends_the_request_and_keeps_what_was_said(page: Page, bench: HttpBench) -> None:
    await open_chat(page, bench)
    await say(page, "hello")
    await submitted(bench, page, 1)
    push(bench, TokenEvent(token(10, "Well"), []))
    await page.wait_for("document.querySelector('.assistant .text').textContent === 'Well'")
    await page.click("#stop")
    await page.wait_for("document.getElementById('status').textContent === 'Stopped.'")
    async with asyncio.timeout(10):
        while not bench.batcher.cancelled:  # noqa: ASYNC110 - the batcher tells nobody
            await asyncio.sleep(0)
    await say(page, "go on")
    await submitted(bench, page, 2)
    assert bench.batcher.request.inputs == "<s>[user]hello[assistant]Well[user]go on[assistant]"


async def test_an_answer_can_be_had_again(page: Page, bench: HttpBench) -> None:
    await open_chat(page, bench)
    await say(page, "hello")
    await submitted(bench, page, 1)
    all_said(bench, "one")
    await page.wait_for("!document.getElementById('again').disabled")
    await page.click("#again")
    await submitted(bench, page, 2)
    all_said(bench, "two")
    await page.wait_for("document.querySelector('.assistant .text')?.textContent === 'two'")
    assert await page.evaluate("document.querySelectorAll('.message').length") == 2
    assert bench.batcher.entries[0].request.inputs == bench.batcher.entries[1].request.inputs


async def test_a_new_chat_forgets_the_old_one_though_it_was_being_answered(
    page: Page, bench: HttpBench
) -> None:
    await open_chat(page, bench)
    await say(page, "hello")
    await submitted(bench, page, 1)
    push(bench, TokenEvent(token(10, "Well"), []))
    await page.wait_for("document.querySelector('.assistant .text').textContent === 'Well'")
    await page.click("#clear")
    await page.wait_for("document.getElementById('stop').hidden")
    assert await page.evaluate("document.getElementById('log').childElementCount") == 0
    await say(page, "new")
    await submitted(bench, page, 2)
    assert bench.batcher.request.inputs == "<s>[user]new[assistant]"


async def test_settings_are_sent_and_what_the_server_refuses_is_shown(page: Page, bench: HttpBench) -> None:
    await open_chat(page, bench)
    await page.fill("[name=temperature]", "-1")
    await page.fill("[name=system]", "be brief")
    await say(page, "hello")
    await page.wait_for("document.querySelector('[role=alert]') !== null")
    assert "422: Input validation error: `temperature`" in await page.text("[role=alert]")
    assert await page.evaluate("document.querySelectorAll('.assistant').length") == 0
    await page.fill("[name=temperature]", "0.5")
    await page.click("#again")
    await submitted(bench, page, 1)
    assert bench.batcher.request.inputs == "<s>[system]be brief[user]hello[assistant]"
    assert bench.batcher.request.parameters.temperature == 0.5


async def test_a_request_is_copied_as_a_command_without_the_key(page: Page, bench: HttpBench) -> None:
    await open_chat(page, bench)
    origin = str(bench.client.make_url("")).rstrip("/")
    await page.call(
        "Browser.grantPermissions",
        origin=origin,
        permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
    )
    await page.fill("[name=key]", "secret-key")
    await page.fill("[name=seed]", "7")
    await page.fill("#text", "it's")
    await page.click("#curl")
    await page.wait_for("document.getElementById('status').textContent === 'Copied.'")
    command = await page.evaluate("navigator.clipboard.readText()")
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", f'curl() {{ printf "%s\\0" "$@"; }}\n{command}', stdout=asyncio.subprocess.PIPE
    )
    words = (await shell.communicate())[0].decode().split("\0")
    assert words[1] == f"{origin}/v1/chat/completions"
    assert "secret-key" not in command
    assert json.loads(words[words.index("-d") + 1]) == {
        "model": "tgi",
        "messages": [{"role": "user", "content": "it's"}],
        "stream": True,
        "seed": 7,
        "logprobs": True,
        "top_logprobs": 5,
    }


async def test_the_chat_page_fits_a_phone(page: Page, bench: HttpBench) -> None:
    await page.resize(360, 640)
    await open_chat(page, bench)
    assert await page.evaluate("document.documentElement.scrollWidth <= 360")
    assert await page.evaluate("document.getElementById('send').getBoundingClientRect().bottom < 640")


async def test_the_documentation_shows_every_route(page: Page, bench: HttpBench) -> None:
    await page.open(str(bench.client.make_url("/docs")))
    await page.wait_for("document.querySelectorAll('.opblock').length >= 12")
    assert "/v1/chat/completions" in await page.text("#document")
    assert page.complaints == []
