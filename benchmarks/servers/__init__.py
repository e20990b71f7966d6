"""What can be measured: one small file for each server, listed here."""

from benchmarks.servers.base import Server
from benchmarks.servers.transformers_generate import TransformersGenerate

PEERS: dict[str, Server] = {peer.name: peer for peer in (TransformersGenerate(),)}
"""The peers that this server can be measured beside, by name."""
