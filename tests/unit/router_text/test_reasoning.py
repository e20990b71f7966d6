"""Reasoning is told from the answer, in whatever pieces it comes."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgi_router.text.pieces import ContentDelta, ReasoningDelta
from tgi_router.text.reasoning import (
    DEEPSEEK_R1,
    MISTRAL_THINK,
    QWEN3,
    ReasoningMarkers,
    ReasoningSplitter,
    UnknownReasoningError,
    choose_reasoning,
)


def split(parts: Iterable[str], *, starts_inside: bool, markers: ReasoningMarkers = QWEN3) -> tuple[str, str]:
    splitter = ReasoningSplitter(markers, starts_inside=starts_inside)
    pieces = [piece for part in parts for piece in splitter.push(part)] + splitter.finish()
    assert all(piece.text for piece in pieces)
    reasoning = "".join(piece.text for piece in pieces if isinstance(piece, ReasoningDelta))
    return reasoning, "".join(piece.text for piece in pieces if isinstance(piece, ContentDelta))


OUTSIDE = [
    ("<think>\nhm\n</think>\n\nyes", ("hm", "yes")),
    ("\n<think>hm</think>yes", ("hm", "yes")),
    ("<think>\n\n</think>\n\nyes\n", ("", "yes\n")),
    ("<think>a\n\nb</think> yes", ("a\n\nb", " yes")),
    ("yes", ("", "yes")),
    ("  yes <think>no</think>", ("", "  yes <think>no</think>")),
    ("yes</think>", ("", "yes</think>")),
    ("<think>hm</think>yes<think>no</think>", ("hm", "yes<think>no</think>")),
    ("<think>hm", ("hm", "")),
    ("<think>hm\n</thi", ("hm\n</thi", "")),
    ("<think><think>hm</think>", ("<think>hm", "")),
    ("<thi", ("", "<thi")),
    ("<this>", ("", "<this>")),
    (" \n", ("", " \n")),
    ("", ("", "")),
]
INSIDE = [
    ("hm\n</think>\n\nyes", ("hm", "yes")),
    ("\nhm</think>yes", ("hm", "yes")),
    ("</think>yes", ("", "yes")),
    ("<think>\nhm</think>yes", ("hm", "yes")),
    ("<think><think>hm</think>yes", ("<think>hm", "yes")),
    ("a <think> b </think> c", ("a <think> b ", " c")),
    ("hm", ("hm", "")),
    ("<", ("<", "")),
    ("", ("", "")),
]
answers = pytest.mark.parametrize(
    ("starts_inside", "text", "said"),
    [(False, *case) for case in OUTSIDE] + [(True, *case) for case in INSIDE],
)


@answers
def test_reasoning_and_answer_are_told_apart_wherever_they_are_cut(
    starts_inside: bool, text: str, said: tuple[str, str]
) -> None:
    for place in range(len(text) + 1):
        assert split([text[:place], text[place:]], starts_inside=starts_inside) == said, place
    assert split(text, starts_inside=starts_inside) == said


def test_other_markers_work_alike() -> None:
    text = "[THINK]\nhm\n[/THINK]\nyes"
    assert split(text, starts_inside=False, markers=MISTRAL_THINK) == ("hm", "yes")


@settings(max_examples=300)
@given(
    parts=st.lists(
        st.sampled_from(["<think>", "</think>", "<", "</", "th", "ink>", "\n", " ", "x", "\n" * 80]),
        max_size=10,
    ),
    starts_inside=st.booleans(),
)
def test_anything_at_all_reads_the_same_however_it_is_cut(parts: list[str], starts_inside: bool) -> None:
    whole = split(["".join(parts)], starts_inside=starts_inside)
    assert split(parts, starts_inside=starts_inside) == whole
    assert split("".join(parts), starts_inside=starts_inside) == whole


def test_what_cannot_be_a_marker_passes_at_once() -> None:
    splitter = ReasoningSplitter(QWEN3, starts_inside=True)
    assert [splitter.push(part) for part in ("hm", "\n", "<", "x")] == [
        [ReasoningDelta("hm")],
        [],
        [],
        [ReasoningDelta("\n<x")],
    ]


def test_a_splitter_tells_whether_the_section_is_open() -> None:
    splitter = ReasoningSplitter(QWEN3, starts_inside=False)
    states = []
    for part in ("<think>", "hm", "</think>", "yes"):
        splitter.push(part)
        states.append(splitter.inside)
    assert states == [True, True, False, False]


@pytest.mark.parametrize(
    ("markers", "prompt", "inside"),
    [
        (QWEN3, "<|assistant|>\n<think>\n", True),
        (QWEN3, "<|assistant|>\n", False),
        (QWEN3, "<|assistant|>\n<think>\n\n</think>\n\n", False),
        (DEEPSEEK_R1, "<|assistant|>", True),
        (DEEPSEEK_R1, "<|assistant|><think>\n\n</think>\n", False),
    ],
)
def test_the_prompt_tells_whether_the_answer_starts_inside(
    markers: ReasoningMarkers, prompt: str, inside: bool
) -> None:
    assert markers.opened_by(prompt) is inside


@pytest.mark.parametrize(
    ("option", "template", "markers"),
    [
        (None, "{{ '<think>' }}{{ '</think>' }}", QWEN3),
        (None, "{{ content.split('</think>')[-1] }}", DEEPSEEK_R1),
        (None, "[THINK]", MISTRAL_THINK),
        (None, "{{ messages }}", None),
        (None, None, None),
        ("deepseek_r1", "{{ '<think>' }}", DEEPSEEK_R1),
    ],
)
def test_markers_come_from_the_option_or_the_template(
    option: str | None, template: str | None, markers: ReasoningMarkers | None
) -> None:
    assert choose_reasoning(option, template) is markers


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownReasoningError, match=r"'o1'.*deepseek_r1, qwen3, mistral"):
        choose_reasoning("o1", None)
