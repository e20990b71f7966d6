"""What can be measured: one small file for each server, listed here."""

from collections.abc import Callable

from benchmarks.servers.base import Server
from benchmarks.servers.transformers_generate import TransformersGenerate
from benchmarks.servers.vllm import make_vllm

PEERS: dict[str, Callable[[], Server]] = {"transformers": TransformersGenerate, "vllm": make_vllm}
"""What makes each peer that this server can be measured beside, by the peer's name.

A peer that is not installed raises ServerFailedError.
"""
