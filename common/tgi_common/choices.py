"""Values that options of more than one command can take."""

from enum import StrEnum


class Dtype(StrEnum):
    """Types that weights can be loaded in."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class RopeScaling(StrEnum):
    """RoPE scalings that an option can ask for, as TGI's."""

    LINEAR = "linear"
    DYNAMIC = "dynamic"
