"""Processes that do runs side by side, and end with whoever started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.context import SpawnContext, SpawnProcess
from types import FrameType


class _Worker(SpawnProcess):
    """A process that hears no ctrl-C before `_belong`: it would answer with a traceback of its imports.

    Its start is finished first, too: a start that is broken off leaves a process that nobody knows of.
    """

    def start(self) -> None:
        with _ctrl_c_afterwards():
            super().start()


@contextmanager
def _ctrl_c_afterwards() -> Iterator[None]:
    """A ctrl-C inside the block is heard at its end. Processes that start in it have the signal blocked."""
    heard = False

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal heard
        heard = True

    # Another thread may get the signal, and then Python calls the handler in the main thread all the same.
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, note) if main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if main:
            signal.signal(signal.SIGINT, handler)
        if heard:
            signal.raise_signal(signal.SIGINT)


class _Workers(SpawnContext):
    Process = _Worker


@contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of `count` fresh processes. A block left by an exception does not wait for the runs under way:
    they and their simulators are killed.

    Processes and not threads: the runner changes the environment of its process, and a simulator reads it.
    """
    pool = fresh(count)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        kill_all()
        raise
    pool.shutdown(wait=True, cancel_futures=True)


def fresh(count: int) -> ProcessPoolExecutor:
    """A pool of `count` processes that end with this one, and their simulators with them."""
    return ProcessPoolExecutor(count, mp_context=_Workers(), initializer=_belong)


def kill_all() -> None:
    """Ends the processes of all pools of this process, and the simulators that they have started."""
    for child in multiprocessing.active_children():
        _kill_group(child.pid)


def _belong() -> None:
    """In each process: a process group of its own, simulators included, that is killed when the parent ends,
    however that comes about.
    """
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # forgets one that came before
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_outlive_nobody, daemon=True).start()


def _outlive_nobody() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)


def _kill_group(leader: int | None) -> None:
    """Ends a process and its group, which it has from `_belong` on."""
    if leader is not None:
        for end in (os.killpg, os.kill):
            with suppress(ProcessLookupError):
                end(leader, signal.SIGKILL)


def within(holds: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether something comes to hold in that time."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
