"""The garbage collector once the router has started."""

import gc
from collections.abc import Iterator

import pytest

from tgi_router import collector


@pytest.fixture
def restored() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


@pytest.mark.usefixtures("restored")
def test_what_was_made_at_the_start_is_not_looked_at_again() -> None:
    lasting = [[number] for number in range(100)]
    collector.settle()
    assert gc.get_freeze_count() > len(lasting)
    assert not any(each is lasting for each in gc.get_objects())


@pytest.mark.usefixtures("restored")
def test_a_large_step_does_not_make_it_look() -> None:
    looks: list[str] = []
    collector.settle()
    gc.callbacks.append(lambda phase, _info: looks.append(phase))
    try:
        step = [[number] for number in range(5000)]
    finally:
        gc.callbacks.pop()
    assert len(step) == 5000
    assert not looks
