"""The thread that owns the model."""

import threading

import pytest

from tgi_shard.engine.worker import MAX_WAITING_COMMANDS, EngineThread, WorkerBusyError


def test_commands_run_in_the_order_they_came() -> None:
    thread, order = EngineThread(), list[int]()
    for number in range(50):
        thread.submit(lambda number=number: order.append(number))
    assert thread.stop(10)
    assert order == list(range(50))


def test_an_exception_reaches_its_caller_and_the_thread_goes_on() -> None:
    thread = EngineThread()
    failed = thread.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failed.result(10)
    assert thread.submit(lambda: 42).result(10) == 42
    assert thread.alive
    assert thread.stop(10)


def test_a_full_queue_is_refused_and_not_waited_for() -> None:
    thread, release = EngineThread(), threading.Event()
    started = threading.Event()
    thread.submit(lambda: (started.set(), release.wait(30)))
    assert started.wait(10)
    for _ in range(MAX_WAITING_COMMANDS):
        thread.submit(lambda: None)
    with pytest.raises(WorkerBusyError, match=str(MAX_WAITING_COMMANDS)):
        thread.submit(lambda: None)
    release.set()
    assert thread.stop(10)
