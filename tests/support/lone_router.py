"""The router's process alone, over fake shards: what it does with peers that are not this project's."""

import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from support.server import Server, free_port
from support.waiting import eventually

# What the smallest of the fake shards can hold.
SMALL_LIMITS = (
    *("--max-input-tokens", "100"),
    *("--max-total-tokens", "240"),
    *("--max-batch-prefill-tokens", "200"),
)
TESTS = Path(__file__).parents[1]


def write_number_model(folder: Path) -> Path:
    """A tokenizer that agrees with the fake shards': the words are numbers, and are their own ids."""
    folder.mkdir()
    tokenizer = Tokenizer(WordLevel({str(number): number for number in range(2000)}, unk_token="0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


@contextlib.contextmanager
def routing(
    log_path: Path, kind: str, *options: str, num_shard: int = 1, step_seconds: float = 0.002
) -> Iterator[Server]:
    """A ready router over fake shards of this kind; SIGTERM must end it with 0."""
    with tempfile.TemporaryDirectory(prefix="tgi-") as folder, log_path.open("wb") as log:
        uds_path = Path(folder) / "fake"
        fake = ["-m", "support.fake_shard", "--uds-path", str(uds_path), "--kind", kind]
        group = ["--num-shard", str(num_shard), "--step-seconds", str(step_seconds)]
        shards = subprocess.Popen([sys.executable, *fake, *group], cwd=TESTS)
        try:
            sockets = [Path(f"{uds_path}-{rank}") for rank in range(num_shard)]
            eventually(lambda: all(path.exists() for path in sockets), "the fake shards listen", within=30)
            port = free_port()
            command = [sys.executable, "-m", "tgi_router.cli", "--port", str(port), *SMALL_LIMITS, *options]
            model = write_number_model(Path(folder) / "model")
            command += ["--master-shard-uds-path", str(sockets[0]), "--tokenizer-name", str(model)]
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            router = Server(process, port, uds_path, log_path, Path(folder))
            try:
                router.wait_until_ready()
                yield router
                process.send_signal(signal.SIGTERM)
                assert router.wait_for_exit(20) == 0, router.log
            finally:
                router.discard()
        finally:
            shards.kill()
            shards.wait()
