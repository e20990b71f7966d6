"""The work that servers are measured with: how many streams, how long the prompts, what they share."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """A closed loop: each of `streams` clients sends its next request when its last one is answered.

    Lengths are in tokens. The first `shared_tokens` of every prompt are the same, the rest is different
    in each.
    """

    name: str
    streams: int
    requests: int
    own_tokens: int
    output_tokens: int
    shared_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        """Length of every prompt."""
        return self.shared_tokens + self.own_tokens


@dataclass(frozen=True, slots=True)
class Work:
    """A case made concrete for one model: the prompts to send, `streams` at a time."""

    prompts: tuple[str, ...]
    output_tokens: int
    streams: int


def _short(streams: int, requests: int) -> Case:
    return Case(f"short-c{streams}", streams, requests, own_tokens=100, output_tokens=64)


def _long(streams: int, requests: int) -> Case:
    return Case(f"long-c{streams}", streams, requests, own_tokens=1000, output_tokens=32)


def _shared(streams: int, requests: int) -> Case:
    name = f"shared-prefix-c{streams}"
    return Case(name, streams, requests, own_tokens=50, output_tokens=32, shared_tokens=800)


CASES = {
    case.name: case
    for case in (
        _short(1, 3),
        _short(8, 24),
        _short(32, 96),
        _long(1, 3),
        _long(8, 16),
        _long(32, 64),
        _shared(1, 6),
        _shared(8, 32),
        _shared(32, 96),
    )
}

DEFAULT_CASES = ("short-c1", "short-c8", "short-c32", "long-c8", "shared-prefix-c8")
"""What a run without options measures: with the 135M shape, a few minutes on two cores for three rounds."""
