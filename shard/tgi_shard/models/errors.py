"""What can be wrong with a model's config.json, in words for the user."""

from collections.abc import Iterable


class ConfigError(ValueError):
    """A setting is missing, has the wrong type, contradicts another, or asks for what is not supported."""


class UnknownModelError(ConfigError):
    """The model's architecture is not one of those served."""

    def __init__(self, model_type: object, known: Iterable[str]) -> None:
        names = ", ".join(sorted(known))
        super().__init__(f"model_type {model_type!r} is not supported; config.json must name one of {names}")
