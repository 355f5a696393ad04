"""Few threads for many tasks: each is taken when it is due, or called, however many wait."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from claude_batch_pandas.clock import Clock, SystemClock
from claude_batch_pandas.pools import Pool
from tests.conftest import JumpingClock

PATIENCE = 20.0  # seconds; of a test that would fail
HOUR = 3600.0


class Told:
    """A task that waits as it is told, and remembers who did it when."""

    def __init__(self, clock: Clock, waits: list[float | None]) -> None:
        self.clock = clock
        self._waits = waits
        self.threads: list[threading.Thread] = []
        self.times: list[float] = []
        self.steps = threading.Semaphore(0)
        self.during: Callable[[], object] = lambda: None

    def advance(self) -> float | None:
        """Take a step."""
        self.threads.append(threading.current_thread())
        self.times.append(self.clock.monotonic())
        self.during()
        wait = self._waits.pop(0)
        self.steps.release()
        return wait

    def stepped(self) -> bool:
        """Wait for a step."""
        return self.steps.acquire(timeout=PATIENCE)


def test_many_tasks_share_few_threads() -> None:
    """Each does all of its steps, none before it is due."""
    clock, pool = JumpingClock(), Pool(3)
    tasks = [Told(clock, [float(i), 50.0, None]) for i in range(40)]
    are_added = threading.Event()  # until then no thread may end, and another one begin
    for task in tasks:
        task.during = lambda: are_added.wait(PATIENCE)
        pool.add(task)
    are_added.set()
    for task in tasks:
        assert all(task.stepped() for _ in range(3))

    assert len({thread for task in tasks for thread in task.threads}) <= 3
    for i, task in enumerate(tasks):
        first, second, third = task.times
        assert second - first >= i
        assert third - second >= 50.0


@pytest.mark.parametrize("count", [1, 2, 5])
def test_whoever_is_called_comes_at_once(count: int) -> None:
    """Also when all threads wait, each for another one."""
    pool = Pool(2)
    tasks = [Told(SystemClock(), [HOUR, HOUR, None]) for _ in range(count)]
    for task in tasks:
        pool.add(task)
    assert all(task.stepped() for task in tasks)
    for _ in range(2):
        for task in reversed(tasks):
            pool.wake(task)
            assert task.stepped()

    assert [len(task.times) for task in tasks] == [3] * count


def test_a_new_task_does_not_wait_for_those_that_wait() -> None:
    pool = Pool(1)
    old, new = Told(SystemClock(), [HOUR, None]), Told(SystemClock(), [None])
    pool.add(old)
    assert old.stepped()
    pool.add(new)
    assert new.stepped()
    pool.wake(old)

    assert old.stepped()
    assert len(old.times) == 2


def test_a_call_during_a_step_is_heard_after_it() -> None:
    pool = Pool(1)
    task = Told(SystemClock(), [HOUR, None])
    task.during = lambda: pool.wake(task)
    pool.add(task)

    assert task.stepped()
    assert task.stepped()


def test_what_has_ended_is_kept_by_nobody() -> None:
    """Not even when it is called once more."""
    pool = Pool(1)
    task = Told(SystemClock(), [None])
    gone = weakref.finalize(task, lambda: None)
    pool.add(task)
    assert task.stepped()
    other = Told(SystemClock(), [None])
    pool.add(other)
    assert other.stepped()  # so that the thread has let go of the first
    pool.wake(task)
    del task

    gc.collect()
    assert not gone.alive


def test_what_is_due_sooner_is_not_kept_by_who_works() -> None:
    """One thread works for long, so the other leaves what is due late for what is due soon."""
    pool, is_over = Pool(2), threading.Event()
    late = Told(SystemClock(), [HOUR, None])
    soon = Told(SystemClock(), [0.05, None])
    long = Told(SystemClock(), [None])
    long.during = lambda: is_over.wait(PATIENCE)
    pool.add(late)
    assert late.stepped()
    pool.add(long)
    pool.add(soon)
    assert soon.stepped()
    assert soon.stepped()
    is_over.set()

    assert long.stepped()
    pool.wake(late)
    assert late.stepped()
