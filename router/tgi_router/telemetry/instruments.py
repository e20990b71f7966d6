"""Counters, gauges, histograms and summaries: light enough to be written to for every token.

They belong to the event loop's thread, so they take no lock, and they hand out samples through
prometheus_client's collector interface. Label values are positional: each metric has one label at most.
"""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

SUMMARY_QUANTILES = (0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
SUMMARY_WINDOW_SECONDS = 60.0
SUMMARY_SLICES = 3

Samples = Iterable[tuple[str, Mapping[str, str], float]]


class Counter:
    """A count that only grows."""

    __slots__ = ("value",)

    type = "counter"

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        """Add `amount`."""
        self.value += amount

    def samples(self) -> Samples:
        """The current count, as (name suffix, labels, value)."""
        return [("", {}, self.value)]


class Gauge:
    """A figure that goes up and down."""

    __slots__ = ("value",)

    type = "gauge"

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        """Replace the figure."""
        self.value = value

    def samples(self) -> Samples:
        """The current figure, as (name suffix, labels, value)."""
        return [("", {}, self.value)]


class Histogram:
    """How often values fell at or below each of some bounds.

    Args:
        bounds: upper bounds, ascending, without infinity.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    type = "histogram"

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, `times` over."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def samples(self) -> Samples:
        """Cumulative buckets, sum and count, as (name suffix, labels, value)."""
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            yield "_bucket", {"le": format_number(bound)}, total
        yield "_sum", {}, self._sum
        yield "_count", {}, total


class Summary:
    """Quantiles over the last minute of values of which few are distinct, such as small whole numbers.

    The minute is kept in slices that are dropped whole, as TGI's exporter does. Sum and count are for ever.
    """

    __slots__ = ("_clock", "_count", "_slices", "_sum")

    type = "summary"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slices: dict[int, dict[int, int]] = {}
        self._sum = 0
        self._count = 0

    def observe(self, value: int, times: int = 1) -> None:
        """Count a value, `times` over."""
        counts = self._current_slice()
        counts[value] = counts.get(value, 0) + times
        self._sum += value * times
        self._count += times

    def samples(self) -> Samples:
        """Quantiles (0 while there are no values), sum and count, as (name suffix, labels, value)."""
        self._current_slice()
        merged: dict[int, int] = {}
        for counts in self._slices.values():
            for value, times in counts.items():
                merged[value] = merged.get(value, 0) + times
        ordered = sorted(merged.items())
        for quantile in SUMMARY_QUANTILES:
            yield "", {"quantile": format_number(quantile)}, _quantile(ordered, quantile)
        yield "_sum", {}, self._sum
        yield "_count", {}, self._count

    def _current_slice(self) -> dict[int, int]:
        number = int(self._clock() * SUMMARY_SLICES / SUMMARY_WINDOW_SECONDS)
        current = self._slices.get(number)
        if current is None:
            oldest = number - SUMMARY_SLICES + 1
            self._slices = {at: counts for at, counts in self._slices.items() if at >= oldest}
            current = self._slices[number] = {}
        return current


class Instrument(Protocol):
    """What can be written to, and read out as samples."""

    @property
    def type(self) -> str:
        """The metric's type in Prometheus' words."""

    def samples(self) -> Samples:
        """All samples, as (name suffix, labels, value)."""


InstrumentT = TypeVar("InstrumentT", bound=Instrument)


class Labelled(Generic[InstrumentT]):
    """One instrument for each value of one label.

    Args:
        label: the label's name.
        values: values whose series exist from the start.
        make: builds the instrument of a new value.
    """

    __slots__ = ("_children", "_make", "label")

    def __init__(self, label: str, values: Iterable[str], make: Callable[[], InstrumentT]) -> None:
        self.label = label
        self._make = make
        self._children = {value: make() for value in values}

    def labels(self, value: str) -> InstrumentT:
        """The instrument of a label value; a new series if the value is new."""
        child = self._children.get(value)
        if child is None:
            child = self._children[value] = self._make()
        return child

    @property
    def type(self) -> str:
        """The metric's type in Prometheus' words."""
        return self._make().type

    def samples(self) -> Samples:
        """The samples of every series, each with its label."""
        for value, child in self._children.items():
            for suffix, labels, sample in child.samples():
                yield suffix, {self.label: value, **labels}, sample


class InstrumentCollector(Collector):
    """An instrument under its name, as prometheus_client collects it."""

    def __init__(self, name: str, description: str, instrument: Instrument) -> None:
        self._name = name
        self._description = description
        self._instrument = instrument

    def collect(self) -> Iterable[Metric]:
        """One family; sample names are the metric's own, without the `_total` that OpenMetrics adds."""
        family = Metric(self._name, self._description, self._instrument.type)
        for suffix, labels, value in self._instrument.samples():
            family.add_sample(self._name + suffix, dict(labels), value)
        return [family]


def format_number(value: float) -> str:
    """A number as TGI's exporter writes it: whole ones without a fraction."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(value)


def _quantile(ordered: Sequence[tuple[int, int]], quantile: float) -> int:
    """The value at a quantile of (value, times) pairs in ascending order; 0 if there are none."""
    total = sum(times for _, times in ordered)
    rank = quantile * total
    seen = 0
    for value, times in ordered:
        seen += times
        if seen >= rank:
            return value
    return 0
