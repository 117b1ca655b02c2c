"""What the runner tells a test module, and what a test module tells the runner.

Read from the environment of the simulation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pymodel.machine.config import ArrayConfig

# the variable that names the folder of a prepared network, with these files
NETWORK_FOLDER = "TATAMI_NETWORK"
NETWORK_FILE, IMAGE_FILE = "network.npz", "image.tatami"


def config() -> ArrayConfig:
    """The configuration that the design under test was built with."""
    return ArrayConfig(**json.loads(os.environ["TATAMI_CONFIG"]))


def parameters() -> dict[str, int]:
    """The Verilog parameters that the top was built with."""
    result: dict[str, int] = json.loads(os.environ["TATAMI_PARAMETERS"])
    return result


def simulator() -> str:
    """`verilator` or `icarus`."""
    return os.environ["TATAMI_SIM"]


def images() -> int:
    """How many images to run."""
    return int(os.environ["TATAMI_IMAGES"])


def report(result: Mapping[str, Any]) -> None:
    """Hand `result` to the runner: flat values for the RESULT line, lists of flat dicts for tables.

    A later call adds to an earlier one.
    """
    path = Path(os.environ["TATAMI_RESULT"])
    earlier = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**earlier, **result}, default=_plain))


def _plain(value: Any) -> Any:
    """A numpy number as Python's own."""
    return value.item()
