"""Compares what the monitors saw with what the predictor says.

Fails on any difference, on anything left over, and if nothing was compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pyuvm import uvm_component, uvm_scoreboard, uvm_subscriber

from pymodel.machine.errors import ErrorCode
from pymodel.machine.faults import ProgramError
from pymodel.machine.image import Image
from pymodel.machine.model import Machine
from pymodel.machine.registers import COUNTERS
from pymodel.machine.runs import ProgramRun
from tb.common.clock import PERIOD_NS
from tb.common.loader import LoadPacket
from tb.debug import suspect
from tb.env.config import EnvConfig
from tb.env.event_queue import EventQueue
from tb.env.events import Access, Answer, Beat, Broken, Event, Level, Offer, Opened, Reset, Stall, Words
from tb.env.memory import CutPacket, ExpectedPacket
from tb.env.predictor import Prediction, Predictor, ResetSeen, Subscriber

SHOWN = 10  # messages of a failure
SHOWN_BYTES = 4  # differing bytes of a packet that get a message


@dataclass
class Compared:
    """What was compared. `bytes` are those of the out stream. `errors` are the runs and packets that were
    expected to end in an error. `live` are the packets that came while a program ran, `waited` the cycles in
    which WAITs waited for them. `late_writes` and `late_reads` are the answers that the host took late.
    """

    bytes: int = 0
    answers: int = 0
    late_writes: int = 0
    late_reads: int = 0
    counters: int = 0
    edges: int = 0
    runs: int = 0
    errors: int = 0
    mismatches: int = 0
    cycles: int = 0
    predicted_cycles: int = 0
    live: int = 0
    waited: int = 0


@dataclass(frozen=True)
class Difference:
    """A wrong byte of the out stream: pixel `pixel` of word `word` of `bank`, sent by the OUT record at
    program word `record`.
    """

    cycle: int
    start: int
    record: int
    bank: int
    word: int
    pixel: int
    expected: int
    seen: int


class Checker(Subscriber):
    """The scoreboard without its pyuvm parts.

    Other code may add to `subscribers` (tb/env/predictor.py).
    """

    def __init__(self, config: EnvConfig) -> None:
        self.predictor = Predictor(config.array, self.complain)
        self.subscribers = self.predictor.subscribers
        self.subscribers.append(self)
        self.compared = Compared()
        self.messages: list[str] = []
        self.differences: list[Difference] = []
        self.partial = bytearray()
        self.alive = False  # since the end of the first reset
        # only used to name layers and filters in messages
        self.image: Image | None = None
        self.take_kind: dict[type, Callable[..., None]] = {
            Reset: self.take_reset,
            Level: self.take_level,
            Offer: self.predictor.offer,
            Beat: self.predictor.beat,
            Stall: self.take_stall,
            Opened: self.predictor.opened,
            Words: self.take_words,
            Access: self.predictor.access,
            Answer: self.take_answer,
            Broken: self.take_broken,
        }

    def accuse(self, cycle: int) -> None:
        """Notes the last program with layers as the one that went wrong, for the search for the first wrong
        value.
        """
        last = self.predictor.memories.last
        if last is not None and not last.live:  # a replay has no live packets
            end = last.end or cycle
            machine = last.machine(self.predictor.config)
            suspect.note(
                suspect.Suspect(machine, last.start, last.begin * PERIOD_NS, end * PERIOD_NS, self.image)
            )

    def complain(self, cycle: int, what: str) -> None:
        self.messages.append(f"cycle {cycle}: {what}")

    def take(self, event: Event) -> None:
        """Takes an event. All events of earlier cycles have been taken."""
        if not self.alive:
            self.alive = isinstance(event, Reset) and not event.high
            return
        self.predictor.settle(event.cycle)
        edges = self.predictor.edges
        if edges and not isinstance(event, Level | Reset) and edges[0].cycle < event.cycle:
            missing = edges.popleft()
            self.complain(missing.cycle, f"irq did not {'rise' if missing.high else 'fall'}")
        self.take_kind[type(event)](event)

    # pins

    def take_reset(self, event: Reset) -> None:
        if event.high:
            self.predictor.reset(event.cycle)

    def take_broken(self, event: Broken) -> None:
        self.complain(event.cycle, event.what)

    def take_stall(self, event: Stall) -> None:
        self.predictor.stall(event.cycle, event.waiting)

    def take_level(self, event: Level) -> None:
        edges = self.predictor.edges
        if edges and edges[0] == event:
            edges.popleft()
            self.compared.edges += 1
        else:
            nearest = (
                f"expected to {'rise' if edges[0].high else 'fall'} in cycle {edges[0].cycle}"
                if edges
                else "which nothing explains"
            )
            self.complain(event.cycle, f"irq {'rose' if event.high else 'fell'}, {nearest}")

    # registers

    def take_answer(self, event: Answer) -> None:
        queue = self.predictor.answers[event.write]
        if not queue:
            self.complain(
                event.cycle, f"an answer to a {'write' if event.write else 'read'} that the host did not make"
            )
            return
        predicted = queue.popleft()
        self.compared.answers += 1
        self.compared.late_writes += event.write and event.waited > 0
        self.compared.late_reads += not event.write and event.waited > 0
        where = f"{'write' if event.write else 'read'} of {name_of(predicted)}"
        if event.okay != predicted.okay:
            self.complain(
                event.cycle, f"{where} was {'granted' if event.okay else 'refused'}, expected the opposite"
            )
        elif event.okay and not event.write:
            if event.data != predicted.value:
                self.complain(event.cycle, f"{where} gave {event.data:#x}, expected {predicted.value:#x}")
                self.accuse(event.cycle)
            self.count(predicted, event.data)
        for subscriber in self.subscribers:
            subscriber.register(predicted.access, event)

    def count(self, predicted: Prediction, value: int) -> None:
        """Counts the cycles of every run, when both its counters have been read."""
        if predicted.register is None or predicted.register.name not in COUNTERS:
            return
        self.compared.counters += 1
        run = predicted.run
        if run is None or not run.over:
            return
        whole = {"CYCLES", "STALL_CYCLES", "LOAD_WAIT_CYCLES"}
        had = whole <= run.read.keys()
        run.read[predicted.register.name] = value
        if not had and whole <= run.read.keys() and run.complete:
            read = run.read
            self.compared.cycles += read["CYCLES"] - read["STALL_CYCLES"] - read["LOAD_WAIT_CYCLES"]
            self.compared.waited += read["LOAD_WAIT_CYCLES"]
            self.compared.predicted_cycles += run.done.cycles

    # out stream

    def take_words(self, event: Words) -> None:
        self.partial += event.data
        if event.last:
            run, cut = self.predictor.run, self.predictor.cut
            if cut is not None:
                self.compare(event.cycle, cut.expected, whole=False, cut=cut)
            elif run is None or not run.packets:
                self.complain(event.cycle, f"a packet of {len(self.partial)} bytes that was not expected")
                self.compared.mismatches += len(self.partial)
            else:
                self.compare(event.cycle, run.packets.popleft(), whole=True)
            self.predictor.sent(event.cycle)
            self.close(cut is None)

    def close(self, whole: bool) -> None:
        packet = bytes(self.partial)
        self.partial.clear()
        for subscriber in self.subscribers:
            subscriber.sent(packet, whole)

    def compare(
        self, cycle: int, expected: ExpectedPacket, whole: bool, cut: CutPacket | None = None
    ) -> None:
        """Compares what came of a packet: all of it, what came before a reset by the pin, or what came before
        and after its run was `cut` off.
        """
        t, size, wanted = self.predictor.config.size, len(self.partial), expected.words.size
        if size > wanted or (whole and size < wanted):
            self.complain(
                cycle,
                f"packet of the OUT record at program word {expected.record}: {size} bytes came, expected"
                f" {wanted}",
            )
            self.compared.mismatches += abs(size - wanted)
        words = np.frombuffer(bytes(self.partial[: size // t * t]), np.int8).reshape(-1, t)[
            : len(expected.words)
        ]
        right, known = cut.seen(words) if cut else self.predictor.memories.seen(expected, words)
        self.compared.bytes += words.size
        if right.all():
            return
        self.compared.mismatches += int(np.count_nonzero(~right))
        self.accuse(cycle)
        run = self.predictor.run
        for number, (word, pixel) in enumerate(np.argwhere(~right).tolist()):
            found = Difference(
                cycle,
                run.start if run else 0,
                expected.record,
                expected.bank,
                expected.base + word,
                pixel,
                int(expected.words[word, pixel]),
                int(words[word, pixel]),
            )
            self.differences.append(found)
            if number < SHOWN_BYTES:
                wish = str(found.expected) if known[word] else "nothing: the word was never written"
                self.complain(cycle, f"{self.place_of(found)}: expected {wish}, seen {found.seen}")

    def place_of(self, found: Difference) -> str:
        """Layer, filter and pixel, if the image that was loaded last is known, and in any case the place of
        the byte.
        """
        address = f"bank {found.bank}, word {found.word}, pixel {found.pixel}"
        if self.image is not None:
            sent = self.image.sent_by(found.record)  # where tensors share words, the address says too little
            for name, place in self.image.placements.items():
                if self.image.reuse and name != sent:
                    continue
                for channel, (bank, base) in enumerate(zip(place.bank, place.base, strict=True)):
                    if bank == found.bank and base <= found.word < base + place.channel_words:
                        pixel = place.pixel_name((found.word - base) * place.size + found.pixel)
                        return f"layer {name}, filter {channel}, {pixel} ({address})"
        return address

    # what the predictor tells

    def program(self, machine: Machine, start: int, outcome: ProgramRun | ProgramError) -> None:  # noqa: ARG002
        self.compared.runs += 1
        self.compared.errors += isinstance(outcome, ProgramError)

    def packet(self, packet: LoadPacket) -> None:
        self.compared.errors += packet.code != ErrorCode.NONE
        self.compared.live += packet.in_run

    def reset(self, reset: ResetSeen) -> None:
        """What came of a packet that a reset has cut off must have been right. After a soft reset, its end
        follows.
        """
        if self.partial and (reset.hard or not self.predictor.open):
            run, cut = self.predictor.run, self.predictor.cut
            if cut is not None:
                self.compare(self.predictor.cycle, cut.expected, whole=False, cut=cut)
            elif run is None or not run.packets:
                self.complain(
                    self.predictor.cycle, f"{len(self.partial)} bytes of a packet that was not expected"
                )
            else:
                self.compare(self.predictor.cycle, run.packets[0], whole=False)
            self.close(False)

    # the end

    def finish(self, cycle: int) -> None:
        """At the end, nothing may be left over."""
        self.predictor.settle(cycle)
        predictor = self.predictor
        left = {
            "answers to reads": len(predictor.answers[False]),
            "answers to writes": len(predictor.answers[True]),
            "edges of irq": len(predictor.edges),
            "runs": int(predictor.run is not None),
            "packets of the out stream": len(predictor.run.packets) if predictor.run else 0,
            "bytes of a packet without tlast": len(self.partial),
            "packets of the in stream without tlast": int(predictor.loader.inside),
        }
        for what, number in left.items():
            if number:
                self.complain(cycle, f"left over: {number} {what}")

    def verdict(self, wanted: tuple[str, ...]) -> str:
        """Empty if all is well: there is no complaint, and something was compared for each of `wanted`
        (fields of `Compared`).
        """
        messages = [
            f"no {what} were compared" for what in wanted if not getattr(self.compared, what)
        ] + self.messages
        if len(messages) > SHOWN:
            messages[SHOWN:] = [f"and {len(messages) - SHOWN} more complaints"]
        if self.compared.mismatches:
            messages.insert(0, f"{self.compared.mismatches} of {self.compared.bytes} bytes differ")
        return "\n".join(messages)


def name_of(predicted: Prediction) -> str:
    return predicted.register.name if predicted.register else f"address {predicted.access.address:#04x}"


class Scoreboard(uvm_scoreboard):
    """Receives the events of all monitors through `export`.

    `checker` holds the state. `wanted` is what must have been compared.
    """

    class Inlet(uvm_subscriber):
        """The connection for the monitors' ports."""

        def __init__(self, name: str, parent: uvm_component, post: Callable[[Event], None]) -> None:
            self.post = post
            super().__init__(name, parent)

        def write(self, event: Event) -> None:
            self.post(event)

    wanted: tuple[str, ...] = ("bytes", "answers", "counters", "edges")

    def build_phase(self) -> None:
        self.checker = Checker(self.cdb_get("config"))
        self.timeline = EventQueue(self.checker.take)
        self.inlet = self.Inlet("inlet", self, self.timeline.post)
        self.export = self.inlet.analysis_export

    def extract_phase(self) -> None:
        self.timeline.flush()
        self.checker.finish(self.timeline.newest)

    def check_phase(self) -> None:
        verdict = self.checker.verdict(self.wanted)
        if verdict:
            raise AssertionError(verdict)
