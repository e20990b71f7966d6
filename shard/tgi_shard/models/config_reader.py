"""Typed look-ups in a config.json: what is missing or of the wrong type is named in the error."""

import sys
from collections.abc import Mapping
from typing import Any

from tgi_shard.models.errors import ConfigError

JsonObject = Mapping[str, Any]


class ConfigReader:
    """Reads settings of a JSON object. A setting that is null counts as missing, as `transformers` has it.

    Every look-up raises ConfigError for a value of the wrong type, and for a missing one without a default.
    """

    def __init__(self, values: JsonObject, name: str = "config.json") -> None:
        self.values = values
        self._name = name

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._wrong(key, "a whole number of at least 1", value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._value(key, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not abs(value) <= sys.float_info.max
        ):
            raise self._wrong(key, "a finite number", value)
        return float(value)

    def optional_number(self, key: str) -> float | None:
        """A number, or None if it is missing."""
        return self.number(key) if key in self else None

    def optional_integer(self, key: str) -> int | None:
        """A whole number of at least 1, or None if it is missing."""
        return self.integer(key) if key in self else None

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a string", value)
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of strings, or None if it is missing."""
        if key not in self:
            return None
        value = self.values[key]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "a list of strings", value)
        return tuple(value)

    def token_ids(self, key: str) -> tuple[int, ...]:
        """One token id or a list of them; none if it is missing."""
        value = self.values.get(key)
        ids = [] if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(token, int) and not isinstance(token, bool) for token in ids):
            raise self._wrong(key, "a token id or a list of them", value)
        return tuple(ids)

    def section(self, key: str) -> "ConfigReader | None":
        """A nested object, or None if it is missing or empty."""
        value = self.values.get(key)
        if not value:
            return None
        if not isinstance(value, Mapping):
            raise self._wrong(key, "an object", value)
        return ConfigReader(value, f"{self._name}: {key}")

    def _value(self, key: str, default: object) -> object:
        value = self.values.get(key)
        if value is None:
            value = default
        if value is None:
            raise ConfigError(f"{self._name} lacks {key!r}")
        return value

    def _wrong(self, key: str, expected: str, found: object) -> ConfigError:
        return ConfigError(f"{self._name}: {key!r} must be {expected}, found {found!r}")
