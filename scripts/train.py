"""Trains a network again and writes its kept data: `make train NET=digits`.

Ends with one line `TRAIN {json}`.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from pymodel.machine.errors import TatamiError
from pymodel.training import TRAINERS
from scripts.command import WRITTEN, Integer, command, option, variable


@command("train")
@variable("NET", what=f"one of: {', '.join(TRAINERS)}")
@variable("SEED", Integer(0, 2**31 - 1), 1, "seed of first weights, order and distortion of the images")
@option("--out", WRITTEN, what="file to write (default: the data kept in the repository)")
def main(net: str | None, seed: int, out: Path | None) -> int:
    if net not in TRAINERS:
        raise TatamiError(f"NET is '{net or ''}', must be one of: {', '.join(TRAINERS)}")
    try:
        trainer = importlib.import_module(TRAINERS[net])
    except ModuleNotFoundError as error:
        raise TatamiError(
            f"training '{net}' needs the package '{error.name}', which is not installed"
        ) from None
    print(f"TRAIN {json.dumps(trainer.run(seed, out))}")
    return 0


if __name__ == "__main__":
    main.run()
