"""Waits that cost little: for what happens in every cycle for a while, for an edge that may not come, and for
the first of several edges.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from cocotb import simulator
from cocotb.triggers import GPITrigger
from cocotb.utils import get_sim_steps

from tb.common.clock import PERIOD_NS


class Next(Enum):
    """What comes after a look."""

    EDGE = 1  # another, at the next edge
    SLEEP = 2  # another, at the first edge after the alarm has risen
    WAKE = 3  # none: the trigger fires


class WhileEdges(GPITrigger):
    """Calls `look` at the rising edges of a clock, and fires at the edge at which it says `Next.WAKE`.
    `alarm` is the signal that ends a `Next.SLEEP`.

    `look` reads signals as they are at the edge; it must not drive any, and must not raise.
    """

    def __init__(self, clock: Any, look: Callable[[], Next], alarm: Any = None) -> None:
        super().__init__()
        self._clock = clock._handle
        self._look = look
        self._alarm: Any = None if alarm is None else alarm._handle

    def _prime(self) -> None:
        self._cbhdl = simulator.register_value_change_callback(self._clock, self._edge, simulator.RISING)

    def _edge(self) -> None:
        then = self._look()
        if then is Next.EDGE:
            self._prime()
        elif then is Next.SLEEP:
            self._cbhdl = simulator.register_value_change_callback(self._alarm, self._prime, simulator.RISING)
        else:
            self._react()


class _Rise(GPITrigger):
    """Fires when a signal rises. If it does not for so many cycles, it fires all the same and is `late`."""

    late = False

    def __init__(self, signal: Any, cycles: int) -> None:
        super().__init__()
        self._signal = signal._handle
        self._steps = get_sim_steps(cycles * PERIOD_NS, "ns")

    def _prime(self) -> None:
        self._cbhdl = simulator.register_value_change_callback(self._signal, self._risen, simulator.RISING)
        self._timer = simulator.register_timed_callback(self._steps, self._over)

    def _unprime(self) -> None:
        self._timer.deregister()
        super()._unprime()

    def _risen(self) -> None:
        self._timer.deregister()
        self._react()

    def _over(self) -> None:
        if self._cbhdl is not None:
            self._cbhdl.deregister()
        self.late = True
        self._react()


async def risen(signal: Any, cycles: int) -> bool:
    """Sleeps until a signal rises. False if it does not within so many cycles."""
    rise = _Rise(signal, cycles)
    await rise
    return not rise.late


RISES, FALLS = simulator.RISING, simulator.FALLING


class FirstEdge(GPITrigger):
    """Fires at the first of some edges: signals, and whether it `RISES` or `FALLS`."""

    def __init__(self, *edges: tuple[Any, int]) -> None:
        super().__init__()
        self._edges = [(signal._handle, kind) for signal, kind in edges]
        self._waits: dict[int, Any] = {}

    def _prime(self) -> None:
        self._waits = {
            number: simulator.register_value_change_callback(handle, self._edge, kind, number)
            for number, (handle, kind) in enumerate(self._edges)
        }

    def _edge(self, number: int) -> None:
        del self._waits[number]
        self._unprime()
        self._react()

    def _unprime(self) -> None:
        for callback in self._waits.values():
            callback.deregister()
        self._waits.clear()
