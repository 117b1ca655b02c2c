"""Renders docs/registers.md, and rtl/psa_registers.vh, which tells the RTL where registers and their fields
are and which code an error has: `python -m scripts.registers`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from pymodel.machine.errors import DmaErrorCode, ErrorCode
from pymodel.machine.files import write_text
from pymodel.machine.places import ROOT
from pymodel.machine.registers import DMA_BASE, DMA_REGISTERS, REGISTERS, Register
from scripts.command import command
from scripts.words import define

FILE = ROOT / "docs" / "registers.md"
HEADER_FILE = ROOT / "rtl" / "psa_registers.vh"

HEAD = """# Registers

AXI4-Lite, 32 bits, byte addresses. An address within a word is the word's; the strobes say which bytes are
written. An access to a word without a register, or a write to a read-only register, answers SLVERR and
changes nothing. Bits without a name read as 0. What START and SOFT_RESET do, and when they
are refused, is in [machine.md](machine.md#registers).

Rendered from `pymodel/machine/registers.py` by `python -m scripts.registers`; a test fails when the two
differ. The RTL has addresses, fields and error codes from the same tables, in `rtl/psa_registers.vh`.

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

HEADER_HEAD = """// Where the registers and their fields are (docs/registers.md), and the codes of errors.
//
// Rendered from pymodel/machine/registers.py and errors.py by `python -m scripts.registers`. A test fails
// when they differ.
//
//   PSA_REG_<register>          its address; of the DMA, DMA_<register>, from the first of them on
//   PSA_REG_<register>_<field>  the lowest bit of the field
//   PSA_REG_<register>_RESET    its value, of a register that always has the same
//   PSA_ERR_<name>              the code of an error in ERROR
//   PSA_DMA_ERR_<name>          ... and in DMA_ERROR

`ifndef PSA_REGISTERS_VH
`define PSA_REGISTERS_VH
"""

HEADER_TAIL = """
`endif
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


def macros(register: Register) -> str:
    """The macros of a register."""
    name = f"REG_{register.name}"
    text = define(name, f"8'h{register.address % DMA_BASE:02X}")
    if register.access == "RO" and register.reset:
        text += define(f"{name}_RESET", f"32'h{register.reset:08X}")
    return text + "".join(define(f"{name}_{field}", part.lsb) for field, part in register.fields.items())


def codes(prefix: str, every: type[IntEnum]) -> str:
    return "".join(define(f"{prefix}_{code.name}", f"8'd{code.value}") for code in every)


def render_header(registers: Iterable[Register] = (*REGISTERS.values(), *DMA_REGISTERS.values())) -> str:
    """The whole header."""
    return (
        f"{HEADER_HEAD}\n// registers\n\n{''.join(map(macros, registers))}"
        f"\n// errors of the machine\n\n{codes('ERR', ErrorCode)}"
        f"\n// errors of the DMA\n\n{codes('DMA_ERR', DmaErrorCode)}{HEADER_TAIL}"
    )


@command("docs")
def main() -> int:
    for file, text in ((FILE, render()), (HEADER_FILE, render_header())):
        write_text(file, text)
        print(f"{file} written")
    return 0


if __name__ == "__main__":
    main.run()
