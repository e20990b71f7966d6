"""Values that options of more than one command can take."""

from enum import StrEnum


class Dtype(StrEnum):
    """Types that weights can be loaded in."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class Quantization(StrEnum):
    """Fewer bits for the weights of any checkpoint, while it loads.

    The last four are TGI's names for the same: eight or four bits a weight, whoever multiplies them.
    """

    INT8 = "int8"
    INT4 = "int4"
    EETQ = "eetq"
    BITSANDBYTES = "bitsandbytes"
    BITSANDBYTES_NF4 = "bitsandbytes-nf4"
    BITSANDBYTES_FP4 = "bitsandbytes-fp4"


class RopeScaling(StrEnum):
    """RoPE scalings that an option can ask for, as TGI's."""

    LINEAR = "linear"
    DYNAMIC = "dynamic"
