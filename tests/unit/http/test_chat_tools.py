"""Tools, reasoning and grammars of /v1/chat/completions."""

import json
from typing import Any

import pytest

from support.byte_tokenizer import BOS, BOS_ID
from support.http_bench import events, says, token
from tgi_common.grammar import GrammarKind
from tgi_router.generation import EndEvent, FinishReason, TokenEvent
from tgi_router.text.dialect import Dialect
from tgi_router.text.reasoning import QWEN3
from tgi_router.text.tools.formats import HERMES

PATH = "/v1/chat/completions"
TEMPLATE = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}{% for message in messages %}"
    "[{{ message.role }}]{{ message.content }}{% for call in message.tool_calls or [] %}"
    "<call {{ call.id }}>{{ call.function.name }}:{{ call.function.arguments.city }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% if thinking %}<think>\n{% endif %}{% endif %}"
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "tools": [WEATHER, CLOCK]}
ONE_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
TWO_CALLS = f'{ONE_CALL}\n<tool_call>\n{{"name": "clock", "arguments": {{}}}}\n</tool_call>'
THINKS = Dialect(HERMES, QWEN3, {BOS: BOS_ID})


async def asked(bench: Any, body: dict[str, Any]) -> dict[str, Any]:
    reply = await bench.post(PATH, body)
    assert reply.status == 200, await reply.text()
    choice: dict[str, Any] = (await reply.json())["choices"][0]
    return choice


async def streamed(bench: Any, body: dict[str, Any]) -> list[dict[str, Any]]:
    reply = await bench.post(PATH, body | {"stream": True})
    assert reply.status == 200, await reply.text()
    pieces = (await reply.text()).split("\n\n")[:-2]
    return [json.loads(piece.removeprefix("data: "))["choices"][0] for piece in pieces]


def joined(choices: list[dict[str, Any]]) -> dict[str, Any]:
    """A streamed answer, put together as clients do."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "calls": []}
    for choice in choices:
        delta = choice["delta"]
        message["content"] += delta.get("content") or ""
        message["reasoning_content"] += delta.get("reasoning_content", "")
        assert delta.get("reasoning") == delta.get("reasoning_content")
        for call in delta.get("tool_calls", []):
            if "id" in call:
                assert call["index"] == len(message["calls"])
                assert call["type"] == "function"
                message["calls"].append([call["id"], call["function"]["name"], ""])
            message["calls"][call["index"]][2] += call["function"]["arguments"]
    return message


def in_pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_calls_are_read_from_the_models_own_notation(start: Any, size: int) -> None:
    bench = await start(says(*in_pieces("Let me see.\n" + TWO_CALLS, size)), template=TEMPLATE)
    choice = await asked(bench, ASK)
    assert choice["finish_reason"] == "tool_calls"
    message = choice["message"]
    assert message["content"] == "Let me see."
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]]
    assert calls == [("weather", '{"city": "Paris"}'), ("clock", "{}")]
    assert len({call["id"] for call in message["tool_calls"]}) == 2
    stream = await streamed(bench, ASK)
    assert stream[0]["delta"] == {"role": "assistant", "content": ""}
    assert stream[-1]["finish_reason"] == "tool_calls"
    whole = joined(stream)
    assert whole["content"] == "Let me see."
    assert [(name, arguments) for _, name, arguments in whole["calls"]] == calls


async def test_an_answer_that_only_calls_has_no_content(start: Any) -> None:
    bench = await start(says(ONE_CALL), template=TEMPLATE)
    message = (await asked(bench, ASK))["message"]
    assert message["content"] is None
    assert "reasoning" not in message


async def test_a_call_that_was_cut_off_is_a_length(start: Any) -> None:
    bench = await start(says(ONE_CALL[:50], reason=FinishReason.LENGTH), template=TEMPLATE)
    assert (await asked(bench, ASK))["finish_reason"] == "length"
    assert (await streamed(bench, ASK))[-1]["finish_reason"] == "length"


async def test_the_template_is_told_of_the_tools(start: Any) -> None:
    bench = await start(says("no"), template=TEMPLATE)
    choice = await asked(bench, ASK)
    assert choice["message"] == {"role": "assistant", "content": "no", "refusal": None}
    assert choice["finish_reason"] == "stop"
    prompt = bench.batcher.request.inputs
    assert '"name": "weather"' in prompt
    assert '"parameters": {"type": "object", "properties": {}}' in prompt
    assert bench.batcher.request.parameters.grammar is None


async def test_a_template_without_tools_gets_them_in_the_system_message(start: Any) -> None:
    bench = await start(says("no"))
    await asked(bench, ASK)
    assert "[system]You can call functions." in bench.batcher.request.inputs
    await asked(bench, ASK | {"tool_prompt": "Use these:"})
    assert '[system]Use these:\n[{"name": "weather"' in bench.batcher.request.inputs


async def test_no_choice_of_a_tool_leaves_them_out_and_reads_no_calls(start: Any) -> None:
    bench = await start(says(ONE_CALL), template=TEMPLATE)
    choice = await asked(bench, ASK | {"tool_choice": "none"})
    assert choice["message"]["content"] == ONE_CALL
    assert "<tools>" not in bench.batcher.request.inputs


@pytest.mark.parametrize(
    "choice", ["weather", {"type": "function", "function": {"name": "weather"}}, "required"], ids=str
)
async def test_a_required_call_is_held_to_by_a_grammar(start: Any, choice: Any) -> None:
    bench = await start(says(ONE_CALL), template=TEMPLATE)
    answer = await asked(bench, ASK | {"tool_choice": choice})
    assert answer["finish_reason"] == "tool_calls"
    grammar = bench.batcher.request.parameters.grammar
    assert grammar.kind is GrammarKind.LARK
    assert ("clock" in grammar.source) == (choice == "required")
    assert '"name": "clock"' in bench.batcher.request.inputs


async def test_history_with_calls_is_rendered_as_templates_want_it(start: Any) -> None:
    bench = await start(says("fine"), template=TEMPLATE)
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "sunny"}]},
    ]
    await asked(bench, {"messages": messages})
    assert bench.batcher.request.inputs == "[user]hi[assistant]<call c1>weather:Rome[tool]sunny[assistant]"


@pytest.mark.parametrize("size", [1, 4, 1000])
async def test_reasoning_is_told_apart_and_counted(start: Any, size: int) -> None:
    bench = await start(
        says(*in_pieces(f"<think>\nhm\n</think>\n\n{ONE_CALL}", size)), template=TEMPLATE, dialect=THINKS
    )
    reply = await (await bench.post(PATH, ASK)).json()
    message = reply["choices"][0]["message"]
    assert message["reasoning_content"] == message["reasoning"] == "hm"
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["weather"]
    details = reply["usage"]["completion_tokens_details"]
    assert (details["reasoning_tokens"] > 0) == (size < 1000)
    whole = joined(await streamed(bench, ASK))
    assert (whole["reasoning_content"], whole["content"], len(whole["calls"])) == ("hm", "", 1)


async def test_reasoning_that_the_prompt_has_begun_is_told_apart_too(start: Any) -> None:
    bench = await start(says("hm", "</think>", "yes"), template=TEMPLATE, dialect=THINKS)
    body = {"messages": ASK["messages"], "chat_template_kwargs": {"thinking": True}}
    message = (await asked(bench, body))["message"]
    assert (message["reasoning"], message["content"]) == ("hm", "yes")
    raw = (await asked(bench, body | {"separate_reasoning": False}))["message"]
    assert raw["content"] == "hm</think>yes"


async def test_markers_that_are_special_tokens_are_read_and_not_shown(start: Any) -> None:
    def script(_: Any) -> list[Any]:
        texts = [("<think>", True), ("hm", False), ("</think>", True), ("yes", False), (BOS, True)]
        tokens = [token(number, text, special=special) for number, (text, special) in enumerate(texts)]
        end = EndEvent(token(9, "</s>", special=True), [], "hmyes", FinishReason.EOS_TOKEN, 6, None, 0.0, 0.0)
        return [*map(TokenEvent, tokens), end]

    bench = await start(script, template=TEMPLATE, dialect=THINKS)
    message = (await asked(bench, {"messages": ASK["messages"]}))["message"]
    assert (message["reasoning"], message["content"]) == ("hm", "yes")


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"response_format": {"type": "json_object"}}, GrammarKind.JSON),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            GrammarKind.JSON,
        ),
        ({"response_format": {"type": "json", "value": SCHEMA}}, GrammarKind.JSON),
        ({"response_format": {"type": "regex", "value": "a+"}}, GrammarKind.REGEX),
        ({"guided_json": SCHEMA}, GrammarKind.JSON),
        ({"guided_json": json.dumps(SCHEMA)}, GrammarKind.JSON),
        ({"guided_regex": "[ab]+"}, GrammarKind.REGEX),
        ({"guided_choice": ["yes", "no"]}, GrammarKind.LARK),
        ({"guided_grammar": 'root ::= "a" | "b"'}, GrammarKind.LARK),
    ],
    ids=str,
)
async def test_grammars_are_taken_in_every_form(
    start: Any, fields: dict[str, Any], kind: GrammarKind
) -> None:
    bench = await start(says("x"))
    await asked(bench, {"messages": ASK["messages"]} | fields)
    assert bench.batcher.request.parameters.grammar.kind is kind


async def test_a_grammar_begins_behind_the_reasoning(start: Any) -> None:
    bench = await start(says("x"), dialect=THINKS)
    await asked(bench, {"messages": ASK["messages"], "guided_json": SCHEMA})
    grammar = bench.batcher.request.parameters.grammar
    assert grammar.kind is GrammarKind.LARK
    assert "</think>" in grammar.source


async def test_a_schema_and_tools_may_be_had_together_unless_a_call_is_required(start: Any) -> None:
    bench = await start(says(ONE_CALL), template=TEMPLATE)
    assert (await asked(bench, ASK | {"guided_json": SCHEMA}))["finish_reason"] == "tool_calls"
    assert "weather" in bench.batcher.request.parameters.grammar.source
    reply = await bench.post(PATH, ASK | {"guided_json": SCHEMA, "tool_choice": "required"})
    assert reply.status == 422
    assert (await reply.json())["error"]["param"] == "guided_json"


async def test_several_choices_each_have_their_own_text(start: Any) -> None:
    bench = await start(lambda request: events(str(request.parameters.seed)))
    body = {"messages": ASK["messages"], "n": 3, "seed": 5}
    reply = await (await bench.post(PATH, body)).json()
    assert [choice["message"]["content"] for choice in reply["choices"]] == ["5", "6", "7"]
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
    assert reply["usage"]["completion_tokens"] == 6
    texts = ["", "", ""]
    for choice in await streamed(bench, body):
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == ["5", "6", "7"]
