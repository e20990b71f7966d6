"""Reads the rope settings of a config.json, in both spellings that transformers has written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tgi_shard.layers.rope import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    NoScaling,
    RopeConfig,
    RopeScaling,
    YarnScaling,
    yarn_amplitude,
)
from tgi_shard.models.config_reader import ConfigReader
from tgi_shard.models.errors import ConfigError

DEFAULT_THETA = 10_000.0


def read_rope(reader: ConfigReader, head_dim: int, max_position_embeddings: int) -> RopeConfig:
    """Read `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling` (before it).

    Raises:
        ConfigError: the kind of scaling is unknown, or one of its settings is missing or wrong.
    """
    settings = reader.section("rope_parameters") or reader.section("rope_scaling") or ConfigReader({})
    if any(isinstance(value, Mapping) for value in settings.values.values()):
        raise ConfigError("config.json: rope settings that differ between layers are not supported")
    theta = settings.number("rope_theta", reader.number("rope_theta", DEFAULT_THETA))
    share = settings.number("partial_rotary_factor", reader.number("partial_rotary_factor", 1.0))
    rotary_dim = int(head_dim * share)
    if theta <= 1 or rotary_dim < 2 or rotary_dim % 2 or rotary_dim > head_dim:
        raise ConfigError(
            f"config.json: rope needs a theta above 1 and an even number of dimensions, found theta {theta} "
            f"and {rotary_dim} of {head_dim} dimensions"
        )
    trained_length = reader.optional_integer("original_max_position_embeddings") or settings.integer(
        "original_max_position_embeddings", max_position_embeddings
    )
    lengths = _Lengths(trained=trained_length, stretched=max_position_embeddings)
    stretched = int(trained_length * (settings.optional_number("factor") or 1.0))
    reach = max(max_position_embeddings, stretched)
    return RopeConfig(theta, rotary_dim, _read_scaling(settings, lengths), reach)


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Tokens: the longest text before the model was stretched, and after."""

    trained: int
    stretched: int


def _read_scaling(settings: ConfigReader, lengths: _Lengths) -> RopeScaling:
    kind = settings.text("rope_type", settings.text("type", "default"))
    if kind not in _SCALINGS:
        raise ConfigError(f"config.json: rope type {kind!r} is not one of {', '.join(_SCALINGS)}")
    return _SCALINGS[kind](settings, lengths)


def _read_default(settings: ConfigReader, lengths: _Lengths) -> RopeScaling:
    return NoScaling()


def _read_linear(settings: ConfigReader, lengths: _Lengths) -> RopeScaling:
    return LinearScaling(_read_factor(settings))


def _read_dynamic(settings: ConfigReader, lengths: _Lengths) -> RopeScaling:
    # For this kind, transformers takes max_position_embeddings to be the length before stretching.
    return DynamicScaling(_read_factor(settings), trained_length=lengths.stretched)


def _read_llama3(settings: ConfigReader, lengths: _Lengths) -> RopeScaling:
    low, high = settings.number("low_freq_factor"), settings.number("high_freq_factor")
    if high <= low:
        raise ConfigError(f"config.json: high_freq_factor {high} must be greater than low_freq_factor {low}")
    return Llama3Scaling(_read_factor(settings), low, high, lengths.trained)


def _read_yarn(settings: ConfigReader, lengths: _Lengths) -> RopeScaling:
    factor = _read_factor(settings, lengths.stretched / lengths.trained)
    mscale, mscale_all = settings.optional_number("mscale"), settings.optional_number("mscale_all_dim")
    amplitude = settings.optional_number("attention_factor")
    if amplitude is None and mscale and mscale_all:
        amplitude = yarn_amplitude(factor, mscale) / yarn_amplitude(factor, mscale_all)
    elif amplitude is None:
        amplitude = yarn_amplitude(factor)
    return YarnScaling(
        factor,
        lengths.trained,
        beta_fast=settings.number("beta_fast", 32.0),
        beta_slow=settings.number("beta_slow", 1.0),
        round_passage=settings.flag("truncate", default=True),
        amplitude=amplitude,
    )


def _read_factor(settings: ConfigReader, default: float | None = None) -> float:
    factor = settings.number("factor", default)
    if factor < 1:
        raise ConfigError(f"config.json: the factor of a rope scaling must be at least 1, found {factor}")
    return factor


_SCALINGS: dict[str, Callable[[ConfigReader, _Lengths], RopeScaling]] = {
    "default": _read_default,
    "linear": _read_linear,
    "dynamic": _read_dynamic,
    "llama3": _read_llama3,
    "yarn": _read_yarn,
}
