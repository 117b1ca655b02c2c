"""Run a failure again with the inside of the machine visible: `make replay FAILURE=build/failures/...`.

Ends with one line `REPLAY {json}`; exit status 1 if it fails again, 0 if the run passes now, 2 for bad input.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from pymodel.machine.errors import TatamiError
from tb.flow import failure, runner
from tb.flow.replay import replay


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--failure", default="")
    folder = parser.parse_args(arguments).failure
    if not folder:
        raise TatamiError(
            f"FAILURE is not given: the folder of a failure below {failure.shown(failure.FAILURES)}"
        )
    failed = failure.load(Path(folder))
    runner.check_simulator(failed.sim)
    print(f"{failed.test.name} on {failed.sim}, configuration {failed.config.name}, seed {failed.seed}:")
    print(*failed.message.splitlines()[:3], sep="\n")

    console = Console(highlight=False)
    status = console.status("") if console.is_terminal else None
    with status or nullcontext():
        again = replay(failed, status.update if status else runner.no_progress)
    print(*again.lines(), sep="\n")
    result = {
        "failure": failure.shown(failed.folder),
        "reproduced": not again.passed,
        "divergence": None if again.divergence is None else again.divergence.to_json(),
        "waves": None if again.waves is None else failure.shown(again.waves),
    }
    print("REPLAY", json.dumps(result))
    return 0 if again.passed else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except TatamiError as error:
        print(f"{Path(__file__).stem}: {error}", file=sys.stderr)
        sys.exit(2)
