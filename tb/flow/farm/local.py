"""The hands of this machine: processes."""

from __future__ import annotations

import asyncio
import platform
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tb.flow.farm.crew import Call, Crew, Hand, HandLost
from tb.flow.processes import fresh, kill_all


class LocalCrew(Crew):
    """`count` processes."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    async def _hire(self) -> None:
        for _ in range(self._count):
            self._joins(Process())
        self._ready.set_result(None)
        await asyncio.Event().wait()


class Process(Hand):
    """One process, and a fresh one after one that was killed."""

    def __init__(self) -> None:
        self._pool = fresh(1)

    async def do(self, call: Call) -> Any:
        try:
            doing = self._pool.submit(call.function, *call.arguments)
        except BrokenProcessPool:  # it was killed while it had nothing to do
            self._renew()
            doing = self._pool.submit(call.function, *call.arguments)
        try:
            return await asyncio.wrap_future(doing)
        except BrokenProcessPool:
            self._renew()
            raise HandLost(f"its process on {platform.node()} was killed") from None

    def _renew(self) -> None:
        self._pool.shutdown(wait=False)
        self._pool = fresh(1)

    async def close(self, *, now: bool) -> None:
        self._pool.shutdown(wait=not now, cancel_futures=True)
        if now:
            kill_all()
