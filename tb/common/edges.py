"""What happens in every cycle for a while, without a coroutine that wakes for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cocotb import simulator
from cocotb.triggers import GPITrigger


class WhileEdges(GPITrigger):
    """Calls `look` at every rising edge of a clock for as long as it returns True, and fires at the edge at
    which it does not.

    `look` reads signals as they are at the edge; it must not drive any, and must not raise.
    """

    def __init__(self, clock: Any, look: Callable[[], bool]) -> None:
        super().__init__()
        self._clock = clock._handle
        self._look = look

    def _prime(self) -> None:
        self._cbhdl = simulator.register_value_change_callback(self._clock, self._edge, simulator.RISING)

    def _edge(self) -> None:
        if self._look():
            self._prime()
        else:
            self._react()
