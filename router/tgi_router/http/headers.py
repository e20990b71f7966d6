"""TGI's `x-*` response headers: what a generation took."""

from collections.abc import Sequence

from tgi_router.http.answers import Answer


def stream_headers(compute_type: str, characters: int) -> dict[str, str]:
    """Headers of a streamed answer.

    Args:
        compute_type: the hardware, in words.
        characters: length of the prompt.
    """
    return {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache",
        "X-Compute-Type": compute_type,
        "X-Compute-Characters": str(characters),
        "X-Accel-Buffering": "no",
    }


def answer_headers(compute_type: str, arrived_at: float, answers: Sequence[Answer]) -> dict[str, str]:
    """Headers of a whole answer.

    Times of several prompts, which ran side by side, are those of the slowest; counts are added up.

    Args:
        compute_type: the hardware, in words.
        arrived_at: when the request came, `time.monotonic()` seconds.
        answers: the answer to each prompt.
    """
    ends = [answer.end for answer in answers]
    total = max(answer.finished_at for answer in answers) - arrived_at
    inference = max(answer.finished_at - answer.end.started_at for answer in answers)
    generated = sum(end.generated_tokens for end in ends)
    return {
        "X-Compute-Type": compute_type,
        "X-Compute-Time": f"{total:.9f}",
        "X-Compute-Characters": str(sum(len(answer.request.inputs) for answer in answers)),
        "X-Total-Time": _whole_milliseconds(total),
        "X-Validation-Time": _whole_milliseconds(max(end.queued_at for end in ends) - arrived_at),
        "X-Queue-Time": _whole_milliseconds(max(end.started_at - end.queued_at for end in ends)),
        "X-Inference-Time": _whole_milliseconds(inference),
        "X-Time-Per-Token": _whole_milliseconds(inference * len(answers) / generated),
        "X-Prompt-Tokens": str(sum(answer.request.input_length for answer in answers)),
        "X-Generated-Tokens": str(generated),
    }


def _whole_milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))
