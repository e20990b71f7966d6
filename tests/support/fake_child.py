"""A stand-in for a shard or router: does what its arguments say, one after the other.

    say:TEXT      a line on standard output      raw:COUNT   so many letters x, without an end of line
    complain:TEXT a line on standard error       touch:PATH  creates a file
    until:PATH    waits until a file is there    child:PATH  starts a process, writes its id to the file
    stubborn      takes no notice of SIGTERM     exit:CODE   ends
    kill:SIGNAL   kills itself                   journal:PATH:NAME  notes there how it is asked to end

Without `exit` or `kill` it waits for SIGTERM.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

DEADLINE_SECONDS = 60.0


def note(path: str, text: str) -> None:
    """Append a line, whole, whoever else writes to the file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def keep_journal(path: str, name: str) -> None:
    def on_sigterm(number: int, frame: FrameType | None) -> None:
        note(path, f"{name} asked to end")
        note(path, f"{name} ended")
        sys.exit(0)

    note(path, f"{name} started")
    signal.signal(signal.SIGTERM, on_sigterm)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def start_child(path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-ISc", "import signal; signal.pause()"])
    path.with_suffix(".part").write_text(str(child.pid))
    path.with_suffix(".part").rename(path)


def write_raw(count: str) -> None:
    sys.stdout.write("x" * int(count))
    sys.stdout.flush()


ACTIONS: dict[str, Callable[[str], object]] = {
    "say": lambda text: print(text, flush=True),
    "complain": lambda text: print(text, file=sys.stderr, flush=True),
    "raw": write_raw,
    "touch": lambda path: Path(path).touch(),
    "until": lambda path: wait_for(Path(path)),
    "child": lambda path: start_child(Path(path)),
    "stubborn": lambda _: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "exit": lambda code: sys.exit(int(code)),
    "kill": lambda name: os.kill(os.getpid(), signal.Signals[name]),
    "journal": lambda rest: keep_journal(*rest.rsplit(":", 1)),
}


def main() -> None:
    for argument in sys.argv[1:]:
        action, _, rest = argument.partition(":")
        ACTIONS[action](rest)
    # A signal that is handled ends only one pause.
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
