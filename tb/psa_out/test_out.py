"""psa_out: words of a bank as a packet of the out stream, under every kind of backpressure.

Model: a dictionary as memory that answers a read two cycles later, and the number of words taken. The first
word is valid three cycles after `start`, the cycle before which says what the packet is. From then on valid
stays high until the last word is taken, each time with the next word of the bank. So a packet takes one cycle
for each word and for each cycle in which the stream was not ready, and no more.

Corners:

- one word, fewer words than the queue holds, as many, one more, a whole bank
- the first and last word of a bank
- ready always, never for a long time, every second cycle, rarely, only before valid, only after it
- the next packet at once
- reset in a packet
- soft reset in every cycle of packets of every length, with any backpressure: words that the memory has given
  come, the newest of them with tlast; before the first word is offered, none comes
- garbage on the memory's data when nothing was read, and on bank, base and words when nothing starts
- in a bank of 65,536 words: counts and addresses past every power of two, most of them begun and cut off, and
  more than 4,096 words to their end
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cocotb
import numpy as np

from tb.common import settings
from tb.common.block import Bench, chance, edgy, landmarks
from tb.common.seeding import numpy_rng

FIRST = 3  # cycles from start to the first valid word
QUEUE = 4
PACKETS = 60
PACKET = ("prepare", "bank", "base", "words", "start")
INPUTS = ("rst", "soft_reset", *PACKET, "rd_data", "m_axis_tready")

# Backpressure: cycle of the packet, generator -> ready
Pattern = Callable[[int, np.random.Generator], bool]
PATTERNS: dict[str, Pattern] = {
    "always": lambda _, __: True,
    "rarely": lambda _, rng: chance(rng, 0.15),
    "half": lambda _, rng: chance(rng, 0.5),
    "mostly": lambda _, rng: chance(rng, 0.9),
    "every_second": lambda n, _: n % 2 == 0,
    "every_third": lambda n, _: n % 3 == 0,
    "late": lambda n, _: n > 20,
    "before_valid": lambda n, _: n < FIRST or n > 12,
    "bursts": lambda n, _: n // 6 % 2 == 1,
}


size = settings.parameters()
depth, width = size["FEATURE_DEPTH"], size["T"]
DEEP = depth > 1 << 12  # too many words for whole banks
BEGUN = 6  # words of a packet that is cut off


@cocotb.test(skip=DEEP)
async def packets_under_backpressure(dut: Any) -> None:
    rng = numpy_rng("packets")
    bench = Bench(dut, *INPUTS)
    await bench.reset(soft_reset=0, prepare=0, start=0, m_axis_tready=0)
    memory: dict[tuple[int, int], int] = {}
    seen = dict.fromkeys(
        (
            "packets",
            "words",
            "stalls",
            "single_words",
            "whole_banks",
            "ends_of_bank",
            "longer_than_the_queue",
            "resets",
            "cut_packets",
            "cut_before_a_word",
            "cut_but_whole",
            "cut_in_a_stall",
        ),
        0,
    )
    patterns = list(PATTERNS)
    asked: list[tuple[int, int] | None] = [None, None]  # requested by the reads of the last two cycles

    async def cycle(
        ready: bool, reset: bool = False, soft_reset: bool = False, **start: int
    ) -> tuple[int, int] | None:
        """One cycle. Returns the read that it requests, as bank and word."""
        nonlocal asked
        due, asked = asked[0], [asked[1], None]
        data = (
            {"rd_data": memory.setdefault(due, int.from_bytes(rng.bytes(width), "little"))}
            if due is not None
            else {}
        )
        resets = {"rst": int(reset), "soft_reset": int(soft_reset)}
        await bench.cycle(**resets, m_axis_tready=int(ready), **({"start": 0, "prepare": 0} | start), **data)
        if dut.rd_en.value == 1 and dut.rd_bank.value.is_resolvable:
            asked[1] = (int(dut.rd_bank.value), int(dut.rd_word.value))
        return asked[1]

    for number in range(PACKETS):
        ready = PATTERNS[patterns[number % len(patterns)]]
        words = int(
            rng.choice([1, 2, QUEUE - 1, QUEUE, QUEUE + 1, depth, int(rng.integers(1, depth, endpoint=True))])
        )
        base = edgy(rng, 0, depth - words, 0.6)
        bank = edgy(rng, 0, 15)
        cut = int(rng.integers(FIRST, FIRST + words + 4)) if chance(rng, 0.1) else None
        soft = int(rng.integers(1, FIRST + min(words, 20) + 4)) if cut is None and chance(rng, 0.6) else None
        total = words  # of the packet as it is sent
        for _ in range(int(rng.integers(1, 3))):  # of several the last counts
            await cycle(ready(0, rng), prepare=1, bank=edgy(rng, 0, 15), base=0, words=edgy(rng, 1, depth))
            bench.expect(m_axis_tvalid=0, done=0, rd_en=0)
        await cycle(ready(0, rng), prepare=1, bank=bank, base=base, words=words)
        bench.expect(m_axis_tvalid=0, done=0, rd_en=0)
        await cycle(ready(0, rng), start=1)
        bench.expect(m_axis_tvalid=0, done=0, rd_en=1, rd_bank=bank, rd_word=base)
        reads = 1
        taken = n = came = soon = 0  # words that were read up to two cycles ago, and up to the last cycle
        while taken < total:
            n += 1
            is_ready, reset = ready(n, rng), n == cut
            came, soon = soon, reads
            read = await cycle(is_ready, reset, n == soft)
            if soft is not None and n > soft:
                bench.expect(rd_en=0)
            elif read is not None:
                bench.expect(rd_en=int(reads < words), rd_bank=bank, rd_word=base + reads)
                reads += 1
            if n < FIRST:
                bench.expect(m_axis_tvalid=0, done=0)
            else:
                last = int(taken == total - 1)
                bench.expect(
                    m_axis_tvalid=1,
                    m_axis_tdata=memory[bank, base + taken],
                    m_axis_tlast=last,
                    done=int(last and is_ready),
                )
                seen["stalls"] += not is_ready
                seen["words"] += is_ready
                taken += is_ready
            if n == soft:
                asked = [None, None]
                total = came if n >= FIRST else 0
                seen["cut_packets"] += 0 < total < words
                seen["cut_before_a_word"] += total == 0
                seen["cut_but_whole"] += total == words
                seen["cut_in_a_stall"] += 0 < total < words and not is_ready
            if reset or total == 0:
                break
        else:
            seen["packets"] += 1
            seen["single_words"] += words == 1
            seen["whole_banks"] += words == depth
            seen["ends_of_bank"] += base + words == depth
            seen["longer_than_the_queue"] += words > QUEUE
            assert reads == words or total < words
        seen["resets"] += n == cut and taken < words
        asked = [None, None] if n in (cut, soft) else asked
        for _ in range(int(rng.integers(4))):
            await cycle(chance(rng, 0.5))
            bench.expect(m_axis_tvalid=0, done=0, rd_en=0)
    bench.done(**seen)


@cocotb.test()
async def counts_and_addresses_past_every_power_of_two(dut: Any) -> None:
    """With a bit too few, a packet of 2**k + 2 words ends after two, and word 2**k of a bank is word 0."""
    rng = numpy_rng("lengths")
    bench = Bench(dut, *INPUTS)
    await bench.reset(soft_reset=0, prepare=0, start=0, m_axis_tready=0)
    seen = dict.fromkeys(("packets", "cut_off"), 0)
    most = min(depth, (1 << 16) - 1)
    counts = {min(most, (1 << power) + 2) for power in range(depth.bit_length())} | {most}
    places = [(words, depth - words, BEGUN) for words in sorted(counts)]
    places += [(4, mark - 2, 4) for mark in landmarks(depth - 2) if mark > 1]
    places += [(min(most, 4099), 0, 4099)]
    for words, base, taken in places:
        bank = edgy(rng, 0, 15)
        memory: dict[int, int] = {}  # word that is read in a cycle -> its expected value
        data: list[dict[str, int]] = [{}, {}]  # what the memory gives in the next two cycles
        packet = {"prepare": 1, "bank": bank, "base": base, "words": words}
        await bench.cycle(rst=0, soft_reset=0, m_axis_tready=1, start=0, **packet)
        for n in range(FIRST + min(words, taken)):
            begin = {"prepare": 0, "start": int(n == 0)}
            await bench.cycle(rst=0, soft_reset=0, m_axis_tready=1, **begin, **data[0])
            data = [data[1], {}]
            if n < words:
                memory[n] = int.from_bytes(rng.bytes(width), "little")
                data[1] = {"rd_data": memory[n]}
                bench.expect(rd_en=1, rd_bank=bank, rd_word=base + n)
            if n >= FIRST:
                last = int(n - FIRST == words - 1)
                bench.expect(m_axis_tvalid=1, m_axis_tdata=memory[n - FIRST], m_axis_tlast=last, done=last)
        if words > taken:
            await bench.cycle(rst=1, soft_reset=0, prepare=0, start=0, m_axis_tready=1)
            seen["cut_off"] += 1
        else:
            seen["packets"] += 1
        await bench.cycle(rst=0, soft_reset=0, prepare=0, start=0, m_axis_tready=1)
        bench.expect(m_axis_tvalid=0, done=0, rd_en=0)
    bench.done(**seen)
