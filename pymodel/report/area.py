"""The area of a PE, to compare arrays of different slots at equal area: estimates of CMOS transistors.

They are of a PE alone, after technology mapping by Yosys: a 32-bit sum, two slots, and the registers that
pass the bundle on in every PE. The 4-bit entries were mapped without those registers; they have the
difference that the registers make for 8-bit slots of the same group.
"""

from __future__ import annotations

# By bits of a slot's weight or digit, and group.
_REGISTERS = {8: 6832 - 6184, 16: 8858 - 6824}
PE_TRANSISTORS = {
    (8, 1): 5602,
    (8, 4): 6294,
    (8, 8): 6832,
    (8, 16): 8858,
    (4, 8): 4462 + _REGISTERS[8],
    (4, 16): 5066 + _REGISTERS[16],
}


def pes_at_equal_area(slot: tuple[int, int], base: tuple[int, int]) -> float | None:
    """How many PEs of `slot` (bits, group) have the area of one of `base`. None if one is not known."""
    if slot not in PE_TRANSISTORS or base not in PE_TRANSISTORS:
        return None
    return PE_TRANSISTORS[base] / PE_TRANSISTORS[slot]
