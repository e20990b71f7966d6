"""How a family names its tensors."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WeightNames:
    """Names in a checkpoint, Llama's by default; those of a layer stand behind `layer`.

    Projections are prefixes (`.weight` and `.bias` follow), everything else is a whole name.
    """

    embedding: str = "model.embed_tokens.weight"
    layer: str = "model.layers.{index}."
    norm: str = "model.norm.weight"
    head: str = "lm_head.weight"

    attention_norm: str = "input_layernorm.weight"
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    output: str = "self_attn.o_proj"
    query_norm: str = "self_attn.q_norm.weight"
    key_norm: str = "self_attn.k_norm.weight"

    mlp_norm: str = "post_attention_layernorm.weight"
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"
