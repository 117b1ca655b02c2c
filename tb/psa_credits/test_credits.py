"""psa_credits: compared with two numbers and a list of the layers that are on their way.

Model: `Credits` counts packets when they have been written, and layers PIPELINE cycles after they have been
left. A WAIT or a HOLD goes when it asks for no more than there are, and takes as many. The program is in a
deadlock when it waits for packets that have not come, the stream offers what it may not take, and nothing is
on its way that could change that: no packet whose last word is just being written, no layer.

Corners:

- WAITs and HOLDs that go at once, that go late, for exactly as many as there are and for one more
- a packet or a layer that is counted in the cycle in which others are taken
- several layers on their way; the cycle in which each is counted
- deadlock: in its first cycle, behind the last layer on its way and behind the last packet
- START and reset in any cycle: with credits, with layers on their way, with events in the same cycle
- counts past every power of two, and at 65535, where they stop, also when some are taken in the same cycle

Nothing can count to 65535 in a test, so those of the counts write the block's own registers.
"""

from __future__ import annotations

from typing import Any

import cocotb

from tb.common import settings
from tb.common.block import Bench, chance, edgy
from tb.common.seeding import numpy_rng

MOST = 65535
ON_THEIR_WAY = 15  # layers, at most: the block has four bits for their number
CYCLES = 6000
QUIET = ("start", "packet_done", "layer_passed", "wait_valid", "hold_taken", "blocked")


class Credits:
    """The block, and what it must have counted."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.pipeline = settings.parameters()["PIPELINE"]
        self.spacing = -(-self.pipeline // ON_THEIR_WAY)  # cycles from a layer to the next, at least
        self.bench = Bench(dut, "rst", *QUIET, "wait_packets", "hold_layers")
        self.packets = self.layers = 0
        self.due: list[int] = []  # the cycles in which layers on their way are counted
        self.seen = dict.fromkeys(
            (
                "waits",
                "waited",
                "exact_waits",
                "one_too_few",
                "packet_while_taken",
                "holds",
                "held",
                "exact_holds",
                "layer_while_taken",
                "several_on_their_way",
                "deadlocks",
                "deadlocks_at_a_hold",
                "saved_by_a_packet",
                "saved_by_a_layer",
            ),
            0,
        )

    def forget(self) -> None:
        self.packets = self.layers = 0
        self.due.clear()

    async def reset(self) -> None:
        await self.bench.reset(**dict.fromkeys(QUIET, 0))
        self.forget()

    async def cycle(
        self,
        *,
        rst: bool = False,
        start: bool = False,
        packet: bool = False,
        layer: bool = False,
        wait: int | None = None,
        hold: int | None = None,
        take: bool = True,
        blocked: bool = False,
    ) -> tuple[bool, bool]:
        """One cycle, in which the program may wait for packets and the stream may offer a HOLD for layers,
        which is taken if it goes and `take` says so. Returns whether each has gone.
        """
        number = self.bench.number + 1
        wait_goes = wait is not None and wait <= self.packets
        hold_goes = hold is not None and hold <= self.layers
        pins = {} if wait is None else {"wait_packets": wait}
        pins |= {} if hold is None else {"hold_layers": hold}
        controls = {"rst": rst, "start": start, "packet_done": packet, "layer_passed": layer}
        blocked &= not hold_goes  # psa_load blocks no HOLD that goes
        controls |= {"wait_valid": wait is not None, "hold_taken": hold_goes and take, "blocked": blocked}
        await self.bench.cycle(**{name: int(on) for name, on in controls.items()}, **pins)
        stuck = wait is not None and not wait_goes and blocked
        dead = stuck and not self.due and not packet
        self.bench.expect(deadlock=int(dead))
        if wait is not None:
            self.bench.expect(wait_go=int(wait_goes))
        if hold is not None:
            self.bench.expect(hold_go=int(hold_goes))
        self.count(wait, hold, wait_goes, hold_goes and take, packet, number)
        self.seen["deadlocks"] += dead
        self.seen["deadlocks_at_a_hold"] += dead and hold is not None
        self.seen["saved_by_a_packet"] += stuck and packet and not self.due
        self.seen["saved_by_a_layer"] += stuck and self.due == [number] and not packet
        self.seen["several_on_their_way"] += len(self.due) > 1

        if wait is not None and wait_goes:
            self.packets -= wait
        if hold is not None and hold_goes and take:
            self.layers -= hold
        self.packets = min(MOST, self.packets + packet)
        self.layers = min(MOST, self.layers + self.due.count(number))
        self.due = [then for then in self.due if then > number]
        if layer:
            self.due.append(number + self.pipeline)
        if rst or start:
            self.forget()
        return wait_goes, hold_goes and take

    def count(
        self,
        wait: int | None,
        hold: int | None,
        wait_goes: bool,
        hold_taken: bool,
        packet: bool,
        number: int,
    ) -> None:
        seen = self.seen
        if wait is not None:
            seen["waits" if wait_goes else "waited"] += 1
            seen["exact_waits"] += wait == self.packets
            seen["one_too_few"] += wait == self.packets + 1
            seen["packet_while_taken"] += wait_goes and packet
        if hold is not None:
            seen["holds" if hold_taken else "held"] += 1
            seen["exact_holds"] += hold == self.layers
            seen["layer_while_taken"] += hold_taken and number in self.due

    async def drain(self) -> None:
        """Shows both counts: so many can be taken, and not one more."""
        packets, layers = self.packets, self.layers
        if packets < MOST:
            assert await self.cycle(wait=packets + 1) == (False, False)
        if layers < MOST:
            assert await self.cycle(hold=layers + 1) == (False, False)
        if packets and layers:
            assert await self.cycle(wait=packets, hold=layers) == (True, True)
        elif packets:
            assert await self.cycle(wait=packets) == (True, False)
        elif layers:
            assert await self.cycle(hold=layers) == (False, True)
        await self.cycle(wait=1, hold=1)

    async def put(self, packets: int, layers: int) -> None:
        """Both counts, in the block and in the model."""
        self.dut.packets_reg.value = packets
        self.dut.layers_reg.value = layers
        await self.cycle()
        self.packets, self.layers = packets, layers


@cocotb.test()
async def traffic(dut: Any) -> None:
    """WAITs and HOLDs stay until they go, as they do in the machine, or until START or reset."""
    rng = numpy_rng("traffic")
    credits = Credits(dut)
    await credits.reset()
    wait: int | None = None
    hold: int | None = None
    since, cleared, cleared_on_their_way = 0, 0, 0
    for _ in range(CYCLES):
        busy = credits.bench.number // 200 % 3  # times with many events, with few, and with none but WAIT
        since += 1
        if wait is None and chance(rng, 0.4):
            wait = edgy(rng, 1, 5) if chance(rng, 0.9) else edgy(rng, 1, MOST)
        if hold is None and chance(rng, 0.4):
            hold = edgy(rng, 1, 5) if chance(rng, 0.9) else edgy(rng, 1, MOST)
        layer = since >= credits.spacing and chance(rng, (0.5, 0.1, 0)[busy])
        start, rst = chance(rng, 0.005), chance(rng, 0.005)
        cleared_on_their_way += (start or rst) and len(credits.due) > 0
        cleared += start or rst
        waited, held = await credits.cycle(
            rst=rst,
            start=start,
            packet=chance(rng, (0.5, 0.2, 0.05)[busy]),
            layer=layer,
            wait=wait,
            hold=hold,
            take=chance(rng, 0.7),
            blocked=chance(rng, 0.7),
        )
        since = 0 if layer else since
        wait = None if waited or chance(rng, 0.02) or start or rst else wait
        hold = None if held or chance(rng, 0.02) or start or rst else hold
    for _ in range(credits.pipeline + 1):
        await credits.cycle()
    await credits.drain()
    credits.bench.done(**credits.seen, cleared=cleared, cleared_on_their_way=cleared_on_their_way)


@cocotb.test()
async def a_layer_counts_when_its_pipeline_is_empty(dut: Any) -> None:
    """Of two layers: the cycle in which the HOLD for each goes, and in which the WAIT behind them is dead."""
    credits = Credits(dut)
    await credits.reset()
    await credits.cycle(layer=True)
    for _ in range(credits.pipeline):
        assert await credits.cycle(hold=1, wait=1, blocked=True) == (False, False)
    assert await credits.cycle(hold=1, wait=1, blocked=False) == (False, True)
    await credits.cycle(layer=True)
    for _ in range(credits.spacing):
        await credits.cycle(wait=1, hold=2, blocked=True)
    await credits.cycle(layer=True, wait=1, hold=2, blocked=True)
    for _ in range(credits.pipeline):
        assert await credits.cycle(hold=2, wait=1, blocked=True) == (False, False)
    before = credits.seen["deadlocks"]
    await credits.cycle(hold=3, wait=1, blocked=True)
    assert credits.seen["deadlocks"] == before + 1
    assert await credits.cycle(hold=2, wait=1, blocked=False) == (False, True)
    credits.bench.done(deadlocks=credits.seen["deadlocks"])


@cocotb.test()
async def start_and_reset_clear_everything(dut: Any) -> None:
    """Credits, layers on their way, and events of the very cycle."""
    credits = Credits(dut)
    await credits.reset()
    cleared = 0
    for control in ("start", "rst"):
        for together in (False, True):
            for wait in range(credits.pipeline + 2):
                await credits.cycle(packet=True, layer=True)
                for _ in range(wait):
                    await credits.cycle(packet=True)
                await credits.cycle(**{control: True}, packet=together, layer=together)
                # at once: nothing is on its way any more
                await credits.cycle(wait=1, hold=1, blocked=True)
                for _ in range(credits.pipeline):
                    assert await credits.cycle(wait=1, hold=1, blocked=False) == (False, False)
                cleared += 1
    credits.bench.done(cleared=cleared, deadlocks=credits.seen["deadlocks"])


@cocotb.test()
async def counts_past_every_power_of_two(dut: Any) -> None:
    credits = Credits(dut)
    await credits.reset()
    shown = 0
    for power in range(1, 17):
        before = (1 << power) - 1
        for packets, layers in ((before, 0), (0, before), (before, before)):
            await credits.put(packets, layers)
            await credits.drain()
            await credits.put(packets, layers)
            await credits.cycle(layer=layers > 0)
            for _ in range(credits.pipeline - 1):
                await credits.cycle()
            await credits.cycle(packet=packets > 0)  # both are counted at its end
            await credits.drain()
            shown += 1
    credits.bench.done(shown=shown)


@cocotb.test()
async def counts_stop_at_their_largest(dut: Any) -> None:
    """Behind three events too many there are 65535. If some are taken in the cycle of an event, the event
    counts: there is room.
    """
    credits = Credits(dut)
    await credits.reset()
    for taken in (None, 1, 2, MOST):
        await credits.put(MOST - 1, MOST - 1)
        for _ in range(3):
            await credits.cycle(layer=True)
            for _ in range(credits.pipeline - 1):
                await credits.cycle()
            await credits.cycle(packet=True)
        assert credits.packets == credits.layers == MOST
        await credits.cycle(layer=True)
        for _ in range(credits.pipeline - 1):
            await credits.cycle()
        await credits.cycle(packet=True, wait=taken, hold=taken)
        assert credits.packets == credits.layers == (MOST if taken is None else MOST - taken + 1)
        await credits.drain()
    counted = ("packet_while_taken", "layer_while_taken")
    credits.bench.done(**{name: credits.seen[name] for name in counted})
