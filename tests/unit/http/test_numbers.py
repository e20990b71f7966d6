"""Numbers as the wire carries them."""

import math
import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tgi_router.schema.numbers import round_to_f32, shorten_f32


@settings(max_examples=200)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_shortened_float_reads_back_as_the_same_32_bits(value: float) -> None:
    text = repr(shorten_f32(value))
    assert struct.pack("f", float(text)) == struct.pack("f", value)
    assert len(text) <= len(repr(value))


def test_what_is_not_finite_becomes_nan() -> None:
    assert all(math.isnan(shorten_f32(value)) for value in (math.nan, math.inf, -math.inf))


@settings(max_examples=100)
@given(st.floats(-1e38, 1e38))
def test_rounding_is_that_of_32_bit_floats(value: float) -> None:
    assert round_to_f32(value) == float(np.float32(value))
