"""Brings what several monitors report into the order of the clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from tb.env.events import ORDER, Event

# A change behind a clock edge is reported with the number of the next one, before some monitor has reported
# what the first edge saw.
LAG = 1


class EventQueue:
    """Collects events and hands them on by cycle, and within a cycle by kind (tb/env/events.py), once no
    earlier one can come.
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
        """Hands on all events of cycles earlier than `before`."""
        while self.heap and self.heap[0][0] < before:
            self.take(heapq.heappop(self.heap)[3])

    def flush(self) -> None:
        """Hands on the rest."""
        self.pass_on(self.newest + 1)
