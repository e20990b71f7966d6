"""Lets a model think freely before it answers by a grammar."""

from tgi_router.text.lark import ANY_TEXT, SpecialTokens, marker, text_up_to
from tgi_router.text.reasoning import ReasoningMarkers


def reasoning_grammar(
    answer: str, markers: ReasoningMarkers, *, starts_inside: bool, special_tokens: SpecialTokens
) -> str:
    """A grammar for an answer that may begin with a section of reasoning.

    Args:
        answer: the grammar of what follows, in Lark.
        markers: what stands around the reasoning.
        starts_inside: the prompt has opened the section already.
        special_tokens: those among the markers.
    """
    opened = "" if starts_inside else f"{marker(markers.begin, special_tokens)} "
    return "\n".join(
        [
            f"start: {'reasoning' if starts_inside else 'reasoning?'} answer",
            rf"reasoning: {opened}thoughts /\n{{1,2}}/?",
            text_up_to("thoughts", markers.end, special_tokens),
            ANY_TEXT,
            "answer: %lark {",
            answer,
            "}",
            "",
        ]
    )
