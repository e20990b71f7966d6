"""What options may not be combined, or not be given yet."""

from collections.abc import Mapping

from tgi_common.api_keys import ApiKeyError, read_api_keys
from tgi_launcher.settings import Settings

NOT_YET = ("SPECULATE", "KV_CACHE_DTYPE", "LORA_ADAPTERS")
"""Variables of TGI options that change what is served: set, they must not be passed over."""


class SettingsError(ValueError):
    """Options that do not go together. The message is one line for the user."""


def check_settings(settings: Settings, environment: Mapping[str, str]) -> None:
    """Hold the rules between options, as TGI does.

    Raises:
        SettingsError: two options contradict each other, or one is asked for that does not exist yet.
    """
    if unknown := [name for name in NOT_YET if environment.get(name)]:
        flag = f"--{unknown[0].lower().replace('_', '-')}"
        raise SettingsError(f"{unknown[0]} is set, but this version has no {flag}: unset it")
    try:
        read_api_keys(settings.api_key or [], environment)
    except ApiKeyError as error:
        raise SettingsError(f"--api-key: {error}") from None
    if settings.max_input_tokens is not None and settings.max_input_length is not None:
        raise SettingsError("--max-input-tokens and --max-input-length mean the same: give one of them")
    longest, total = settings.longest_input, settings.max_total_tokens
    if longest is not None and total is not None and longest >= total:
        raise SettingsError(
            f"--max-input-tokens ({longest}) must be below --max-total-tokens ({total}): "
            "the answer needs room too"
        )
    if settings.master_port == settings.port:
        raise SettingsError(f"--port and --master-port are both {settings.port}: give each its own")
    batch_total = settings.max_batch_total_tokens
    if total is not None and batch_total is not None and total > batch_total:
        raise SettingsError(
            f"--max-total-tokens ({total}) must not exceed --max-batch-total-tokens ({batch_total})"
        )
