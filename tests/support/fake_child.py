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


def perform(action: str) -> None:
    verb, _, rest = action.partition(":")
    match verb:
        case "say":
            print(rest, flush=True)
        case "complain":
            print(rest, file=sys.stderr, flush=True)
        case "raw":
            sys.stdout.write("x" * int(rest))
            sys.stdout.flush()
        case "touch":
            Path(rest).touch()
        case "until":
            wait_for(Path(rest))
        case "child":
            start_child(Path(rest))
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "exit":
            sys.exit(int(rest))
        case "kill":
            os.kill(os.getpid(), signal.Signals[rest])
        case "journal":
            keep_journal(*rest.rsplit(":", 1))
        case _:
            raise ValueError(action)


def main() -> None:
    for action in sys.argv[1:]:
        perform(action)
    # A signal that is handled ends only one pause.
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
