"""When a generation ends, and why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgi_shard.engine.stopping import FinishReason, StopChecker, StoppingCriteria

EOS = 2


def checker(*stops: str, limit: int = 100, ignore_eos: bool = False) -> StopChecker:
    return StopChecker(StoppingCriteria(limit, stops, ignore_eos, frozenset({EOS, 3})))


def test_the_last_allowed_token_ends_by_length() -> None:
    check = checker(limit=2)
    assert check.push(5, "a") is None
    assert check.push(5, "b") is FinishReason.LENGTH


@pytest.mark.parametrize("token_id", [EOS, 3])
def test_every_end_of_sequence_token_ends_even_as_the_last_allowed(token_id: int) -> None:
    assert checker(limit=1).push(token_id, "</s>") is FinishReason.EOS_TOKEN


def test_an_ignored_end_of_sequence_token_is_a_token_like_any_other() -> None:
    check = checker("</s>x", limit=2, ignore_eos=True)
    assert check.push(EOS, "</s>") is None
    assert check.push(5, "x") is FinishReason.STOP_SEQUENCE


def test_a_stop_sequence_completed_by_the_last_token_is_found() -> None:
    assert checker("b", limit=1).push(5, "b") is FinishReason.STOP_SEQUENCE


def test_a_stop_sequence_across_tokens_is_found() -> None:
    check = checker("unused", "STOP")
    assert [check.push(5, text) for text in ("S", "", "TO")] == [None] * 3
    assert check.push(5, "P") is FinishReason.STOP_SEQUENCE


def test_a_stop_sequence_with_more_text_after_it_is_found() -> None:
    assert checker("\n\n").push(5, "end.\n\n\nNext") is FinishReason.STOP_SEQUENCE


def test_any_of_several_stop_sequences_ends() -> None:
    assert checker("c", "ab").push(5, "xc") is FinishReason.STOP_SEQUENCE
    assert checker("c", "ab").push(5, "xab") is FinishReason.STOP_SEQUENCE


def test_a_trailing_newline_does_not_complete_a_stop_sequence() -> None:
    assert checker("ab\n").push(5, "ab") is None
    assert checker("ab").push(5, "a\n") is None


@given(st.text("ab", min_size=1, max_size=5), st.lists(st.text("abc", max_size=4), max_size=12))
def test_the_window_finds_what_a_search_of_the_whole_text_finds(stop: str, pieces: list[str]) -> None:
    check = checker(stop)
    text = ""
    for piece in pieces:
        text += piece
        reason = check.push(5, piece)
        assert (reason is FinishReason.STOP_SEQUENCE) == (stop in text)
        if reason is not None:
            break


def test_the_window_does_not_grow_with_the_text() -> None:
    check = checker("x" * 500, limit=10_000)
    for _ in range(5000):
        assert check.push(5, "abc") is None
    assert len(check._tail) == 499


def test_an_empty_stop_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="stop sequence is empty"):
        StoppingCriteria(5, ("a", ""), False, frozenset())


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_new_tokens is 0; it must be at least 1"):
        StoppingCriteria(0, (), False, frozenset())


def test_a_stop_token_ends_the_text_also_where_the_end_token_is_ignored() -> None:
    criteria = StoppingCriteria(9, (), ignore_eos=True, eos_ids=frozenset({2}), stop_ids=frozenset({7}))
    checker = StopChecker(criteria)
    assert checker.push(2, "") is None
    assert checker.push(7, "x") is FinishReason.EOS_TOKEN


def test_nothing_ends_a_text_before_its_least_length_but_the_most() -> None:
    criteria = StoppingCriteria(4, ("b",), ignore_eos=False, eos_ids=frozenset({2}), min_new_tokens=3)
    checker = StopChecker(criteria)
    assert [checker.push(2, ""), checker.push(1, "b")] == [None, None]
    assert checker.push(1, "b") is FinishReason.STOP_SEQUENCE
    shortest = StopChecker(
        StoppingCriteria(1, (), ignore_eos=False, eos_ids=frozenset({2}), min_new_tokens=3)
    )
    assert shortest.push(1, "") is FinishReason.LENGTH
