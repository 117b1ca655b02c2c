"""The design in a C++ loop without a harness: what a simulation costs by itself (`make bench BENCH=sim`)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.memory import Packet
from pymodel.machine.registers import COUNTERS, REGISTERS
from tb.flow import build

Words = npt.NDArray[np.uint64]

DONE, START = 1, 1  # bits of IRQ_STATUS and CONTROL
SUM_START, SUM_FACTOR = 14695981039346656037, 1099511628211  # FNV-1a
PATIENCE_S = 600


@dataclass(frozen=True)
class BareRun:
    """What a run came to: clock cycles, seconds of CPU of the loop alone, and a sum of all bytes that were
    sent.
    """

    cycles: int
    cpu_s: float
    out_bytes: int
    out_sum: int


def script(image: Image, inputs: npt.NDArray[np.int8]) -> Words:
    """What the plain harness does with a network and a batch of inputs int8 [N, C, H, W], as tb/flow/bare.cpp
    reads it.
    """
    parts = [_sent(image.packets()), _written("IRQ_ENABLE", DONE)]
    for one in inputs:
        for packets, start in (
            (image.tensor_packets("input", one), image.run_start),
            (image.dump_packets("input", one), image.dump_start),
        ):
            parts += [_sent(packets), *_run(start)]
    return np.concatenate(parts)


def idle(cycles: int) -> Words:
    """A script in which nothing happens for so many cycles."""
    return np.array([4, cycles], np.uint64)


def run(config: ArrayConfig, top: str, optimise: str, lines: Words, folder: Path) -> BareRun:
    """Builds the loop around `top` if needed, and plays a script. Raises `TatamiError` if it fails."""
    built = build.build("verilator", config.rtl_parameters(), top=top, optimise=optimise, bare=True)
    file = folder / "script.bin"
    file.write_bytes(lines.astype("<u8").tobytes())
    done = subprocess.run(
        [built / build.BARE, file], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    if done.returncode:
        raise TatamiError(f"{top}, {optimise}: the bare loop failed: {done.stderr.strip()}")
    cycles, cpu_s, out_bytes, out_sum = done.stdout.splitlines()[-1].split()
    return BareRun(int(cycles), float(cpu_s), int(out_bytes), int(out_sum))


def byte_sum(packets: Iterable[bytes]) -> int:
    """The sum that the loop prints, of these packets one behind the other."""
    found = SUM_START
    for packet in packets:
        for byte in packet:
            found = (found ^ byte) * SUM_FACTOR & (1 << 64) - 1
    return found


def _sent(packets: Iterable[Packet]) -> Words:
    def beats() -> Iterator[Words]:
        for packet in packets:
            lasts = np.zeros((len(packet.beats), 1), np.uint64)
            lasts[-1] = 1
            yield np.concatenate([packet.beats, lasts], axis=1)

    flat = list(beats())
    return np.concatenate(
        [np.array([0, sum(map(len, flat))], np.uint64), *(part.reshape(-1) for part in flat)]
    )


def _written(name: str, value: int) -> Words:
    return np.array([1, REGISTERS[name].address, value], np.uint64)


def _read(name: str) -> Words:
    return np.array([2, REGISTERS[name].address], np.uint64)


def _run(start: int) -> list[Words]:
    """As `Host.run` does it."""
    return [
        _read("STATUS"),
        _read("ERROR"),
        _written("PROGRAM_START", start),
        _written("CONTROL", START),
        np.array([3], np.uint64),
        _read("ERROR"),
        _written("IRQ_STATUS", DONE),
        *(_read(name) for name in COUNTERS),
    ]
