"""The keys that clients must show: where they come from, and what may be one. None is ever printed."""

import re
from collections.abc import Mapping, Sequence

VARIABLE = "API_KEY"
_KEY = re.compile(r"[!-+\--~]+")  # printable ASCII without the blank and the comma


class ApiKeyError(ValueError):
    """A key that no client could send. The message does not show it."""


def read_api_keys(given: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of the command line, else those of API_KEY; none means that anyone may ask.

    Args:
        given: values of the option, each one key or several with commas between them.
        environment: read when the option is not given; an empty variable counts as not set.

    Raises:
        ApiKeyError: a key is empty, or has characters that do not belong into a header.
    """
    sources = given or [value for value in (environment.get(VARIABLE),) if value]
    keys = [key.strip() for source in sources for key in source.split(",")]
    for number, key in enumerate(keys, 1):
        if not _KEY.fullmatch(key):
            fault = "must be printable ASCII without blanks" if key else "is empty"
            raise ApiKeyError(f"API key {number} of {len(keys)} {fault}")
    return tuple(dict.fromkeys(keys))
