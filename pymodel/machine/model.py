"""The machine as a program sees it: runs an image the way the hardware does and predicts its cycles exactly.

Unlike `reference`, this follows the packed image: lanes, groups, bundles, slots and passes. It knows nothing
of convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pymodel.machine.errors import ErrorCode
from pymodel.machine.faults import EndlessError, Faults, ProgramError, StarvedError
from pymodel.machine.layer import LayerExecution
from pymodel.machine.live import LiveStream
from pymodel.machine.memory import Live
from pymodel.machine.program import MAXIMUM, SUM, End, Jump, Layer, Legal, Out, Unknown, Wait, decode
from pymodel.machine.runs import LayerRun, ProgramRun, Ran
from pymodel.machine.state import MachineState
from pymodel.machine.timing import OUT_LATENCY, RECORD_CYCLES, TILE_CYCLES, WAIT_CYCLES


@dataclass(frozen=True)
class Waiting:
    """A program has come to a WAIT, the record at word `pc`, and its stream has too few packets. `cycle`: the
    first cycle of the run in which it waits.
    """

    pc: int
    wait: Wait
    cycle: int


class Machine(MachineState):
    """The memories of the array, and what runs a program on them.

    `observer` is called with the machine and each layer that has run, while the memories hold what it used:
    live packets may write other words there.
    """

    observer: Callable[[Machine, Layer, LayerRun], object] | None = None

    def run(self, start: int = 0, *, stream: Iterable[Live] = (), trace: bool = False) -> ProgramRun:
        """Runs from a program address to END, while `stream` is loaded.

        Raises `ProgramError` where the hardware would stop, `UndefinedReadError` for too small a gap, for a
        layer that reads what it writes and for a word that a live packet may be writing, `StarvedError` and
        `EndlessError` where the hardware would not come to an end.

        With `trace`, keeps the bundles and the partial sums of every pass after each row of the array, and
        what was written.
        """
        run = ProgramRun()
        for waiting in self.steps(start, run, LiveStream(self, stream), trace):
            raise StarvedError(
                f"the WAIT at program word {waiting.pc} needs {waiting.wait.packets} packets, the live stream"
                " has fewer"
            )
        return run

    def steps(self, start: int, run: ProgramRun, live: LiveStream, trace: bool = False) -> Iterator[Waiting]:
        """As `run`, into `run`, but stops at every WAIT for which the stream has too few packets. Goes on
        when packets have been added to the stream.
        """
        self.forget_writes()
        try:
            yield from self._program(start, run, live, trace)
        except ProgramError as error:
            error.run = run
            raise
        live.rest()

    def _program(self, start: int, run: ProgramRun, live: LiveStream, trace: bool) -> Iterator[Waiting]:
        pc = start
        faults = Faults()
        followed = False
        jumped: set[int] = set()  # from these words, since the last WAIT
        while True:
            faults.begin = run.cycles
            run.cycles += RECORD_CYCLES
            live.fetch(pc)
            record = self._record(pc, followed, faults)
            run.records.append(Ran(pc, record, faults.begin))
            match record:
                case End():
                    return
                case Layer() as layer:
                    self._layer(pc, layer, run, faults, live, trace)
                    followed = layer.gap > 0
                case Out() as out:
                    live.use(out)
                    self._out(pc, out, run, faults)
                case Wait() as wait:
                    while not live.wait(pc, wait, faults):
                        yield Waiting(pc, wait, run.cycles)
                    run.cycles += WAIT_CYCLES
                    jumped.clear()
                case Jump() as jump:
                    if pc in jumped:
                        raise EndlessError(f"the program comes back to the JUMP at word {pc} without a WAIT")
                    jumped.add(pc)
                    pc = jump.target
                    continue
            pc += 1

    def _record(self, pc: int, followed: bool, faults: Faults) -> Legal:
        """A word of PROGRAM; `followed`: the record before is a LAYER with a gap."""
        depth = self.config.program_depth
        if pc >= depth:
            faults.refuse(ErrorCode.PROGRAM_RANGE, pc, f"program word {pc}, the memory has {depth}", 0)
        record = decode(self.memory["PROGRAM"][pc, 0])
        if isinstance(record, Unknown):
            faults.refuse(ErrorCode.PROGRAM_OPCODE, pc, f"opcode {record.opcode}", 1)
        if followed and isinstance(record, Out | End):
            faults.refuse(ErrorCode.PROGRAM_FIELD, pc, "only a LAYER may follow a LAYER with a gap", 1)
        if isinstance(record, Wait) and record.packets == 0:
            faults.refuse(ErrorCode.PROGRAM_FIELD, pc, "WAIT for no packets", 1)
        return record

    def _out(self, pc: int, out: Out, run: ProgramRun, faults: Faults) -> None:
        cfg = self.config
        if out.bank >= cfg.group or out.words == 0 or out.base + out.words > cfg.feature_depth:
            what = f"OUT of {out.words} words from word {out.base} of bank {out.bank}"
            faults.refuse(ErrorCode.PROGRAM_FIELD, pc, what, 1)
        run.packets.append(self.read_feature(out.bank, out.base, out.words).copy())
        run.cycles += out.words + OUT_LATENCY

    def _layer(
        self, pc: int, layer: Layer, run: ProgramRun, faults: Faults, live: LiveStream, trace: bool
    ) -> None:
        cfg = self.config
        if 0 in (layer.words, layer.phases, layer.chunk_words, layer.tiles):
            faults.refuse(ErrorCode.PROGRAM_FIELD, pc, f"a count is zero in {layer}", 1)
        if layer.chunk_words > cfg.acc_words or layer.tile_base + layer.tiles > cfg.tile_depth:
            faults.refuse(ErrorCode.PROGRAM_FIELD, pc, f"chunk_words or tiles too large in {layer}", 1)
        if layer.mode not in (SUM, MAXIMUM):
            faults.refuse(ErrorCode.PROGRAM_FIELD, pc, f"mode is none in {layer}", 1)
        faults.begin = run.cycles + TILE_CYCLES
        live.use(layer)
        counts = LayerExecution(self, pc, layer, faults, trace, live.pixels()).run()
        live.passed += 1
        run.cycles += counts.cycles - RECORD_CYCLES
        run.busy_cycles += counts.run_cycles
        run.slot_rows += counts.passes * cfg.size
        run.words += counts.written
        run.layers.append(counts)
        if self.observer is not None:
            counts.observed = self.observer(self, layer, counts)
