"""Trains a network again and writes its kept data:

`make train NET=digits`. Ends with one line `TRAIN {json}`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from pymodel.machine.errors import TatamiError
from pymodel.training import TRAINERS


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="", metavar="NET", help=f"one of: {', '.join(TRAINERS)}")
    parser.add_argument(
        "--seed", type=int, default=1, help="of first weights, order and distortion of the images (default 1)"
    )
    parser.add_argument("--out", type=Path, help="file to write (default: the data kept in the repository)")
    given = parser.parse_args(arguments)
    try:
        if given.net not in TRAINERS:
            raise TatamiError(f"NET is '{given.net}', must be one of: {', '.join(TRAINERS)}")
        try:
            trainer = importlib.import_module(TRAINERS[given.net])
        except ModuleNotFoundError as error:
            raise TatamiError(
                f"training '{given.net}' needs the package '{error.name}', which is not installed"
            ) from None
        figures = trainer.run(given.seed, given.out)
    except TatamiError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    print(f"TRAIN {json.dumps(figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
