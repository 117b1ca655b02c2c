"""Run a failure again with the inside of the machine visible: `make replay FAILURE=build/failures/...`.

Ends with one line `REPLAY {json}`; exit status 1 if it fails again, 0 if the run passes now, 2 for bad input.
"""

from __future__ import annotations

import json
from pathlib import Path

from pymodel.machine.errors import TatamiError
from scripts.command import command, console, variable, working
from tb.flow import failure as kept
from tb.flow import simulators
from tb.flow.replay import replay


@command("replay")
@variable("FAILURE", what="the folder of a failure")
def main(failure: str | None) -> int:
    if not failure:
        raise TatamiError(f"FAILURE is not given: the folder of a failure below {kept.shown(kept.FAILURES)}")
    failed = kept.load(Path(failure))
    simulators.check_simulator(failed.sim)
    print(f"{failed.test.name} on {failed.sim}, configuration {failed.config.name}, seed {failed.seed}:")
    print(*failed.message.splitlines()[:3], sep="\n")

    with working(console()) as progress:
        again = replay(failed, progress)
    print(*again.lines(), sep="\n")
    result = {
        "failure": kept.shown(failed.folder),
        "reproduced": not again.passed,
        "divergence": None if again.divergence is None else again.divergence.to_json(),
        "waves": None if again.waves is None else kept.shown(again.waves),
    }
    print("REPLAY", json.dumps(result))
    return 0 if again.passed else 1


if __name__ == "__main__":
    main.run()
