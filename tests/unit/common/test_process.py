import os
import signal
import subprocess
import sys

import psutil
import pytest

from support.waiting import eventually
from tgi_common.process import LAUNCHER_PID, die_with_parent

CHILD = """
import os, signal
from tgi_common.process import die_with_parent
die_with_parent()
print(os.getpid(), flush=True)
signal.pause()
"""

# Starts the child as the launcher does, prints its process id, and waits to be killed.
PARENT = f"""
import os, signal, subprocess, sys
environment = {{**os.environ, "{LAUNCHER_PID}": sys.argv[1] or str(os.getpid())}}
subprocess.Popen([sys.executable, "-c", {CHILD!r}], env=environment)
signal.pause()
"""


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def start_parent(launcher: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, launcher], stdout=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can do this")
def test_a_child_dies_with_its_killed_launcher() -> None:
    parent = start_parent()
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    eventually(lambda: gone(child), "the child is gone")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can do this")
def test_a_child_whose_launcher_is_already_gone_ends_at_once() -> None:
    parent = start_parent(launcher=str(2**22))
    assert parent.stdout is not None
    children = psutil.Process(parent.pid).children
    eventually(lambda: any(gone(child.pid) for child in children()), "the child ended")
    parent.kill()
    assert parent.stdout.readline() == ""
    parent.wait()


def test_a_process_started_by_hand_outlives_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("nobody is to be killed"))
    die_with_parent({})


def test_the_variable_is_not_left_to_grandchildren(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    monkeypatch.setattr("ctypes.CDLL", lambda _: type("C", (), {"prctl": lambda *_: 0}))
    environment = {LAUNCHER_PID: "1", "OTHER": "x"}
    monkeypatch.setattr(os, "getppid", lambda: 2)
    die_with_parent(environment)
    assert environment == {"OTHER": "x"}
    assert killed == [(os.getpid(), signal.SIGKILL)]
