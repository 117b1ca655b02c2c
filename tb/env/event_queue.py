"""Sorts the reports of several monitors by clock cycle."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from tb.env.events import ORDER, Event

# A change after a clock edge is reported with the number of the next edge. After that, a monitor may still
# report what the first edge saw.
LAG = 1


class EventQueue:
    """Collects events and passes them on in the order of cycles, and within a cycle in the order of kinds
    (tb/env/events.py). It passes an event on when no earlier one can come.
    """

    def __init__(self, take: Callable[[Event], None]) -> None:
        self.take = take
        self.heap: list[tuple[int, int, int, Event]] = []
        self.number = count()
        self.newest = 0

    def post(self, event: Event) -> None:
        cycle = event.cycle
        if cycle > self.newest:
            self.newest = cycle
            self.pass_on(cycle - LAG)
        heapq.heappush(self.heap, (cycle, ORDER[type(event)], next(self.number), event))

    def pass_on(self, before: int) -> None:
        """Passes on all events of cycles earlier than `before`."""
        while self.heap and self.heap[0][0] < before:
            self.take(heapq.heappop(self.heap)[3])

    def flush(self) -> None:
        """Passes on the rest."""
        self.pass_on(self.newest + 1)
