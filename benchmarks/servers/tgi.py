"""This server, as its users start it: through the launcher."""

import sys

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.machine import package_versions
from benchmarks.servers.base import Launch
from benchmarks.servers.http import CommandServer


def make_tgi(options: tuple[str, ...] = ()) -> CommandServer:
    """Describe this server, started with these launcher options beside the model's and the address's."""
    return CommandServer(
        name="tgi",
        versions=package_versions(
            ("text-generation-inference", "torch", "transformers", "tokenizers", "aiohttp", "grpcio")
        ),
        command=_command,
        options=options,
        environment={"HF_HUB_OFFLINE": "1"},
        kv_tokens=read_kv_tokens,
    )


def read_kv_tokens(metrics: str) -> int:
    """Answer how many tokens the KV blocks hold that requests use or that are kept for later ones."""
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }
    # Block 0 belongs to no request, but to the tokens that the cache has room for.
    block_size = values["tgi_batch_max_total_tokens"] // (values["tgi_kv_blocks_total"] + 1)
    return int(block_size * (values["tgi_kv_blocks_used"] + values["tgi_kv_blocks_cached"]))


def _command(launch: Launch, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "tgi_launcher.cli"),
        *("--model-id", str(launch.checkpoint)),
        *("--dtype", launch.dtype),
        *("--hostname", "127.0.0.1"),
        *("--port", str(port)),
        *("--shard-uds-path", str(launch.scratch / "shard")),
    ]
