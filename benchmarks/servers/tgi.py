"""This server, as its users start it: through the launcher."""

import sys

from benchmarks.servers.base import Launch
from benchmarks.servers.http import CommandServer


def make_tgi(options: tuple[str, ...] = ()) -> CommandServer:
    """Describe this server, started with these launcher options beside the model's and the address's."""
    return CommandServer(
        name="tgi",
        packages=("text-generation-inference", "torch", "transformers", "tokenizers", "aiohttp", "grpcio"),
        command=_command,
        options=options,
        environment={"HF_HUB_OFFLINE": "1"},
    )


def _command(launch: Launch, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "tgi_launcher.cli"),
        *("--model-id", str(launch.checkpoint)),
        *("--dtype", launch.dtype),
        *("--hostname", "127.0.0.1"),
        *("--port", str(port)),
        *("--shard-uds-path", str(launch.scratch / "shard")),
    ]
