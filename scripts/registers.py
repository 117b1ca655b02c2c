"""Renders docs/registers.md from the register tables: `python -m scripts.registers`."""

from __future__ import annotations

from pathlib import Path

from pymodel.machine.files import write_text
from pymodel.machine.registers import DMA_REGISTERS, REGISTERS, Register
from scripts.command import command

FILE = Path(__file__).resolve().parent.parent / "docs" / "registers.md"

HEAD = """# Registers

AXI4-Lite, 32 bits, byte addresses. An address within a word is the word's; the strobes say which bytes are
written. An access to a word without a register, or a write to a read-only register, answers SLVERR and
changes nothing. Bits without a name read as 0. What START and SOFT_RESET do, and when they
are refused, is in [machine.md](machine.md#registers).

Rendered from `pymodel/machine/registers.py` by `python -m scripts.registers`; a test fails when the two
differ.

| address | name | access | reset | fields | content |
|---|---|---|---|---|---|
"""

OF_DMA = """
## Of the DMA

Those of `psa_dma`, from 0x100 on in the register port of `psa_system`; those of the machine are below. What
they do is in [dma.md](dma.md#registers).

| address | name | access | reset | fields | content |
|---|---|---|---|---|---|
"""

TAIL = """
`RO` read only, `RW` read and write, `WO` write only, `W1C` a one clears, a zero does nothing.
A reset of `build` is a value that the build decides.
"""


def row(register: Register) -> str:
    """A line of the table."""
    reset = "build" if register.reset is None else f"0x{register.reset:08X}" if register.reset else "0"
    fields = ", ".join(
        f"{name} {part.msb}:{part.lsb}" if part.msb > part.lsb else f"{name} {part.lsb}"
        for name, part in register.fields.items()
    )
    return (
        f"| 0x{register.address:02X} | {register.name} | {register.access} | {reset} | {fields} |"
        f" {register.content} |\n"
    )


def render() -> str:
    """The whole page."""
    of_machine, of_dma = ("".join(map(row, table.values())) for table in (REGISTERS, DMA_REGISTERS))
    return HEAD + of_machine + OF_DMA + of_dma + TAIL


@command("docs")
def main() -> int:
    write_text(FILE, render())
    print(f"{FILE} written")
    return 0


if __name__ == "__main__":
    main.run()
