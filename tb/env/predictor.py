"""Predicts the machine as a host sees it, cycle by cycle: registers, interrupt, errors, runs and counters. It
uses only what was seen at the pins.

`settle(cycle)` updates everything that can be read to that cycle. A change that an event causes becomes
visible a cycle or two later. Until then it waits as an effect. The latencies are those of rtl/psa_regs.v.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import ErrorCode
from pymodel.machine.faults import ProgramError
from pymodel.machine.memory import HOLD, LIVE, Hold, read_header
from pymodel.machine.model import Machine
from pymodel.machine.program import Layer, Wait
from pymodel.machine.registers import COUNTERS, REGISTERS, Register, build_values
from pymodel.machine.runs import ProgramRun
from pymodel.machine.timing import OFFER_CYCLES, RECORD_CYCLES
from tb.common.loader import Loader, LoadPacket
from tb.common.run_clock import NEVER, Mark, RunClock
from tb.env.events import Access, Answer, Beat, Level, Offer, Opened
from tb.env.memory import CutPacket, Execution, ExpectedPacket, Memories
from tb.env.progress import Progress
from tb.plain.host import DONE, ERROR, LOAD_RESET, SOFT_RESET, START

BY_ADDRESS = {r.address: r for r in REGISTERS.values()}

# Cycles after the one in which an access or a beat was taken
WRITTEN = 1  # a register shows what was written to it, STATUS shows BUSY and ERROR
RUNNING = 2  # the program's first cycle: counters begin from zero
CLEARED = 2  # a soft reset shows
# Cycles after the last one of a run
ENDED = 1
# From the beat that is a load error to the end of the run that it stops
STOPPED = 2

# Effects of one cycle, in the order in which they take place. An event wins over a clear, and a reset wins
# over everything. What must have happened is looked at behind them.
CLEAR, SET, RESET, LOOK = range(4)


@dataclass(frozen=True)
class ResetSeen:
    """A reset, for subscribers. `offset` is the cycle of the run in which it came; cycles in which a word
    waited to be sent, or a WAIT for packets, are not counted. `run` is what that run would have done, if that
    is known. Both are None if no program was running. `stopped`: an error had stopped the run before.
    `waiting`: a WAIT waited for packets.
    """

    hard: bool
    offset: int | None
    run: ProgramRun | ProgramError | None
    start: int
    loading: bool
    stopped: bool
    waiting: bool = False


class Subscriber:
    """Receives what the scoreboard saw and predicted. Functional coverage is one.

    Each method may be left empty.
    """

    def program(self, machine: Machine, start: int, outcome: ProgramRun | ProgramError) -> None:
        """A program was started and predicted. `machine` holds the memories after it."""

    def waits(self, machine: Machine, start: int, run: ProgramRun) -> None:
        """A program was predicted up to a WAIT whose packets have not come."""

    def register(self, access: Access, answer: Answer) -> None:
        """A register access and its answer."""

    def packet(self, packet: LoadPacket) -> None:
        """A packet of the load stream ended, or was cut off."""

    def sent(self, packet: bytes, whole: bool) -> None:
        """A packet of the out stream ended, or was cut off."""

    def reset(self, reset: ResetSeen) -> None:
        """A reset took effect."""


@dataclass
class Prediction:
    """The expected answer.

    `value` is that of a read. `run` is set if the value is a counter of a run that has ended.
    """

    access: Access
    register: Register | None
    okay: bool
    value: int = 0
    run: ActiveRun | None = None


@dataclass
class ActiveRun:
    """A run. `accepted` is the cycle in which START was taken, `end` the cycle in which its end is visible.
    `packets` are those that have not come yet, as far as they are known. `read` collects the counters that
    were read after it.
    """

    start: int
    accepted: int
    execution: Execution
    clock: RunClock
    packets: deque[ExpectedPacket] = field(default_factory=deque)
    told: int = 0  # packets and records that are known
    known: int = 0
    needed: int = 0  # live packets by all WAITs that are known
    layers: list[int] = field(default_factory=list)  # their marks in `clock`
    held: int = 0  # layers that HOLDs have taken
    found: bool = False  # the error shows
    killed: int | None = None  # the cycle in which a load error ends it
    end: int | None = None
    progress: Progress | None = None  # once it has been asked for
    read: dict[str, int] = field(default_factory=dict)

    @property
    def outcome(self) -> ProgramRun | ProgramError | None:
        """None while it waits for packets."""
        return self.execution.outcome

    @property
    def complete(self) -> bool:
        """Whether it came to its END."""
        return self.end is not None and self.end != self.killed and isinstance(self.outcome, ProgramRun)

    @property
    def over(self) -> bool:
        return self.end is not None

    @property
    def done(self) -> ProgramRun:
        """What was done up to the end, or up to the record that has the error."""
        return self.execution.run


class Predictor:
    """The state that the machine must show. Complaints go to `complain`."""

    def __init__(self, config: ArrayConfig, complain: Callable[[int, str], None]) -> None:
        self.config = config
        self.complain = complain
        self.memories = Memories(config)
        self.loader = Loader(config)
        self.subscribers: list[Subscriber] = []
        self.fixed = {r.name: r.reset for r in REGISTERS.values() if r.reset is not None} | build_values(
            config
        )
        self.effects: list[tuple[int, int, int, Callable[[], None]]] = []
        self.number = count()
        self.answers: dict[bool, deque[Prediction]] = {True: deque(), False: deque()}
        self.edges: deque[Level] = deque()  # of the interrupt pin, not seen yet
        self.pin = False
        self.offered: Offer | None = None
        self.forget()

    def forget(self) -> None:
        """Clears everything that the reset pin clears."""
        self.values = {"IRQ_ENABLE": 0, "PROGRAM_START": 0}
        self.status = 0  # IRQ_STATUS
        self.resets = 0
        self.error = 0
        self.error_cycle = -1
        self.busy = False
        self.counts = False  # the packet that is being loaded began while a program ran
        self.run: ActiveRun | None = None
        self.ended: ActiveRun | None = None  # the run that the counters are of
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.counting = False
        self.last_beat = -1
        self.open = False  # a packet of the out stream
        self.last_word = -1  # the cycle in which the last one ended
        self.cut: CutPacket | None = None  # the packet that is open, if its run has been cut off
        self.closed = -1  # the cycle in which a soft reset closes the in stream
        self.want = False
        self.cleared = False

    # time

    def later(self, cycle: int, order: int, effect: Callable[[], None]) -> None:
        heapq.heappush(self.effects, (cycle, order, next(self.number), effect))

    def settle(self, cycle: int) -> None:
        """Applies all effects that are visible in `cycle`."""
        if self.run is not None:
            self.run.clock.follow(cycle)
        while True:
            end = self.run_shows(cycle)
            if end <= min(cycle, self.effects[0][0] if self.effects else NEVER):
                self.later(end, SET, self.end_run)
            if not self.effects or self.effects[0][0] > cycle:
                return
            self.group(self.effects[0][0])

    def group(self, cycle: int) -> None:
        """Applies all effects of one cycle. The interrupt pin follows its registers a cycle later."""
        self.cycle = cycle
        level = self.want
        while self.effects and self.effects[0][0] == cycle:
            heapq.heappop(self.effects)[3]()
        if self.cleared:
            level = self.cleared = False
        if level != self.pin:
            self.pin = level
            self.edges.append(Level(cycle, level))
        self.want = bool(self.status & self.values["IRQ_ENABLE"])
        if self.want != self.pin:
            self.later(cycle + 1, CLEAR, lambda: None)

    # runs

    def run_shows(self, cycle: int) -> int:
        """The next cycle in which the run changes what can be read, as far as this is known in `cycle`."""
        run = self.run
        if run is None:
            return NEVER
        end = NEVER
        if run.outcome is None:
            end = self.deadlock(run, cycle) + ENDED
        elif isinstance(run.outcome, ProgramError) and not run.found:
            end = run.clock.clock(run.outcome.cycle, cycle) + ENDED
        else:
            end = run.clock.clock(run.outcome.cycles - 1, cycle) + ENDED
        return end if run.killed is None else min(end, run.killed)

    def deadlock(self, run: ActiveRun, cycle: int) -> int:
        """The cycle in which the program waits for packets and the stream for the program, if that is known
        in `cycle`.
        """
        begun = run.clock.wait_begun(cycle)
        if begun is None or self.offered is None or self.loader.inside or self.error:
            return NEVER
        data = self.offered.data
        assert data is not None
        header = read_header(data)
        waits = header.destination == HOLD and run.held + header.words > len(run.layers)
        if header.destination & LIVE and not waits:
            return NEVER
        counted = [run.clock.reached[mark] + self.leaving + 1 for mark in run.layers]
        return max(begun, self.offered.cycle, *counted, *run.clock.packets[-1:])

    @property
    def leaving(self) -> int:
        """Cycles from the last one of a LAYER in the sequencer to the one in which it counts as passed."""
        return 2 * self.config.size + 15

    def end_run(self) -> None:
        """Called when the run has ended, or its error is visible."""
        run = self.run
        assert run is not None
        if self.cycle == run.killed:
            self.counters = self.cycles(run, self.cycle) | self.progress(run, self.cycle)
            self.abort()
            return
        outcome = run.outcome or run.execution.deadlock()
        error = outcome if isinstance(outcome, ProgramError) else None
        if error is None:
            self.event(DONE)
        elif not run.found:
            run.found = True
            self.set_error(error.code, error.info)
            if error.cycles > error.cycle + 1:
                return  # it continues for a cycle
        if run.packets:
            self.complain(
                self.cycle,
                f"the program at {run.start} has ended, and {len(run.packets)} packets of it never came",
            )
        if error is None:
            self.counters = self.cycles(run, self.cycle) | self.totals(run)
        else:
            self.counters = self.cycles(run, self.cycle) | self.progress(run, self.cycle)
        self.stop(run)

    def stop(self, run: ActiveRun) -> None:
        run.end = self.cycle
        last = self.memories.last
        if last is not None and last.begin == run.accepted:
            last.end = self.cycle
        self.busy = self.counting = False
        self.run, self.ended = None, run

    def cycles(self, run: ActiveRun, cycle: int) -> dict[str, int]:
        """The counters of cycles as read in `cycle`, while the run lasts."""
        return {
            "CYCLES": cycle - run.accepted - RUNNING,
            "STALL_CYCLES": run.clock.stalled(cycle),
            "LOAD_WAIT_CYCLES": run.clock.waited(cycle),
        }

    @staticmethod
    def totals(run: ActiveRun) -> dict[str, int]:
        """The other counters, for a run that reached its end."""
        return {"BUSY_CYCLES": run.done.busy_cycles, "SLOT_ROWS": run.done.slot_rows, "WORDS": run.done.words}

    def progress(self, run: ActiveRun, cycle: int) -> dict[str, int]:
        """The other counters as read in `cycle`, while the run lasts."""
        return self.followed(run).counts(run.clock.model(cycle))

    def followed(self, run: ActiveRun) -> Progress:
        """The progress of the records that are known."""
        if run.progress is None:
            run.progress = Progress(self.memories.machine)
        outcome, records = run.outcome, run.execution.run.records
        if isinstance(outcome, ProgramError):
            run.progress.follow(records, outcome.cycles, outcome.cycle + 1)
        else:
            run.progress.follow(records)
        if run.killed is not None:
            stop = run.clock.model(run.killed - STOPPED + WRITTEN)
            run.progress.written = min(run.progress.written, stop)
        return run.progress

    def counter(self, name: str, cycle: int) -> int:
        """A counter as read in `cycle`."""
        run = self.run
        if run is None or not self.counting:
            return self.counters[name]
        cycles = self.cycles(run, cycle)
        return cycles[name] if name in cycles else self.progress(run, cycle)[name]

    def start_run(self, cycle: int) -> None:
        start = self.values["PROGRAM_START"]
        run = ActiveRun(start, cycle, self.memories.start(start, cycle), RunClock(cycle + RUNNING))
        self.later(cycle + WRITTEN, SET, self.set_busy)
        self.later(cycle + RUNNING, SET, self.count_from_zero)
        self.run, self.ended = run, None
        self.learn(run)

    def learn(self, run: ActiveRun) -> None:
        """More of a run is known: its packets, and its cycles up to a WAIT for packets or to the end."""
        execution = run.execution
        run.packets.extend(execution.packets[run.told :])
        run.told = len(execution.packets)
        for ran in execution.run.records[run.known :]:
            if isinstance(ran.record, Layer) and len(run.layers) < len(execution.run.layers):
                last = ran.cycle + execution.run.layers[len(run.layers)].cycles - 1
                run.layers.append(len(run.clock.marks))
                run.clock.marks.append(Mark(last))
            elif isinstance(ran.record, Wait):
                run.needed += ran.record.packets
                run.clock.marks.append(Mark(ran.cycle + RECORD_CYCLES, run.needed))
        run.known = len(execution.run.records)
        for subscriber in self.subscribers:
            if execution.outcome is None:
                subscriber.waits(self.memories.machine, run.start, execution.run)
            else:
                subscriber.program(self.memories.machine, run.start, execution.outcome)

    def set_busy(self) -> None:
        self.busy = True

    def count_from_zero(self) -> None:
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.counting = True

    def set_error(self, code: ErrorCode, info: int) -> None:
        """Sets an error. The first error stays, and of two in one cycle that of the higher code."""
        if not self.error or (self.error_cycle == self.cycle and code > self.error & 0xFF):
            self.error = code | info << 8
            self.error_cycle = self.cycle
            self.event(ERROR)

    def event(self, bit: int) -> None:
        """Sets a bit of IRQ_STATUS, a cycle after what it tells of shows. A reset takes back what does not
        show yet.
        """

        def show(resets: int = self.resets) -> None:
            if self.resets == resets:
                self.status |= bit

        self.later(self.cycle + 1, SET, show)

    # resets

    def soft_reset(self, anew: bool) -> None:
        """The effects of a soft reset, when they become visible. `anew`: the host begins its load stream
        anew, too.
        """
        self.tell_reset(hard=False)
        self.abort()
        self.error = self.status = 0
        self.resets += 1
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.ended = None
        self.cleared = True
        self.counts = False
        if anew:
            self.loader.start_anew()
        else:
            self.loader.soft_reset()
        self.load()

    def hard_reset(self) -> None:
        """The effects of the reset pin, when they become visible."""
        self.tell_reset(hard=True)
        self.abort()
        self.loader.start_anew()
        self.load()
        self.effects = [e for e in self.effects if e[0] == self.cycle]
        for queue in self.answers.values():
            queue.clear()
        self.forget()
        self.cleared = True

    def abort(self) -> None:
        """Ends the run, if there is one, before its end."""
        if self.run is not None:
            if self.open and self.run.packets:
                self.cut = self.memories.cut(self.run.packets[0])
            self.memories.abort()
            self.run.packets.clear()
            self.stop(self.run)

    def tell_reset(self, hard: bool) -> None:
        run, counters = self.run, self.counters
        if run is not None:
            counters = self.cycles(run, self.cycle)
        elif self.ended is not None and self.ended.end == self.cycle:
            run = self.ended  # the reset came in its last cycle
        delays = counters["STALL_CYCLES"] + counters["LOAD_WAIT_CYCLES"]
        offset = None if run is None else counters["CYCLES"] - delays - 1
        stopped = self.ended is not None and not self.ended.complete
        waiting = self.run is not None and self.run.clock.wait_begun(self.cycle) is not None
        seen = ResetSeen(
            hard,
            offset,
            run.outcome if run else None,
            run.start if run else 0,
            self.loader.inside,
            stopped,
            waiting,
        )
        for subscriber in self.subscribers:
            subscriber.reset(seen)

    # events

    def reset(self, cycle: int) -> None:
        """The reset pin is high in `cycle`."""
        self.later(cycle + 1, RESET, self.hard_reset)

    def offer(self, event: Offer) -> None:
        self.offered = event if event.data is not None else None
        if event.data is None or self.loader.inside or self.error or event.cycle == self.closed:
            return
        run = self.run
        free = run is not None and event.cycle > run.accepted + WRITTEN
        if free and self.busy and event.data & LIVE and read_header(event.data).destination != HOLD:
            self.later(event.cycle + OFFER_CYCLES + 1, LOOK, partial(self.still_offered, event))

    def still_offered(self, event: Offer) -> None:
        """The header of a live packet was to be taken in the cycle before."""
        if self.offered is event and self.busy and not self.error and self.closed != self.cycle - 1:
            self.complain(event.cycle, "a live packet has to wait while a program runs")

    def beat(self, event: Beat) -> None:
        run = self.run
        if not self.loader.inside:
            free = run is not None and event.cycle > run.accepted + WRITTEN and event.data & LIVE
            if self.error:
                self.complain(event.cycle, "a packet began while an error stands")
            elif self.busy and not free:
                self.complain(event.cycle, "a packet began while a program runs")
            self.counts = self.busy
        if event.cycle == self.closed:
            self.complain(event.cycle, "a beat was taken in the cycle of a soft reset")
        self.last_beat = event.cycle
        begins = not self.loader.inside
        code = self.loader.beat(event.data, event.last)
        if code:
            self.later(event.cycle + WRITTEN, SET, partial(self.set_error, code, self.loader.info))
            if run is not None and self.busy:
                run.killed = event.cycle + STOPPED
        elif begins and self.loader.hold and self.busy and run is not None:
            self.hold(run, event.cycle, self.loader.words)
        self.load()
        packet = self.loader.packet
        if packet is not None and self.counts and not code and not self.loader.hold and run is not None:
            run.clock.packet(event.cycle)
            if run.execution.waiting is not None:
                before = run.execution.waiting.cycle
                run.execution.go_on()
                if run.execution.waiting is None or run.execution.waiting.cycle != before:
                    self.learn(run)

    def hold(self, run: ActiveRun, cycle: int, layers: int) -> None:
        """A HOLD was taken in `cycle`."""
        passed = sum(
            run.clock.reached[mark] + self.leaving < cycle
            for mark in run.layers
            if mark < len(run.clock.reached)
        )
        if run.held + layers > passed:
            self.complain(
                cycle, f"a HOLD for {layers} layers was taken when {passed - run.held} had passed since"
            )
        run.held += layers
        if run.execution.waiting is not None:
            run.execution.live.items.append(Hold(layers))

    def load(self) -> None:
        """Puts what the loader has written into the memories."""
        packet = self.loader.packet
        in_run = self.counts and self.run is not None
        if self.loader.section is not None:
            if in_run and self.run is not None:
                self.followed(self.run)  # with the tables as they were
            whole = in_run and packet is not None and packet.code == ErrorCode.NONE and not packet.cut
            self.memories.load(self.loader.section, live=whole)
        if packet is not None:
            for subscriber in self.subscribers:
                subscriber.packet(replace(packet, in_run=in_run))

    def loading(self, cycle: int) -> bool:
        return self.loader.inside or self.last_beat == cycle

    def opened(self, event: Opened) -> None:  # noqa: ARG002
        """A packet of the out stream begins."""
        self.open = True

    def sent(self, cycle: int) -> None:
        """The last word of a packet was taken."""
        self.open, self.last_word, self.cut = False, cycle, None

    def sending(self, cycle: int) -> bool:
        return self.open or self.last_word == cycle

    def stall(self, cycle: int, waiting: bool) -> None:
        if self.run is not None:
            self.run.clock.stall(cycle, waiting)

    def access(self, access: Access) -> None:
        register = BY_ADDRESS.get(access.address & ~3)
        predicted = self.write(access, register) if access.write else self.read(access, register)
        self.answers[access.write].append(predicted)

    def write(self, access: Access, register: Register | None) -> Prediction:
        if register is None or not register.writable:
            return Prediction(access, register, False)
        mask = sum(0xFF << 8 * i for i in range(4) if access.strobe >> i & 1)
        mask &= sum(part.mask for part in register.fields.values())
        value, shows = access.data & mask, access.cycle + WRITTEN
        if register.name == "CONTROL":
            return Prediction(access, register, self.control(access.cycle, value))
        if register.access == "W1C":
            self.later(shows, CLEAR, partial(self.clear, value))
        else:
            self.later(shows, CLEAR, partial(self.store, register.name, value, mask))
        return Prediction(access, register, True)

    def clear(self, bits: int) -> None:
        self.status &= ~bits

    def store(self, name: str, value: int, mask: int) -> None:
        self.values[name] = self.values[name] & ~mask | value

    def control(self, cycle: int, value: int) -> bool:
        """A write to CONTROL. Returns whether it is granted."""
        if value & START:
            held = self.busy or self.error or self.loading(cycle) or self.sending(cycle)
            if value & (SOFT_RESET | LOAD_RESET) or held:
                return False
            self.start_run(cycle)
        elif value & SOFT_RESET:
            self.closed = cycle + 1
            self.later(cycle + CLEARED, RESET, partial(self.soft_reset, bool(value & LOAD_RESET)))
        return not value & LOAD_RESET or bool(value & SOFT_RESET)

    def read(self, access: Access, register: Register | None) -> Prediction:
        if register is None:
            return Prediction(access, None, False)
        name = register.name
        if name in COUNTERS:
            return Prediction(access, register, True, self.counter(name, access.cycle), self.ended)
        if name == "STATUS":
            fields = {
                "BUSY": self.busy,
                "LOADING": self.loading(access.cycle),
                "ERROR": self.error != 0,
                "SENDING": self.sending(access.cycle) and not self.busy,
            }
            value = sum(register.fields[key].put(int(on)) for key, on in fields.items())
        else:
            shown = {"ERROR": self.error, "IRQ_STATUS": self.status, "CONTROL": 0} | self.values
            value = shown[name] if name in shown else self.fixed[name]
        return Prediction(access, register, True, value)
