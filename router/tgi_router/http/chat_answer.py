"""A chat answer in one piece."""

from collections.abc import Sequence

from msgspec import UNSET

from tgi_router.http.answers import Answer
from tgi_router.http.chat_logprobs import logprobs
from tgi_router.http.chat_plan import ChatPlan
from tgi_router.http.chat_reader import AnswerPiece
from tgi_router.http.openai import Stamp, TokenCounts
from tgi_router.schema.chat import AnswerMessage, CalledFunction, ChatCompletion, Choice, ToolCall
from tgi_router.text.pieces import ArgumentsDelta, CallStart, ContentDelta, ReasoningDelta


def chat_completion(stamp: Stamp, plan: ChatPlan, answers: Sequence[Answer]) -> ChatCompletion:
    """Finished generations as the choices of a chat completion."""
    counts = TokenCounts()
    choices: list[Choice] = []
    for index, answer in enumerate(answers):
        reader = plan.reader(answer.request)
        parts = [part for token in answer.tokens[:-1] for part in reader.push(token)]
        parts += reader.finish(answer.end)
        tokens = zip(answer.tokens, answer.top_tokens, strict=True)
        choices.append(
            Choice(
                index=index,
                message=message(parts),
                logprobs=logprobs(tokens) if plan.with_logprobs else None,
                finish_reason=plan.finish_reason(answer.end, called=reader.called),
            )
        )
        counts.add(answer.request, answer.end, index, reader.reasoning_tokens)
    return ChatCompletion(
        id=stamp.id,
        object="chat.completion",
        created=stamp.created,
        model=stamp.model,
        system_fingerprint=stamp.system_fingerprint,
        choices=choices,
        usage=counts.usage(),
    )


def message(parts: Sequence[AnswerPiece]) -> AnswerMessage:
    """The model's turn, put together. Its content is null where it calls tools and says nothing else."""
    content = "".join(part.text for part in parts if isinstance(part, ContentDelta))
    reasoning = "".join(part.text for part in parts if isinstance(part, ReasoningDelta))
    arguments: dict[int, str] = {}
    for part in parts:
        if isinstance(part, ArgumentsDelta):
            arguments[part.index] = arguments.get(part.index, "") + part.text
    calls = [
        ToolCall(part.id, "function", CalledFunction(part.name, arguments.get(part.index, "")))
        for part in parts
        if isinstance(part, CallStart)
    ]
    return AnswerMessage(
        role="assistant",
        content=content if content or not calls else None,
        reasoning_content=reasoning or UNSET,
        reasoning=reasoning or UNSET,
        tool_calls=calls or UNSET,
    )
