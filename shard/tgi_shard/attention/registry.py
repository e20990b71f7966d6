"""Chooses the attention backend."""

from tgi_shard.attention.interface import AttentionBackend
from tgi_shard.attention.torch_backend import TorchAttention
from tgi_shard.platform import Platform

BACKENDS: dict[str, type[AttentionBackend]] = {TorchAttention.name: TorchAttention}


class UnknownAttentionError(ValueError):
    """No attention backend has this name, or it does not run on this device."""


def select_backend(platform: Platform, name: str | None = None) -> AttentionBackend:
    """The backend of this name, or the best one for the platform.

    Raises:
        UnknownAttentionError: there is no such backend, with the list of them.
    """
    chosen = name or TorchAttention.name
    if chosen not in BACKENDS:
        raise UnknownAttentionError(
            f"attention {chosen!r} is not one of those that run on {platform.name}: {', '.join(BACKENDS)}"
        )
    return BACKENDS[chosen]()
