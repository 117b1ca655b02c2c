"""The register sequences, without a simulator: a register file that is right passes each, and each finds the
fault that it is there for.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pyuvm import uvm_status_e

from pymodel.machine.config import CONFIGS
from pymodel.machine.registers import REGISTERS, Register, build_values
from tb.env.agents import RegisterItem
from tb.env.register_model import (
    ALL,
    SEQUENCES,
    AccessPolicies,
    BitBash,
    ByteAddresses,
    ClearedByOnes,
    RegisterSequence,
    ReservedBits,
    ResetValues,
    SoftResetValues,
    Strobes,
    Unmapped,
    used,
)

RESETS = {r.name: r.reset for r in REGISTERS.values() if r.reset is not None} | build_values(CONFIGS["4x2"])
BY_ADDRESS = {r.address: r for r in REGISTERS.values()}


class RegisterFile:
    """Registers as the table has them. A fault is a subclass."""

    holes = False  # whether an address that is no register's is answered with OKAY

    def __init__(self) -> None:
        self.values = dict(RESETS)

    def access(self, item: RegisterItem) -> None:
        register = BY_ADDRESS.get(self.word(item.address))
        if register is None:
            item.okay = self.holes
        elif item.write:
            item.okay = self.write(
                register, item.data, sum(0xFF << 8 * i for i in range(4) if item.strobe >> i & 1)
            )
        else:
            item.data = self.values[register.name]

    def word(self, address: int) -> int:
        return address & ~3

    def write(self, register: Register, data: int, enabled: int) -> bool:
        mask = enabled & used(register)
        if register.access == "RW":
            self.values[register.name] = self.values[register.name] & ~mask | data & mask
        if register.access == "W1C":
            self.values[register.name] &= ~self.clears(data & mask)
        return register.writable

    def clears(self, ones: int) -> int:
        """The bits that a write of these ones to a W1C register clears."""
        return ones

    async def raise_all(self) -> None:
        """The machine sets every bit of IRQ_STATUS."""
        self.values["IRQ_STATUS"] |= 3


class WrongReset(RegisterFile):
    def __init__(self) -> None:
        super().__init__()
        self.values["IRQ_ENABLE"] = 1


class GrantedWrite(RegisterFile):
    def write(self, register: Register, data: int, enabled: int) -> bool:
        super().write(register, data, enabled)
        return register.writable or register.name == "VERSION"


class Stores(RegisterFile):
    """A register that keeps whatever is written."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def write(self, register: Register, data: int, enabled: int) -> bool:
        granted = super().write(register, data, enabled)
        if register.name == self.name:
            self.values[self.name] = data
        return granted


class StuckBit(RegisterFile):
    def write(self, register: Register, data: int, enabled: int) -> bool:
        return super().write(register, data & ~1 if register.name == "PROGRAM_START" else data, enabled)


class CoupledBits(RegisterFile):
    """Bits 8 and 9 move together, if they differ; patterns of many bits do not show it."""

    def write(self, register: Register, data: int, enabled: int) -> bool:
        alone = register.name == "PROGRAM_START" and data in (0x100, 0x200)
        return super().write(register, 0x300 if alone else data, enabled)


class NoStrobes(RegisterFile):
    def write(self, register: Register, data: int, enabled: int) -> bool:  # noqa: ARG002
        return super().write(register, data, ALL)


class NeverSet(RegisterFile):
    async def raise_all(self) -> None:
        self.values["IRQ_STATUS"] |= 1


class ClearedByAnything(RegisterFile):
    def clears(self, ones: int) -> int:  # noqa: ARG002
        return ALL


class ClearsAll(RegisterFile):
    def clears(self, ones: int) -> int:
        return ALL if ones else 0


class ClearsNothing(RegisterFile):
    def clears(self, ones: int) -> int:  # noqa: ARG002
        return 0


class NoHoles(RegisterFile):
    holes = True


class WholeWordsOnly(RegisterFile):
    def word(self, address: int) -> int:
        return address


class TheWordBehind(RegisterFile):
    def word(self, address: int) -> int:
        return address + 3 & ~3


def cleared_by_ones(model: Any) -> RegisterSequence:
    return ClearedByOnes(model, model.raise_all)


def after_a_soft_reset(model: Any) -> RegisterSequence:
    """Of a machine whose PROGRAM_START was written before."""
    return SoftResetValues(model, {"PROGRAM_START": 5})


def play(kind: Callable[[Any], RegisterSequence], registers: RegisterFile) -> int:
    """Runs a sequence; returns how much it has checked."""

    class Handle:
        """A register of pyuvm's model."""

        def __init__(self, register: Register) -> None:
            self.register = register

        async def access(self, write: bool, data: int = 0) -> tuple[uvm_status_e, int]:
            item = RegisterItem(write, self.register.address, data)
            registers.access(item)
            return uvm_status_e.UVM_IS_OK if item.okay else uvm_status_e.UVM_NOT_OK, item.data

        async def read(self) -> tuple[uvm_status_e, int]:
            return await self.access(False)

        async def write(self, data: int) -> uvm_status_e:
            return (await self.access(True, data))[0]

    async def start(item: RegisterItem) -> None:
        pass

    async def finish(item: RegisterItem) -> None:
        registers.access(item)

    model: Any = SimpleNamespace(
        resets=RESETS,
        registers={name: Handle(r) for name, r in REGISTERS.items()},
        raise_all=registers.raise_all,
    )
    sequence = kind(model)
    sequence.start_item, sequence.finish_item = start, finish
    with pytest.raises(StopIteration):  # nothing in it waits
        sequence.body().send(None)
    return sequence.checks


@pytest.mark.parametrize("kind", [*SEQUENCES, cleared_by_ones])
def test_a_good_register_file_passes(kind: Callable[[Any], RegisterSequence]) -> None:
    assert play(kind, RegisterFile()) > 0


def test_a_good_soft_reset_passes() -> None:
    registers = RegisterFile()
    registers.values["PROGRAM_START"] = 5
    assert play(after_a_soft_reset, registers) > len(REGISTERS)


@pytest.mark.parametrize(
    ("kind", "registers", "message"),
    [
        (ResetValues, WrongReset(), "IRQ_ENABLE is 0x1 after reset, expected 0x0"),
        (AccessPolicies, GrantedWrite(), "to VERSION was granted"),
        (AccessPolicies, Stores("SHAPE"), "a refused write changed SHAPE"),
        (AccessPolicies, StuckBit(), "PROGRAM_START is 0xfffe after a write of 0xffffffff, expected 0xffff"),
        (AccessPolicies, Stores("IRQ_STATUS"), "IRQ_STATUS is 0xffffffff after ones were written to 0x0"),
        (BitBash, CoupledBits(), "PROGRAM_START is 0x300 after a write of 0x100, expected 0x100"),
        (ReservedBits, Stores("IRQ_ENABLE"), "reserved bits of IRQ_ENABLE read as 0xfffffffc"),
        (Strobes, NoStrobes(), "with strobe 0x0"),
        (Unmapped, NoHoles(), "a read at 0x58, which is no register, was granted"),
        (ByteAddresses, WholeWordsOnly(), "a read at 0x01, within ID, was refused"),
        (ByteAddresses, TheWordBehind(), f"ID is {RESETS['VERSION']:#x}, read at 0x01, expected"),
        (cleared_by_ones, NeverSet(), "IRQ_STATUS is 0x1 after the machine has set all of it, expected 0x3"),
        (cleared_by_ones, ClearedByAnything(), "IRQ_STATUS is 0x0 after a write of 0x0, expected 0x3"),
        (cleared_by_ones, ClearsAll(), "IRQ_STATUS is 0x0 after a write of 0x1 to 0x3, expected 0x2"),
        (cleared_by_ones, ClearsNothing(), "IRQ_STATUS is 0x3 after a write of 0x1 to 0x3, expected 0x2"),
        (after_a_soft_reset, RegisterFile(), "PROGRAM_START is 0x0 after a soft reset, expected 0x5"),
        (after_a_soft_reset, WrongReset(), "IRQ_ENABLE is 0x1 after a soft reset, expected 0x0"),
    ],
)
def test_a_fault_is_found_and_named(
    kind: Callable[[Any], RegisterSequence], registers: RegisterFile, message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        play(kind, registers)
