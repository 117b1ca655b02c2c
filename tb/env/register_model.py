"""The register model: pyuvm's register layer, built from the one table (pymodel/machine/registers.py), and
the register sequences that pyuvm does not have.

The sequences check only against the table. The scoreboard sees the same accesses and checks them against the
machine's state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from pyuvm import (
    uvm_access_e,
    uvm_endianness_e,
    uvm_reg,
    uvm_reg_adapter,
    uvm_reg_block,
    uvm_reg_bus_op,
    uvm_reg_field,
    uvm_sequence,
    uvm_sequence_item,
    uvm_status_e,
)

from pymodel.machine.config import ArrayConfig
from pymodel.machine.registers import COUNTERS, REGISTERS, Register, RegisterField, build_values
from tb.env.agents import RegisterItem

BYTES = 4
BITS = 8 * BYTES
ALL = (1 << BITS) - 1
ADDRESSES = 256  # the address bus has eight bits
WHOLE = RegisterField(BITS - 1, 0)

# Registers that the hardware changes, so that the value read is not the value last written.
VOLATILE = ("STATUS", "ERROR", "IRQ_STATUS", *COUNTERS)


class RegisterAdapter(uvm_reg_adapter):
    """Converts register operations to items of the register agent, and back."""

    def __init__(self) -> None:
        super().__init__("adapter")

    def reg2bus(self, rw: uvm_reg_bus_op) -> uvm_sequence_item:
        return RegisterItem(rw.kind == uvm_access_e.UVM_WRITE, rw.addr, rw.data)

    def bus2reg(self, bus_item: RegisterItem, rw: uvm_reg_bus_op) -> None:
        bus_item.check()
        rw.data = bus_item.data
        rw.status = uvm_status_e.UVM_IS_OK if bus_item.okay else uvm_status_e.UVM_NOT_OK


class RegisterBlock(uvm_reg_block):
    """All registers of a build, by name in `registers`."""

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__("machine")
        self.map = self.create_map("map", 0, BYTES, uvm_endianness_e.UVM_LITTLE_ENDIAN)
        built = build_values(config)
        self.resets = {name: built[name] if r.reset is None else r.reset for name, r in REGISTERS.items()}
        self.registers = {name: self.add(r) for name, r in REGISTERS.items()}
        self.lock_model()
        self.reset()

    def add(self, register: Register) -> uvm_reg:
        """A register with the fields of the table. Without fields, it gets one field with all bits."""
        made = uvm_reg(register.name, BITS)
        made.configure(self)
        for name, part in (register.fields or {"VALUE": WHOLE}).items():
            made_field = uvm_reg_field(name)
            made_field.configure(
                made,
                part.msb - part.lsb + 1,
                part.lsb,
                register.access,
                register.name in VOLATILE,
                part.get(self.resets[register.name]),
                True,
                False,
                False,
            )
        self.map.add_reg(made, register.address)
        return made


class RegisterSequence(uvm_sequence):
    """Base of the register sequences: `model` is the block, `sequencer` that of the register agent."""

    def __init__(self, model: RegisterBlock) -> None:
        super().__init__(type(self).__name__)
        self.model = model
        self.checks = 0

    def check(self, good: bool, message: str) -> None:
        self.checks += 1
        assert good, message

    async def read(self, name: str) -> int:
        """A read that must be granted."""
        status, value = await self.model.registers[name].read()
        self.check(status == uvm_status_e.UVM_IS_OK, f"read of {name} was refused")
        return int(value)

    async def write(self, name: str, value: int, granted: bool = True) -> None:
        """A write that must be granted, or must be refused."""
        status = await self.model.registers[name].write(value)
        self.check(
            (status == uvm_status_e.UVM_IS_OK) == granted,
            f"write of {value:#x} to {name} was {'refused' if granted else 'granted'}",
        )

    async def raw(self, write: bool, address: int, data: int = 0, strobe: int = 0xF) -> RegisterItem:
        """An access without the register model."""
        item = RegisterItem(write, address, data, strobe)
        await self.start_item(item)
        await self.finish_item(item)
        item.check()
        return item


class ResetValues(RegisterSequence):
    """Every register holds its reset value. For a machine directly after reset."""

    async def body(self) -> None:
        for name, value in self.model.resets.items():
            seen = await self.read(name)
            self.check(seen == value, f"{name} is {seen:#x} after reset, expected {value:#x}")


class AccessPolicies(RegisterSequence):
    """RO refuses a write and keeps its value. RW keeps what was written. W1C does not take ones. WO reads as
    its reset value.
    """

    async def body(self) -> None:
        policies: dict[str, Callable[[str], Awaitable[None]]] = {
            "RO": self.read_only,
            "RW": self.read_write,
            "W1C": self.clear_only,
            "WO": self.write_only,
        }
        for name, register in REGISTERS.items():
            await policies[register.access](name)

    async def read_only(self, name: str) -> None:
        before = await self.read(name)
        for value in (ALL, 0):
            await self.write(name, value, granted=False)
            seen = await self.read(name)
            self.check(seen == before, f"a refused write changed {name} from {before:#x} to {seen:#x}")

    async def read_write(self, name: str) -> None:
        mask = used(REGISTERS[name])
        for value in (ALL, 0, 0x55555555, 0xAAAAAAAA, self.model.resets[name]):
            await self.write(name, value)
            seen = await self.read(name)
            self.check(
                seen == value & mask,
                f"{name} is {seen:#x} after a write of {value:#x}, expected {value & mask:#x}",
            )

    async def clear_only(self, name: str) -> None:
        before = await self.read(name)
        await self.write(name, ALL)
        seen = await self.read(name)
        self.check(seen == 0, f"{name} is {seen:#x} after ones were written to {before:#x}")

    async def write_only(self, name: str) -> None:
        await self.write(name, 0)
        seen = await self.read(name)
        self.check(seen == self.model.resets[name], f"{name} reads as {seen:#x}")


class BitBash(RegisterSequence):
    """Every bit of every register that keeps what is written is set and cleared alone. The other bits do not
    change.
    """

    async def body(self) -> None:
        for name, register in REGISTERS.items():
            if register.access != "RW":
                continue
            mask = used(register)
            for base in (0, mask):
                for bit in range(BITS):
                    value = base ^ 1 << bit
                    await self.write(name, value)
                    seen = await self.read(name)
                    self.check(
                        seen == value & mask,
                        f"{name} is {seen:#x} after a write of {value:#x}, expected {value & mask:#x}",
                    )
            await self.write(name, self.model.resets[name])


class ReservedBits(RegisterSequence):
    """Bits that the table does not name read as zero, whatever is written. Writing them has no effect."""

    async def body(self) -> None:
        for name, register in REGISTERS.items():
            reserved = ALL & ~used(register)
            if register.writable:
                await self.write(name, reserved)
            seen = await self.read(name)
            self.check(seen & reserved == 0, f"reserved bits of {name} read as {seen & reserved:#x}")


class Strobes(RegisterSequence):
    """A byte that is not enabled keeps its value."""

    async def body(self) -> None:
        for name, register in REGISTERS.items():
            if register.access != "RW":
                continue
            mask = used(register)
            held = 0
            for strobe in (*range(16), 15, 0):
                value = 0x5A5A5A5A ^ strobe * 0x11111111
                enabled = sum(0xFF << 8 * i for i in range(BYTES) if strobe >> i & 1) & mask
                held = held & ~enabled | value & enabled
                item = await self.raw(True, register.address, value, strobe)
                self.check(item.okay, f"write to {name} with strobe {strobe:#x} was refused")
                seen = await self.read(name)
                self.check(
                    seen == held,
                    f"{name} is {seen:#x} after a write of {value:#x} with strobe {strobe:#x}, expected"
                    f" {held:#x}",
                )
            await self.write(name, self.model.resets[name])


class Unmapped(RegisterSequence):
    """An address without a register answers SLVERR to reads and writes."""

    async def body(self) -> None:
        mapped = {r.address for r in REGISTERS.values()}
        for address in sorted(set(range(0, ADDRESSES, BYTES)) - mapped):
            for write in (False, True):
                item = await self.raw(write, address, ALL)
                self.check(
                    not item.okay,
                    f"a {'write' if write else 'read'} at {address:#04x}, which is no register, was granted",
                )


class ByteAddresses(RegisterSequence):
    """An address within a word is the word's, as for a processor that stores a byte: the strobes say which
    bytes are written.
    """

    async def body(self) -> None:
        for name, register in REGISTERS.items():
            if register.access == "WO":
                continue
            before = await self.read(name)
            for byte in range(1, BYTES):
                address = register.address + byte
                item = await self.raw(False, address)
                self.check(item.okay, f"a read at {address:#04x}, within {name}, was refused")
                self.steady(name, item.data, before, f"read at {address:#04x}")
                if register.access == "RW":
                    value, mask = 0x5A5A5A5A, 0xFF << 8 * byte & used(register)
                    item = await self.raw(True, address, value, 1 << byte)
                    self.check(item.okay, f"a write at {address:#04x}, within {name}, was refused")
                    before = before & ~mask | value & mask
                    self.steady(name, await self.read(name), before, f"after a byte at {address:#04x}")
            if register.access == "RW":
                await self.write(name, self.model.resets[name])

    def steady(self, name: str, seen: int, value: int, when: str) -> None:
        """Counters may count meanwhile."""
        self.check(name in VOLATILE or seen == value, f"{name} is {seen:#x}, {when}, expected {value:#x}")


SEQUENCES = (ResetValues, AccessPolicies, BitBash, ReservedBits, Strobes, Unmapped, ByteAddresses)


class ClearedByOnes(RegisterSequence):
    """A field of a W1C register is cleared by a one in it, and by nothing else.

    `raise_all` makes the machine set every such field.
    """

    def __init__(self, model: RegisterBlock, raise_all: Callable[[], Awaitable[None]]) -> None:
        super().__init__(model)
        self.raise_all = raise_all

    async def body(self) -> None:
        for name, register in REGISTERS.items():
            if register.access == "W1C":
                for part in register.fields.values():
                    await self.field(name, part)

    async def field(self, name: str, part: RegisterField) -> None:
        every = used(REGISTERS[name])
        await self.raise_all()
        await self.expect(name, every, "after the machine has set all of it")
        for value in (0, ALL & ~every):
            await self.write(name, value)
            await self.expect(name, every, f"after a write of {value:#x}")
        await self.raw(True, REGISTERS[name].address, ALL, strobe=0)
        await self.expect(name, every, "after a write without strobes")
        await self.write(name, part.mask)
        await self.expect(name, every & ~part.mask, f"after a write of {part.mask:#x} to {every:#x}")
        await self.write(name, ALL)
        await self.expect(name, 0, "after a write of ones")

    async def expect(self, name: str, value: int, when: str) -> None:
        seen = await self.read(name)
        self.check(seen == value, f"{name} is {seen:#x} {when}, expected {value:#x}")


class SoftResetValues(RegisterSequence):
    """After a soft reset every register holds its reset value, except those that keep theirs
    (docs/machine.md): the registers that a host can write and read back. `held` has the values that were
    written to them, if any.
    """

    def __init__(self, model: RegisterBlock, held: Mapping[str, int]) -> None:
        super().__init__(model)
        self.held = held

    async def body(self) -> None:
        for name, value in (self.model.resets | dict(self.held)).items():
            seen = await self.read(name)
            self.check(seen == value, f"{name} is {seen:#x} after a soft reset, expected {value:#x}")


def used(register: Register) -> int:
    """The bits that the table names. For a register without fields, all bits."""
    return sum(part.mask for part in register.fields.values()) if register.fields else ALL
