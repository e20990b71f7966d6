"""From the body of a chat request to a prompt, what is generated from it, and how the answer is read."""

from dataclasses import dataclass

from tgi_router.http.chat_messages import conversation
from tgi_router.http.chat_plan import ChatPlan
from tgi_router.http.chat_tools import ToolUse, read_tools
from tgi_router.http.grammars import behind_reasoning, requested_grammar, with_calls
from tgi_router.http.openai import extensions, generation_parameters
from tgi_router.http.services import Services
from tgi_router.schema.chat import ChatRequest
from tgi_router.text.answer_text import Everything
from tgi_router.text.dialect import Dialect
from tgi_router.text.reasoning import ReasoningMarkers, ReasoningSplitter
from tgi_router.text.tools.parser import ToolCallParser
from tgi_router.validation.refusal import refuse
from tgi_router.validation.request import UncheckedRequest, WrittenGrammar


@dataclass(frozen=True, slots=True)
class ChatWork:
    """What a chat request comes to: a generation, and how its answers are read."""

    request: UncheckedRequest
    plan: ChatPlan


def plan_chat(services: Services, body: ChatRequest, choices: int) -> ChatWork:
    """Render the prompt and read what a body asks for. It takes milliseconds: not for the event loop.

    Raises:
        ValidationError: a field asks for what cannot be.
        TemplateError: the model's template refuses the messages.
    """
    limits, dialect = services.validator.limits, services.dialect
    check_fields(body)
    tools = read_tools(body, limits)
    prompt = services.template.render(conversation(body, tools, services))
    reasoning = reasoning_of(dialect, prompt)
    parameters = generation_parameters(body, max_tokens(body))
    parameters.top_n_tokens = body.top_logprobs
    told_apart = reasoning if body.separate_reasoning is not False else None
    wishes = extensions(body, grammar=answer_grammar(body, tools, reasoning, dialect, prompt))
    return ChatWork(
        # The template writes the special tokens.
        UncheckedRequest(prompt, parameters, wishes, add_special_tokens=False),
        chat_plan(body, choices, tools, told_apart, dialect, prompt),
    )


def reasoning_of(dialect: Dialect, prompt: str) -> ReasoningMarkers | None:
    """What stands around the reasoning in the answer to a prompt; None where the prompt has it closed."""
    markers = dialect.reasoning
    return None if markers is None or prompt.rstrip().endswith(markers.end) else markers


def answer_grammar(
    body: ChatRequest,
    tools: ToolUse | None,
    reasoning: ReasoningMarkers | None,
    dialect: Dialect,
    prompt: str,
) -> WrittenGrammar | None:
    """What the answer must match: what the request asks for, calls of its tools, reasoning before either.

    Raises:
        ValidationError: these cannot be had together.
    """
    grammar = requested_grammar(body)
    if tools is not None:
        grammar = with_calls(grammar, tools, dialect)
    if grammar is None or reasoning is None:
        return grammar
    return behind_reasoning(grammar, reasoning, dialect, starts_inside=reasoning.opened_by(prompt))


def chat_plan(
    body: ChatRequest,
    choices: int,
    tools: ToolUse | None,
    reasoning: ReasoningMarkers | None,
    dialect: Dialect,
    prompt: str,
) -> ChatPlan:
    """How the answers are read and shown."""
    markers: frozenset[str] = frozenset()
    splitter = parser = None
    if reasoning is not None:
        markers |= {reasoning.begin, reasoning.end}
        inside, kept = reasoning.opened_by(prompt), reasoning

        def splitter() -> ReasoningSplitter:
            return ReasoningSplitter(kept, starts_inside=inside)

    if tools is not None:
        markers |= dialect.tool_markers
        names = [tool.name for tool in tools.callable]

        def parser() -> ToolCallParser:
            return ToolCallParser(dialect.tool_format, names)

    return ChatPlan(
        choices=choices,
        with_logprobs=bool(body.logprobs),
        shows_stops=bool(body.include_stop_str_in_output),
        shown_specials=Everything() if body.skip_special_tokens is False else markers,
        splitter=splitter,
        parser=parser,
    )


def check_fields(body: ChatRequest) -> None:
    """Refuse fields that contradict each other.

    Raises:
        ValidationError: naming one of them.
    """
    both = (body.max_tokens, body.max_completion_tokens)
    if None not in both and body.max_tokens != body.max_completion_tokens:
        refuse("`max_tokens` and `max_completion_tokens` must not differ", "max_completion_tokens")
    if body.top_logprobs and not body.logprobs:
        refuse("`top_logprobs` needs `logprobs` to be true", "top_logprobs")


def max_tokens(body: ChatRequest) -> int | None:
    """The number of tokens to generate at most, under the newer of its names or the older."""
    return body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
