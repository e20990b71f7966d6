"""The refusal of a request that asks for something that cannot be."""

from typing import NoReturn


class ValidationError(Exception):
    """The request asks for something that cannot be: HTTP 422.

    Attributes:
        parameter: the field that is wrong, by TGI's name; None if it is not a single one.
    """

    error_type = "validation"

    def __init__(self, message: str, parameter: str | None = None) -> None:
        super().__init__(f"Input validation error: {message}")
        self.parameter = parameter


def refuse(message: str, parameter: str | None = None) -> NoReturn:
    """Raise a ValidationError."""
    raise ValidationError(message, parameter)
