"""What happens in every cycle for a while, without a coroutine that wakes for it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from cocotb import simulator
from cocotb.triggers import GPITrigger


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
