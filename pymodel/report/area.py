"""The area of a PE, to compare arrays of different slots at equal area.

Transistors of CMOS gates of a PE alone, by yosys, as `make bench BENCH=pe` prints them; a test measures some
of them again.
"""

from __future__ import annotations

# By bits of a slot's weight or digit, and group.
PE_TRANSISTORS = {
    **{(8, 1): 4830, (8, 2): 5242, (8, 4): 5694, (8, 8): 6598, (8, 16): 8290},
    **{(4, 1): 3242, (4, 2): 3682, (4, 4): 4136, (4, 8): 5052, (4, 16): 6730},
}


def pes_at_equal_area(slot: tuple[int, int], base: tuple[int, int]) -> float | None:
    """How many PEs of `slot` (bits, group) have the area of one of `base`. None if one is not known."""
    if slot not in PE_TRANSISTORS or base not in PE_TRANSISTORS:
        return None
    return PE_TRANSISTORS[base] / PE_TRANSISTORS[slot]
