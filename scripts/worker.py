"""Workers of a Dask scheduler, for the runs of `make regress FARM=tcp://host:port`: `make worker`.

They write below build/ of this checkout, or below BUILD, which may be a disk that all machines share. They
end with their scheduler.
"""

from __future__ import annotations

import os
import sys

from pymodel.machine.errors import TatamiError
from pymodel.machine.places import ROOT
from scripts.command import Kind, command, need, variable
from scripts.command import jobs as workers
from scripts.farm import NEEDED
from tb.flow.farm.choice import ADDRESS

# It ends so long after a scheduler has gone, or if none is there.
DEATH_TIMEOUT_S = 60
ARGUMENTS = (
    "--nthreads",
    "1",
    "--memory-limit",
    "0",
    "--no-dashboard",
    "--death-timeout",
    str(DEATH_TIMEOUT_S),
)


def address(name: str, text: str) -> str:
    """The value of FARM here."""
    if not ADDRESS.fullmatch(text):
        raise TatamiError(f"{name} '{text}' must be the address of a Dask scheduler, tcp://host:port")
    return text


@command("worker")
@variable("FARM", Kind("tcp://host:port", address), what="the Dask scheduler")
@workers(what="workers to start")
def main(farm: str | None, jobs: int) -> int:
    need(*NEEDED, group="farm")
    if farm is None:
        raise TatamiError("FARM is missing: the address of a Dask scheduler, tcp://host:port")
    os.chdir(ROOT)
    # a worker has a process of its own for the runs
    env = {**os.environ, "DASK_DISTRIBUTED__WORKER__DAEMON": "False", "PYTHONPATH": path()}
    call = [sys.executable, "-m", "distributed.cli.dask_worker", farm, *ARGUMENTS, "--nworkers", str(jobs)]
    sys.stdout.flush()
    os.execve(sys.executable, call, env)


def path() -> str:
    """Where the workers find the code."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


if __name__ == "__main__":
    main.run()
