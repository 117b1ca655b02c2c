"""How long a program takes, and waits for its stream, if the stream brings a beat in every cycle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from pymodel.machine.config import ArrayConfig
from pymodel.machine.memory import Hold, Live, memories, packet_beats
from pymodel.machine.program import Layer, Legal, Out, Wait
from pymodel.machine.timing import OFFER_CYCLES, OUT_LATENCY, RECORD_CYCLES, WAIT_CYCLES, word_stage


@dataclass(frozen=True)
class Clocked:
    """Cycles of a program, and those of them that it waits for packets: in all, and in front of each LAYER
    record.
    """

    cycles: int
    waited: int
    layers: tuple[int, ...]


def clocked(config: ArrayConfig, records: Iterable[tuple[Legal, int]], stream: Iterable[Live]) -> Clocked:
    """Runs the clock over the records of a program, as they follow each other, and over its live stream.

    A LAYER comes with its cycles, other records with any number. On the machine the program never waits less:
    there the array may take the write port of a bank before the stream does.
    """
    clock = waited = 0
    before: list[int] = []  # what had been waited up to each layer
    passed: list[int] = []  # the cycle in which each layer has passed
    packets = _arrivals(config, stream, passed)
    for record, cycles in records:
        match record:
            case Layer():
                before.append(waited)
                clock += cycles
                passed.append(clock + word_stage(config))
            case Wait():
                clock += RECORD_CYCLES + WAIT_CYCLES
                came = clock
                for _ in range(record.packets):
                    came = next(packets)
                waited += max(0, came - clock)
                clock = max(clock, came)
            case Out():
                clock += RECORD_CYCLES + record.words + OUT_LATENCY
            case _:
                clock += RECORD_CYCLES
    layers = (now - then for then, now in pairwise([0, *before]))
    return Clocked(clock, waited, tuple(layers))


def _arrivals(config: ArrayConfig, stream: Iterable[Live], passed: list[int]) -> Iterator[int]:
    """The cycle in which each packet has come, as far as layers have `passed`."""
    clock = held = 0
    specs = memories(config)
    for item in stream:
        if isinstance(item, Hold):
            held += item.layers
            clock = max(clock, passed[held - 1])
        clock += OFFER_CYCLES + packet_beats(specs, item)
        if not isinstance(item, Hold):
            yield clock
