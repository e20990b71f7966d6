"""Makes a tokenizer.json for models that lack one, in a process of its own.

Conversion takes transformers' AutoTokenizer, whose import brings torch along; the router stays free of it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

CONVERSION_SECONDS = 300
# What older tokenizers are stored in; without any of these there is nothing to convert.
SOURCES = ("*.model", "vocab.*", "merges.txt", "*.tiktoken", "tokenizer_config.json")


class ConversionError(Exception):
    """No fast tokenizer can be made of the model's files. The message is one line."""


def convert_tokenizer(folder: Path, *, trust_remote_code: bool) -> bytes:
    """The content of a tokenizer.json equal to the tokenizer that transformers builds for the model.

    Raises:
        ConversionError: there is no such tokenizer; the message ends with transformers' own last line.
    """
    if not any(any(folder.glob(pattern)) for pattern in SOURCES):
        raise ConversionError("it has no other tokenizer files")
    with tempfile.TemporaryDirectory(prefix="tgi-tokenizer-") as work:
        target = Path(work) / "tokenizer.json"
        flags = ["--trust-remote-code"] if trust_remote_code else []
        command = [sys.executable, "-P", "-m", "tgi_router.text.convert", str(folder), str(target), *flags]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=CONVERSION_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise ConversionError(f"converting took more than {CONVERSION_SECONDS} s") from None
        if done.returncode != 0:
            raise ConversionError((done.stderr.strip() or "the conversion failed").splitlines()[-1])
        return target.read_bytes()


def _write_fast_tokenizer(folder: str, target: str, *flags: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code="--trust-remote-code" in flags)
    if not tokenizer.is_fast:
        raise SystemExit(f"{type(tokenizer).__name__} cannot be written as a tokenizer.json")
    tokenizer.backend_tokenizer.save(target)


if __name__ == "__main__":
    _write_fast_tokenizer(*sys.argv[1:])
