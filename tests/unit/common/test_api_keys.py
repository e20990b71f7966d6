"""Where API keys come from, and what may be one."""

import pytest

from tgi_common.api_keys import ApiKeyError, read_api_keys


def test_several_keys_are_given_with_commas_or_one_by_one() -> None:
    assert read_api_keys(["a,b", "c"], {}) == ("a", "b", "c")
    assert read_api_keys(["a, b\n", "a"], {}) == ("a", "b")


def test_the_variable_counts_where_the_option_is_not_given() -> None:
    assert read_api_keys([], {"API_KEY": "a,b"}) == ("a", "b")
    assert read_api_keys(["c"], {"API_KEY": "a,b"}) == ("c",)


@pytest.mark.parametrize("environment", [{}, {"API_KEY": ""}])
def test_without_either_there_are_none(environment: dict[str, str]) -> None:
    assert read_api_keys([], environment) == ()


@pytest.mark.parametrize("keys", ["", "a,", ",", "secret two", "secrét", "secret\n\nx"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(keys: str) -> None:
    with pytest.raises(ApiKeyError) as refused:
        read_api_keys([keys], {})
    assert "API key" in str(refused.value)
    assert "secr" not in str(refused.value)
