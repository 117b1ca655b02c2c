"""AXI4-Stream: a source that drives beats and a sink that collects packets. Both sleep while no signal
changes.

Both act on a rising clock edge: they read what the edge sees, then drive what the next edge will see.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from cocotb.types import Logic, LogicArray

from pymodel.machine.memory import Beats, from_beats
from tb.common.edges import Next, WhileEdges
from tb.common.pins import ONE, bits, joined, known

LOW, HIGH = Logic("0"), Logic("1")


class StreamStalledError(Exception):
    """The other side was not ready for longer than the source's patience."""


class StreamRuleError(Exception):
    """The design broke a rule of AXI4-Stream, or sent X."""


class StreamSource:
    """Drives packets into `<name>_t*`.

    `rate` is the probability that a free cycle carries a beat; 1.0 sends without gaps. While tvalid is low,
    the payload is X if the simulator knows X (`four_state`), else random. `patience`: how many cycles a beat
    may wait for tready. A subclass may have other `gaps`.
    """

    def __init__(
        self,
        dut: Any,
        name: str,
        clock: Any,
        rng: np.random.Generator,
        *,
        four_state: bool,
        rate: float = 1.0,
        patience: int = 2000,
    ) -> None:
        self.data = getattr(dut, f"{name}_tdata")
        self.valid = getattr(dut, f"{name}_tvalid")
        self.ready = getattr(dut, f"{name}_tready")
        self.last = getattr(dut, f"{name}_tlast")
        self.edge = RisingEdge(clock)
        self.taken = bits(self.ready)
        self.rng = rng
        self.width = len(self.data)
        self.unknown = (LogicArray("X" * self.width), Logic("X")) if four_state else None
        self.rate = rate
        self.patience = patience
        self.stopped = self.ending = False
        self.idle()

    def idle(self) -> None:
        """Drives no beat, with garbage as payload."""
        self.valid.value = 0
        garbage = self.unknown or (
            int.from_bytes(self.rng.bytes(self.width // 8), "little"),
            int(self.rng.integers(2)),
        )
        self.data.value, self.last.value = garbage
        self._last: bool | None = None  # of the beat that is driven

    def gaps(self) -> Iterator[None]:
        """One for each idle cycle before the next beat. What is random is drawn cycle by cycle."""
        while self.rate < 1.0 and self.rng.random() >= self.rate:
            yield

    def stop(self) -> None:
        """Stops sending the current packets, for a reset by the pin."""
        self.stopped = True

    def end(self) -> None:
        """Sends no further packet. A header that has not been taken is withdrawn; a packet that has begun is
        sent to its end.
        """
        self.ending = True

    async def send(self, *packets: Beats, last: bool = True, patience: int | None = None) -> None:
        """Sends packets back to back. `last=False` leaves out tlast: the packets are pieces of one packet
        that continues.

        If `patience` runs out (by default the source's own), withdraws the beat and raises
        `StreamStalledError`.
        """
        self.stopped = self.ending = False
        patience = self.patience if patience is None else patience
        await self.edge
        try:
            for packet in packets:
                beats = from_beats(packet)  # Python's own integers: no conversion per beat
                end = len(beats) - 1
                for index, beat in enumerate(beats):
                    for _ in self.gaps():
                        self.idle()
                        await self.edge
                    if self.stopped or (self.ending and index == 0):
                        return
                    self._drive(beat, last and index == end)
                    await self._accepted(index, patience)
                    if self.stopped or (self.ending and index == 0 and self.taken() != ONE):
                        return
                if self.ending:
                    return
        finally:
            self.idle()

    def _drive(self, beat: int, last: bool) -> None:
        """Drives a beat. What a signal has already is not driven again, because that takes time, too."""
        self.data.value = beat
        if self._last is None:
            self.valid.value = 1
        if last is not self._last:
            self.last.value = int(last)
        self._last = last

    async def _accepted(self, index: int, patience: int) -> None:
        for _ in range(patience):
            await self.edge
            if self.taken() == ONE or self.stopped or (self.ending and index == 0):
                return
        raise StreamStalledError(f"beat {index} of a packet waited {patience} cycles for {self.ready._name}")


class StreamSink:
    """Collects packets from `<name>_t*`, each as its bytes, first pixel first. `rate` is the probability that
    it is ready in a cycle.

    It fails the test if a word holds X, or if a waiting word changes or disappears.
    """

    def __init__(
        self, dut: Any, name: str, clock: Any, rng: np.random.Generator, *, rate: float = 1.0
    ) -> None:
        self.data = getattr(dut, f"{name}_tdata")
        self.valid = getattr(dut, f"{name}_tvalid")
        self.ready = getattr(dut, f"{name}_tready")
        self.last = getattr(dut, f"{name}_tlast")
        self.clock, self.edge = clock, RisingEdge(clock)
        self.rng = rng
        self.rate = rate
        self.packets: list[bytes] = []
        self.partial: list[str] = []  # words of the open packet, as bits
        self.watch = True  # off while a reset may withdraw a waiting word
        self._waiting: tuple[str, str] | None = None
        self._ready: bool | None = None
        self._drive_ready()
        cocotb.start_soon(self._collect())

    def clear(self) -> None:
        """Forgets what came, and watches again. Called after a reset."""
        self.watch = True
        self.partial.clear()
        self._waiting = None
        self.packets.clear()

    def take(self) -> list[bytes]:
        """The complete packets that came since the last call.

        Raises `StreamRuleError` if a packet is still open.
        """
        if self.partial:
            raise StreamRuleError(f"{len(self.partial)} words of a packet without {self.last._name}")
        packets, self.packets = self.packets, []
        return packets

    async def drained(self) -> None:
        """Wait until no word waits to be taken."""
        valid = bits(self.valid)
        await self.edge
        while valid() == ONE:
            await self.edge

    def _drive_ready(self) -> None:
        ready = self.rate >= 1.0 or self.rng.random() < self.rate
        if ready != self._ready:
            self.ready.value = int(ready)
        self._ready = ready

    async def _collect(self) -> None:
        valid, data, last = bits(self.valid), bits(self.data), bits(self.last)

        def ordinary() -> Next:
            """Takes a word that does not wait, by a sink that is always ready."""
            if self._waiting is not None:
                return Next.WAKE
            if valid() != ONE:
                return Next.SLEEP
            if self.rate < 1.0 or not self._ready:
                return Next.WAKE
            word, end = data(), last()
            if not known(word + end):
                return Next.WAKE
            self._take(word, end)
            return Next.EDGE

        edge = WhileEdges(self.clock, ordinary, self.valid)
        while True:
            await edge
            if valid() != ONE:
                if self.watch:
                    raise StreamRuleError(f"{self.valid._name} fell before the word was taken")
                self._waiting = None
                continue
            word = data(), last()
            if not known(word[0] + word[1]):
                names = self.data._name, self.last._name
                raise StreamRuleError(f"{names[0]} = {word[0]}, {names[1]} = {word[1]} while valid")
            if self._waiting is not None and word != self._waiting and self.watch:
                raise StreamRuleError(f"{self.data._name} changed before the word was taken")
            self._waiting = None if self._ready else word
            if self._ready:
                self._take(*word)
            if self.rate < 1.0 or not self._ready:  # `rate` may be set at any time
                self._drive_ready()

    def _take(self, word: str, last: str) -> None:
        self.partial.append(word)
        if last == ONE:
            self.packets.append(joined(self.partial))
            self.partial.clear()
