"""Sizes that follow from the parameters of the machine: each is a number in one configuration and, for the
RTL, an expression in the names of the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Values = Mapping[str, int]  # of parameters, by their names in Verilog
# a Verilog expression that needs no parentheses in a sum, and what it comes to
Part = tuple[str, Callable[[Values], int]]


def clog2(value: int) -> int:
    """Bits needed to count `value` things (0 for one thing), as Verilog's `$clog2`."""
    return max(0, (value - 1).bit_length())


@dataclass(frozen=True)
class Size:
    """`constant` plus the sum of `parts`."""

    constant: int = 0
    parts: tuple[Part, ...] = ()

    def __add__(self, other: Size) -> Size:
        return Size(self.constant + other.constant, self.parts + other.parts)

    def __mul__(self, other: Size) -> Size:
        if not self.parts and self.constant == 1:
            return other
        return _one(f"{self.factor} * {other.factor}", lambda values: self.of(values) * other.of(values))

    def of(self, values: Values) -> int:
        return self.constant + sum(value(values) for _, value in self.parts)

    @property
    def verilog(self) -> str:
        """As a sum, without parentheses around it."""
        texts = [text for text, _ in self.parts]
        return " + ".join([str(self.constant), *texts] if self.constant or not texts else texts)

    @property
    def factor(self) -> str:
        """As `verilog`, in parentheses if it has several terms."""
        terms = len(self.parts) + bool(self.constant)
        return f"({self.verilog})" if terms > 1 or " * " in self.verilog else self.verilog


def _one(verilog: str, value: Callable[[Values], int]) -> Size:
    return Size(parts=((verilog, value),))


def named(name: str) -> Size:
    """The parameter of this name."""
    return _one(name, lambda values: values[name])


def address_bits(depth: Size) -> Size:
    """Bits of the address of so many words."""
    return _one(f"$clog2({depth.verilog})", lambda values: clog2(depth.of(values)))


def where(name: str, value: int, there: Size, otherwise: Size) -> Size:
    """`there` if the parameter has this value, else `otherwise`."""
    return _one(
        f"({name} == {value} ? {there.verilog} : {otherwise.verilog})",
        lambda values: (there if values[name] == value else otherwise).of(values),
    )
