"""A server without requests rests."""

import time

import psutil
import pytest

from support.server import Server

QUIET_SECONDS = 30.0
SHARE_OF_ONE_CORE = 0.01


def cpu_seconds(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(t.user + t.system for t in times)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_all_processes_together_use_under_one_percent_of_a_core(two_shards: Server) -> None:
    """After work, with two shards waiting for each other: the case with most reasons to poll."""
    two_shards.api.generate("Hello", max_new_tokens=20)
    two_shards.wait_until_idle()
    processes = [psutil.Process(two_shards.process.pid), *two_shards.processes()]
    before = cpu_seconds(processes)
    time.sleep(QUIET_SECONDS)  # what is measured is the absence of work, so there is no condition to wait for
    used = cpu_seconds(processes) - before
    assert used < QUIET_SECONDS * SHARE_OF_ONE_CORE, f"{used:.2f} CPU seconds in {QUIET_SECONDS:g} quiet ones"
