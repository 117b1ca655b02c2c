"""`make bench BENCH=operators`: the operator tests of the package `onnx`, whose networks then run on the RTL,
all in one simulation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pymodel.bench import operators
from pymodel.bench.operators import CONFIG, Ran
from pymodel.compiler.compile import compile_fitted, compile_network
from pymodel.machine.config import DEPTHS, ArrayConfig, get_config
from pymodel.machine.errors import TatamiError
from pymodel.network import network_file
from pymodel.network.network_file import StoredNetwork
from tb.common.settings import IMAGE_FILE, NETWORK_FILE, Options
from tb.flow import runner, simulators
from tb.flow.testlist import TestSpec

TEST = TestSpec("operators", "tb.psa_top.test_several", "", timeout_s=3600)
SEED = 1


def run(console: Console) -> dict[str, Any]:
    """As `pymodel.bench.operators.run`."""
    return operators.run(console, on_rtl)


def on_rtl(ran: Sequence[Ran]) -> dict[int, str]:
    """Runs the networks one after the other on one machine that has room for each; what is wrong, by their
    numbers. Raises `TatamiError` if the simulation does not come to its end.
    """
    config = room_for(ran)
    with tempfile.TemporaryDirectory() as scratch:
        for number, one in enumerate(ran):
            folder = Path(scratch) / f"{number:04}"
            folder.mkdir()
            stored = StoredNetwork(one.network, one.images, np.zeros(0, np.uint8), {}, {})
            network_file.save(stored, folder / NETWORK_FILE)
            compile_network(one.network, config).save(folder / IMAGE_FILE)
        options = Options(network=scratch)
        done = runner.run(TEST, simulators.SIMULATORS[0], config, SEED, options=options)
    rows = done.result.get("networks", [])
    if len(rows) != len(ran):
        raise TatamiError(f"the simulation ended early: {done.message.splitlines()[:1]}; log: {done.log}")
    return {number: row["wrong"] for number, row in enumerate(rows) if row["wrong"]}


def room_for(ran: Sequence[Ran]) -> ArrayConfig:
    """The array with memories and activation tables for each of these networks."""
    configs = [compile_fitted(one.network, get_config(CONFIG)).config for one in ran]
    most: dict[str, Any] = {name: max(getattr(one, name) for one in configs) for name in (*DEPTHS, "tables")}
    return replace(get_config(CONFIG), **most)
