"""The time of a run as the array model counts it, from what is seen at the pins: cycles in which a word of
the out stream or a WAIT waits are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

NEVER = 1 << 62  # a cycle that does not come
LAST_BEAT_SEEN = 2  # cycles from the last beat of a live packet to the one in which a WAIT sees it


@dataclass(frozen=True)
class Mark:
    """A cycle of the model that is looked for. `packets`: in this cycle a WAIT begins for which so many live
    packets must have come since START; 0 for anything else.
    """

    cycle: int
    packets: int = 0


class RunClock:
    """A run whose first cycle is `begin`. `follow` must be called with every cycle in which something is
    seen, before it is told.

    `marks` may be added to while the run lasts. `reached` has the cycles in which the first of them were met.
    """

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.stalls: list[tuple[int, int]] = []
        self.stood = 0  # cycles of all of these: a sum would be taken anew at every look
        self.waiting: int | None = None  # a word waits since this cycle
        self.packets: list[int] = []  # the cycles in which a WAIT sees one more
        self.marks: list[Mark] = []
        self.reached: list[int] = []
        self.waits: list[tuple[int, int]] = []  # of every WAIT that is over, if it had to wait
        self.put_off = 0  # cycles of all of these
        self.late: list[bool] = []  # whether it had to, for each mark that was reached

    def stall(self, cycle: int, waiting: bool) -> None:
        """From this cycle on a word waits, or none any more."""
        if waiting:
            self.waiting = cycle
        elif self.waiting is not None:
            if self.stalls and self.stalls[-1][1] == self.waiting:
                self.waiting, end = self.stalls.pop()
                self.stood -= end - self.waiting
            self.stalls.append((self.waiting, cycle))
            self.stood += cycle - self.waiting
            self.waiting = None

    def packet(self, cycle: int) -> None:
        """The last beat of a live packet was taken in `cycle`."""
        self.packets.append(cycle + LAST_BEAT_SEEN)

    def stalled(self, before: int) -> int:
        """Cycles earlier than `before` in which a word of the out stream waited."""
        return self.stood + (max(0, before - self.waiting) if self.waiting is not None else 0)

    def waited(self, before: int) -> int:
        """Cycles earlier than `before` in which a WAIT waited for its packets."""
        known = sum(max(0, min(go, before) - at) for at, go in self.waits)
        at = self.wait_begun(before)
        return known + (before - at if at is not None else 0)

    def wait_begun(self, cycle: int) -> int | None:
        """The cycle in which the WAIT began that still waits before `cycle`, None if there is none."""
        if len(self.reached) == len(self.marks):
            return None
        mark = self.marks[len(self.reached)]
        at = self._next(cycle)
        return at if mark.packets and at < cycle and self._seen(mark) >= cycle else None

    def follow(self, cycle: int) -> None:
        """Notes the marks that are met up to `cycle`."""
        while len(self.reached) < len(self.marks):
            mark = self.marks[len(self.reached)]
            at = self._next(cycle)
            go = max(at, self._seen(mark)) if mark.packets else at
            if go > cycle:
                return
            if go > at:
                self.waits.append((at, go))
                self.put_off += go - at
            self.reached.append(go)
            self.late.append(go > at)

    def model(self, cycle: int) -> int:
        """The cycle of the model that `cycle` is. While something waits, it stands still."""
        return cycle - self.begin - self.stalled(cycle) - self.waited(cycle)

    def clock(self, model: int, known: int) -> int:
        """The cycle that a cycle of the model will be, as far as it is known in `known`: a later wait may
        put it off, but not up to `known`.
        """
        late = self.put_off
        for mark in self.marks[len(self.reached) :]:
            if mark.packets and mark.cycle < model:
                at = self.begin + mark.cycle + self.stalled(known) + late
                late += max(0, self._seen(mark) - at)
        return self.begin + model + self.stalled(known) + late

    def _next(self, known: int) -> int:
        """The cycle of the next mark."""
        begin = self.begin + self.marks[len(self.reached)].cycle
        return begin + self.stalled(known) + self.put_off

    def _seen(self, mark: Mark) -> int:
        """The cycle in which the packets of a WAIT have come. Far away if they have not."""
        return self.packets[mark.packets - 1] if mark.packets <= len(self.packets) else NEVER
