"""Batch systems: jobs that are workers of a scheduler in this process, by dask-jobqueue, whose own
configuration file applies.
"""

from __future__ import annotations

import inspect
import shlex
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask
import dask_jobqueue
from dask_jobqueue.core import Job, JobQueueCluster

from pymodel.machine.errors import TatamiError
from pymodel.machine.places import BUILD, ROOT
from tb.flow.farm.crew import FarmError

CLUSTERS = {
    "slurm": dask_jobqueue.SLURMCluster,
    "lsf": dask_jobqueue.LSFCluster,
    "pbs": dask_jobqueue.PBSCluster,
    "sge": dask_jobqueue.SGECluster,
}
OURS = ("build", "wait")  # options that are not dask-jobqueue's
OWN = {"self", "scheduler", "name", "loop", "asynchronous", "job_cls", "n_workers", "scheduler_cls", "nanny"}
LOGS = BUILD / "farm" / "jobs"
MEMORY = "2GB"  # of a worker
DEATH_TIMEOUT_S = 60  # a job ends so long after its coordinator


def check(farm: str, options: Mapping[str, Any]) -> None:
    """Raises `TatamiError` for options that there are not, and without the batch system's commands."""
    kind = CLUSTERS[farm]
    known = set(OURS)
    for part in (kind.job_cls, Job, JobQueueCluster):
        parameters = inspect.signature(part.__init__).parameters.values()
        known |= {p.name for p in parameters if p.kind != p.VAR_KEYWORD} - OWN
    for name in options:
        if name not in known:
            raise TatamiError(
                f"FARM_OPTIONS: '{name}' is no option of FARM {farm}; there are: {', '.join(sorted(known))}"
            )
    for name in ("cores", "processes"):
        if not isinstance(options.get(name, 1), int) or options.get(name, 1) == 0:
            raise TatamiError(f"FARM_OPTIONS: '{name}' must be a number above 0, not '{options[name]}'")
    for command in (kind.job_cls.submit_command, kind.job_cls.cancel_command):
        tool = shlex.split(command)[0]
        if shutil.which(tool) is None:
            raise TatamiError(f"FARM {farm}: the command '{tool}' is not found; jobs are started from here")


def cluster(farm: str, options: Mapping[str, Any], count: int) -> JobQueueCluster:
    """To be awaited: a scheduler here, and jobs for `count` workers. Each has one core of its job."""

    def setting(name: str, default: Any) -> Any:
        found = options.get(name)
        return (
            dask.config.get(f"jobqueue.{farm}.{name.replace('_', '-')}") or default
            if found is None
            else found
        )

    cores = setting("cores", 1)
    build = Path(options.get("build") or BUILD)
    prologue = [
        f"cd {shlex.quote(str(ROOT))} || exit 1",
        f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}",
        f"export BUILD={shlex.quote(str(build))}",
        "export DASK_DISTRIBUTED__WORKER__DAEMON=False",  # a worker has a process for its runs
    ]
    LOGS.mkdir(parents=True, exist_ok=True)
    told = {
        "memory": setting("memory", MEMORY),
        "log_directory": setting("log_directory", str(LOGS)),
        "death_timeout": setting("death_timeout", DEATH_TIMEOUT_S),
        # it is the run that takes memory, which the worker does not see
        "worker_extra_args": [*setting("worker_extra_args", []), "--memory-limit", "0"],
        "scheduler_options": {"dashboard_address": ":0", **setting("scheduler_options", {})},
        **{name: value for name, value in options.items() if name not in OURS},
        "job_script_prologue": [*prologue, *setting("job_script_prologue", [])],
        "cores": cores,
        "processes": cores,
    }
    try:
        with warnings.catch_warnings(action="ignore"):
            return CLUSTERS[farm](count, asynchronous=True, silence_logs="critical", **told)
    except (ValueError, TypeError, OSError) as error:
        raise FarmError(f"FARM {farm}: {str(error).splitlines()[0]}") from None
