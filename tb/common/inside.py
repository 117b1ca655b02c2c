"""Where the blocks of the machine are below `psa_top`, for Python that looks inside. Checkers in Verilog have
tb/checkers/psa_places.vh.
"""

from __future__ import annotations

from typing import Any

CORE = "core"
FETCH, WRITEBACK = f"{CORE}.fetch", f"{CORE}.writeback"
LANE = f"{CORE}.gen_lane[{{row}}].lane"
PE = f"{CORE}.pe_array.gen_row[{{row}}].gen_col[{{column}}].pe"
COLUMN = f"{CORE}.gen_column[{{column}}].column"
ACCUMULATOR, REQUANT = f"{COLUMN}.accumulator", f"{COLUMN}.requant"


def sequencer(dut: Any) -> Any:
    """The sequencer below the top of a simulation, which may have checkers. Only Icarus shows it."""
    return getattr(getattr(dut, "dut", dut), CORE).sequencer
