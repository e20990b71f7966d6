"""Chat templates render as transformers renders them, and cannot do harm."""

from collections.abc import Sequence
from typing import Any

import pytest

from tgi_demo import MODEL_PATH
from tgi_router.text.conversation import Conversation, TemplateError
from tgi_router.text.templates import ChatTemplate, continue_final_message

HI = [{"role": "user", "content": "hi"}]

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

# The shapes that chat templates on the Hub have, each with the language features it leans on.
TEMPLATES = {
    "chatml": (
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
        "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        "{% endif %}"
    ),
    "headers_and_a_default_system_message": """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim }}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "alternating_roles_with_a_namespace": """\
{%- set ns = namespace(last=-1, system='') %}
{%- for message in messages %}
  {%- if message.role == 'system' %}{% set ns.system = message.content %}{% endif %}
  {%- if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{{ bos_token }}
{%- for message in messages if message.role != 'system' %}
    {%- if message.role == 'user' %}
        {%- if loop.last and ns.system %}
[INST] {{ ns.system }}

{{ message.content }}[/INST]
        {%- else %}
[INST] {{ message.content }}[/INST]
        {%- endif %}
    {%- elif message.role == 'assistant' %}
 {{ message.content|trim }}{{ eos_token }}
    {%- endif %}
{%- endfor %}
""",
    "renamed_roles_and_plain_blocks": """\
{{ bos_token }}
{% for message in messages %}
    {% if (message['role'] == 'assistant') %}
        {% set role = 'model' %}
    {% else %}
        {% set role = message['role'] %}
    {% endif %}
    <start_of_turn>{{ role }}
    {{ message['content'] | trim }}<end_of_turn>
{% endfor %}
{% if add_generation_prompt %}<start_of_turn>model
{% endif %}
""",
    "generation_marks_and_loop_controls": """\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{%- continue -%}{%- endif -%}
{%- if message.role == 'assistant' -%}
A: {% generation %}{% set seen = true %}{{ message.content }}{{ eos_token }}{% endgeneration %}
{{ seen is defined }}
{%- else -%}
U: {{ message.content }}
{% endif %}
{%- if loop.index > 6 -%}{%- break -%}{%- endif -%}
{%- endfor -%}
""",
    "json_and_filters": """\
{{ messages | tojson }}|{{ messages | tojson(indent=2) }}|{{ messages[0] | tojson(sort_keys=true) }}
{{ messages | map(attribute='role') | join(',') }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{% macro shout(text, mark='!') %}{{ text | upper }}{{ mark }}{% endmacro %}
{{ shout(messages[-1].content) }} {{ messages[::-1][0].role }} {{ '%s' | format(messages | length) }}
{{ messages[-1].content.split() | first }} {{ messages[-1].content.startswith('W') }} {{ dict(a=1) }}
{{ range(3) | list }} {{ none }} {{ true }} {{ 1.0 }} {{ tools }} {{ documents is none }} {{ undefined_name }}
{{ dict.fromkeys(['x', 'y'], 1) }} {{ messages[0].get('name', 'nobody') }} {{ '<&>' }} {{ 'é' | tojson }}
""",
}
CONVERSATIONS: dict[str, Sequence[dict[str, Any]]] = {
    "one_question": [{"role": "user", "content": "What is 12 + 7?"}],
    "system_first": [
        {"role": "system", "content": "  Be brief.\n"},
        {"role": "user", "content": "Why <b>&amp;</b> 'that' \"one\"? é 🎉"},
    ],
    "several_turns": [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": " Hi there. "},
        {"role": "user", "content": "Who\nare you?", "name": "Ann"},
    ],
    "empty_content": [{"role": "user", "content": ""}, {"role": "assistant", "content": "x"}],
}


def transformers_renders(
    template: str, messages: Sequence[dict[str, Any]], tokens: dict[str, str], *, add_generation_prompt: bool
) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    [text], _ = render_jinja_template(
        [messages], chat_template=template, add_generation_prompt=add_generation_prompt, **tokens
    )
    return str(text)


@pytest.mark.parametrize("prompted", [True, False], ids=["prompted", "plain"])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_rendering_equals_transformers(name: str, conversation: str, prompted: bool) -> None:
    template, messages = TEMPLATES[name], CONVERSATIONS[conversation]
    expected = transformers_renders(template, messages, TOKENS, add_generation_prompt=prompted)
    assert (
        ChatTemplate(template, TOKENS).render(
            Conversation(messages, add_generation_prompt=prompted, continue_final_message=False)
        )
        == expected
    )


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_the_demo_models_template_equals_transformers(conversation: str) -> None:
    template, messages = (MODEL_PATH / "chat_template.jinja").read_text(), CONVERSATIONS[conversation]
    expected = transformers_renders(template, messages, TOKENS, add_generation_prompt=True)
    assert (
        ChatTemplate(template, TOKENS).render(Conversation(messages, add_generation_prompt=True)) == expected
    )


def test_the_time_of_day_is_at_hand() -> None:
    assert len(ChatTemplate("{{ strftime_now('%Y') }}", {}).render(Conversation(HI))) == 4


def test_a_template_can_refuse_messages() -> None:
    template = ChatTemplate("{{ raise_exception('Roles must alternate') }}", {})
    with pytest.raises(TemplateError, match=r"^Roles must alternate$"):
        template.render(Conversation(HI))


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].no.such }}",
        "{{ 1 // 0 }}",
        "{{ 'x' + 1 }}",
        "{% for i in range(999999999) %}{% endfor %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% set n = namespace(_a=1) %}",
        "{% set n = namespace() %}{% set n.__class__ = 1 %}",
        "{{ dict.__base__ }}{{ dict.__subclasses__() }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)
def test_whatever_a_template_trips_over_is_an_error_of_the_request(source: str) -> None:
    with pytest.raises(TemplateError):
        ChatTemplate(source, {}).render(Conversation([{"role": "user", "content": "x"}]))


def test_the_length_of_a_prompt_is_bounded() -> None:
    template = ChatTemplate("{% for i in range(100) %}{{ messages[0].content }}{% endfor %}", {}, 1000)
    assert len(template.render(Conversation([{"role": "user", "content": "0123456789"}]))) == 1000
    with pytest.raises(TemplateError, match="longer than 1000"):
        template.render(Conversation([{"role": "user", "content": "01234567890"}]))


def test_a_model_without_a_template_refuses_every_chat() -> None:
    with pytest.raises(TemplateError, match="template not found"):
        ChatTemplate(None, {}).render(Conversation([{"role": "user", "content": "x"}]))


def test_a_template_with_a_syntax_error_refuses_every_chat_and_says_why() -> None:
    template = ChatTemplate("{% for %}", {})
    assert template.fault is not None
    with pytest.raises(TemplateError, match="template is invalid"):
        template.render(Conversation([{"role": "user", "content": "x"}]))


def test_the_models_own_last_message_is_continued() -> None:
    template = ChatTemplate(TEMPLATES["chatml"], TOKENS)
    messages = [{"role": "user", "content": "Count"}, {"role": "assistant", "content": "1, 2,"}]
    assert template.render(Conversation(messages)).endswith("<|im_start|>assistant\n1, 2,")
    assert template.render(Conversation(messages[:1])).endswith("<|im_start|>assistant\n")


def test_a_message_that_the_template_changed_is_not_continued() -> None:
    assert continue_final_message("a CHANGED b", "changed") == "a CHANGED b"
    assert continue_final_message("a kept  b", "kept ") == "a kept"
