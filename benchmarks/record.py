"""What is kept of a benchmark: everything needed to judge its figures, or to measure them again."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.cases import Case
from benchmarks.machine import Machine, Revision
from benchmarks.rounds import ServerRound


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server was started with beside its defaults, and the versions of its parts.

    Attributes:
        environment: variables set for it that steer threads, memory and devices.
    """

    options: tuple[str, ...]
    versions: Mapping[str, str]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Record:
    """One benchmark, from its settings to each round's figures.

    Attributes:
        name: what it is kept under, after the date.
        date: day and time of its start, UTC, in ISO 8601.
        model: the shape of a random checkpoint, or the name of a real one.
        dtype: number format of the model.
        seed: what its prompts were drawn with.
        weight_bytes: of the model's weights in that format; quantized ones take less.
        environment: variables that steer threads, memory and devices, set for all servers.
        servers: by name; the first is the one that the others are compared with.
    """

    name: str
    date: str
    model: str
    dtype: str
    seed: int
    weight_bytes: int
    machine: Machine
    revision: Revision | None
    environment: Mapping[str, str]
    servers: Mapping[str, ServerSettings]
    cases: tuple[Case, ...]
    rounds: tuple[ServerRound, ...]
