"""The energy of an image: RTL events times the energies of a process, from `energy.yaml` beside this file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pymodel.cost.counts import ImageCost, LayerCost
from pymodel.machine.config import ArrayConfig
from pymodel.machine.files import Fields, Line, checked, read_yaml
from pymodel.machine.memory import memories

ENERGY_TABLE = Path(__file__).with_name("energy.yaml")

# Bits that the energy of a unit is for. The energy of an operation does not depend on its width.
UNITS = {"operation": 1, "bit": 1, "32 bits": 32, "64 bits": 64}
SRAM_KBYTES = {"sram_8k": 8, "sram_32k": 32, "sram_1m": 1024}
LOADED_FOR = 100  # images that one load of the memories is shared by

Picojoules = Annotated[float, Field(ge=0, le=1e6)]


# The file


class OperationEnergy(Fields):
    """`pj` for one operation. `source` says where the number comes from."""

    pj: Picojoules
    unit: Literal["operation"]
    source: Line


class BitsEnergy(Fields):
    """`pj` for a number of bits. `source` says where the number comes from."""

    pj: Picojoules
    unit: Literal["bit", "32 bits", "64 bits"]
    source: Line


class EnergyEntries(Fields):
    """The events that have an energy."""

    multiply_int8: OperationEnergy
    multiply_int32: OperationEnergy
    add: BitsEnergy
    register_: BitsEnergy = Field(alias="register")  # every pydantic class has a `register`
    sram_8k: BitsEnergy
    sram_32k: BitsEnergy
    sram_1m: BitsEnergy
    dram: BitsEnergy


class EnergyFile(Fields):
    """The content of `energy.yaml`: `technology` in words, and the energies."""

    technology: Line
    entries: EnergyEntries


ENTRIES = tuple(one.alias or name for name, one in EnergyEntries.model_fields.items())


# Energy


@dataclass(frozen=True)
class EnergyTable:
    """Energies per event in pJ, by name of the entry: of an operation, or of each bit."""

    pj: dict[str, float] = field(hash=False)

    def sram(self, bits: int) -> float:
        """pJ for each bit of an access to a memory of `bits` bits. Linear over the square root of the size;
        constant beyond either end.
        """
        size = [math.sqrt(kbytes) for kbytes in SRAM_KBYTES.values()]
        return float(np.interp(math.sqrt(bits / 8192), size, [self.pj[name] for name in SRAM_KBYTES]))


def load_energy(path: Path = ENERGY_TABLE) -> EnergyTable:
    """Reads a table in the format of `energy.yaml`. Raises `TatamiError` naming file, field and limit."""
    where = f"energy table '{path}'"
    entries = checked(EnergyFile, read_yaml(path, where), where).entries
    energies: list[OperationEnergy | BitsEnergy] = [entry for _, entry in entries]
    pj = [entry.pj / UNITS[entry.unit] for entry in energies]
    return EnergyTable(dict(zip(ENTRIES, pj, strict=True)))


@dataclass(frozen=True)
class Energy:
    """nJ for one image, by part.

    `mac`: multiplications and the additions to partial sums and accumulators; `array`: the registers of the
    PEs; `requantise`: its multiplication and additions; `slots`, `banks`, `accumulators`: these memories;
    `tables`: LANE, GROUP, TAP, EDGE, FILTER, TILE, PROGRAM and ACTIVATION; `streams`: DRAM.
    """

    mac: float = 0.0
    array: float = 0.0
    requantise: float = 0.0
    slots: float = 0.0
    banks: float = 0.0
    accumulators: float = 0.0
    tables: float = 0.0
    streams: float = 0.0

    @property
    def total(self) -> float:
        return math.fsum(self.parts().values())

    def parts(self) -> dict[str, float]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


def energy(cost: ImageCost, table: EnergyTable, machine: ArrayConfig | None = None) -> Energy:
    """Energy for one image, with its share of loading the memories.

    `machine`: the configuration whose memories are accessed, if it is not the image's own. An access to a
    larger memory takes more energy. So images that are compared as programs of one machine need the same
    `machine`.
    """
    layers = [layer_energy(layer, cost.config, table, machine) for layer in cost.layers]
    sram = _sram(cost.config, machine or cost.config, table)
    rest = Energy(
        banks=sram["FEATURE"] * (2 * cost.out_words + cost.input_words) / 1e3,
        # all records except LAYER, and TILE in the cycles between the layers
        tables=(
            sram["PROGRAM"] * (cost.records - cost.total("program_reads"))
            + sram["TILE"] * (cost.cycles - cost.total("cycles"))
        )
        / 1e3,
        streams=table.pj["dram"]
        * 8
        * (cost.load_bytes / cost.images + cost.stream_bytes + cost.input_bytes + cost.out_bytes)
        / 1e3,
    )
    return _sum([*layers, rest])


def layer_energy(
    layer: LayerCost, config: ArrayConfig, table: EnergyTable, machine: ArrayConfig | None = None
) -> Energy:
    """Energy of one layer for one image, without the streams. `machine` as in `energy`."""
    pj = table.pj
    sram = _sram(config, machine or config, table)
    # a PE gives its sum, the last one of a hop its bundle, `valid` and `first`, and the sums of the later
    # columns of a hop wait for their turn; a slot goes through the shadow register into the active one
    waits = sum(column - column // config.hop for column in range(config.size)) / config.size**2
    step_bits = (config.group * 8 + 2) / config.hop + config.psum_bits * (1 + waits)
    tables = {
        "LANE": layer.lane_reads,
        "GROUP": layer.group_reads,
        "TAP": layer.tap_reads,
        "EDGE": layer.edge_reads,
        "FILTER": layer.filter_reads,
        "TILE": layer.tile_reads,
        "PROGRAM": layer.program_reads,
    }
    if config.tables:
        tables["ACTIVATION"] = layer.activation_reads
    return Energy(
        mac=(
            pj["multiply_int8"] * layer.macs
            + pj["add"] * (config.psum_bits * layer.macs + 32 * layer.accumulator_reads)
        )
        / 1e3,
        array=pj["register"] * (step_bits * layer.steps + 2 * config.slot_bits * layer.slots_loaded) / 1e3,
        requantise=(pj["multiply_int32"] + 2 * 32 * pj["add"]) * layer.requantised / 1e3,
        slots=sram["SLOT"] * layer.slot_rows / 1e3,
        banks=sram["FEATURE"] * (layer.bank_reads + layer.bank_writes) / 1e3,
        accumulators=sram["ACCUMULATOR"] * (layer.accumulator_reads + layer.accumulator_writes) / 1e3,
        tables=math.fsum(sram[name] * reads for name, reads in tables.items()) / 1e3,
    )


def _sram(config: ArrayConfig, machine: ArrayConfig, table: EnergyTable) -> dict[str, float]:
    """pJ for a word of each memory of `config`, with the sizes of `machine`. A feature bank is two halves,
    and each column has its own accumulators.
    """
    per_word = {}
    deep = memories(machine)
    for name, memory in memories(config).items():
        depth = deep[name].depth // (2 if name == "FEATURE" else 1)
        per_word[name] = table.sram(depth * deep[name].width) * memory.width
    per_word["ACCUMULATOR"] = table.sram(machine.acc_words * machine.size * 32) * 32
    return per_word


def _sum(parts: Iterable[Energy]) -> Energy:
    total = Energy()
    for part in parts:
        total = replace(total, **{name: value + getattr(total, name) for name, value in part.parts().items()})
    return total
