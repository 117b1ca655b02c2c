"""Renders docs/parameters.md, the parameters of the machine: `python -m scripts.parameters`."""

from __future__ import annotations

from pymodel.machine.config import DEFAULTS, PARAMETERS, Legal
from pymodel.machine.places import ROOT
from scripts.command import command

FILE = ROOT / "docs" / "parameters.md"

HEAD = """# Parameters of the machine

Everything takes its sizes from `ArrayConfig` (`pymodel/machine/config.py`): the RTL as Verilog parameters of
`psa_top`, the model, the tests and the files of images. [machine.md](machine.md#parameters) says what happens
to an illegal value. [How to add a parameter](how-to/add-a-parameter.md) is a worked example.

Rendered by `python -m scripts.parameters`; a test fails when the two differ.

| Verilog parameter | field of `ArrayConfig` | legal values | default | what it is |
|---|---|---|---|---|
"""


def row(name: str, legal: Legal) -> str:
    """A line of the table."""
    verilog = " = ".join(f"`{parameter}`" for parameter in legal.verilog)
    values = ", ".join(map(str, legal.values)) or f"{legal.low} to {legal.high}"
    return f"| {verilog} | `{name}` | {values} | {DEFAULTS[name]} | {legal.what} |\n"


def render() -> str:
    """The whole page."""
    return HEAD + "".join(row(name, legal) for name, legal in PARAMETERS.items())


@command("parameters")
def main() -> int:
    FILE.write_text(render())
    print(f"{FILE} written")
    return 0


if __name__ == "__main__":
    main.run()
