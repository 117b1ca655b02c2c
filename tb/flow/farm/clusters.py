"""Batch systems: jobs that are workers of a scheduler in this process, by dask-jobqueue, whose own
configuration file applies. To be imported in the main thread.
"""

from __future__ import annotations

import importlib
import inspect
import shlex
import shutil
import signal
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import dask
from distributed import Status

from pymodel.machine.errors import TatamiError
from pymodel.machine.places import BUILD, ROOT
from tb.flow.farm.crew import FarmError


def _imported() -> ModuleType:
    """dask-jobqueue, which puts a handler of ctrl-C in place of ours when it is imported."""
    ours = signal.getsignal(signal.SIGINT)
    try:
        return importlib.import_module("dask_jobqueue")
    finally:
        signal.signal(signal.SIGINT, ours)


dask_jobqueue = _imported()
CLUSTERS = {
    "slurm": dask_jobqueue.SLURMCluster,
    "lsf": dask_jobqueue.LSFCluster,
    "pbs": dask_jobqueue.PBSCluster,
    "sge": dask_jobqueue.SGECluster,
}
# A job's script is one of bash; by default these systems give it to the user's shell, or to csh.
SHELL = {"pbs": ["-S /bin/bash"], "sge": ["-S /bin/bash"]}
OURS = ("build", "wait")  # options that are not dask-jobqueue's
OWN = {"self", "scheduler", "name", "loop", "asynchronous", "job_cls", "n_workers", "scheduler_cls", "nanny"}
LOGS = BUILD / "farm" / "jobs"
MEMORY = "2GB"  # of a worker
DEATH_TIMEOUT_S = 60  # a job ends so long after its coordinator


def check(farm: str, options: Mapping[str, Any]) -> None:
    """Raises `TatamiError` for options that there are not, and without the batch system's commands."""
    kind = CLUSTERS[farm]
    known = set(OURS)
    for part in (kind.job_cls, dask_jobqueue.core.Job, dask_jobqueue.core.JobQueueCluster):
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


@dataclass(frozen=True)
class Jobs:
    """A scheduler here, to be awaited, and jobs for `count` workers. `logs`: the folder of what they print.
    `refused`: why jobs were not started.
    """

    cluster: Any
    count: int
    logs: str
    refused: list[str]

    def refill(self) -> None:
        """Starts jobs in place of those that have ended."""
        self.cluster.scale(self.count)

    @property
    def hopeless(self) -> str:
        """Why no job at all was started."""
        return self.refused[-1] if self.refused and len(self.refused) >= len(self.cluster.worker_spec) else ""


class _Noting:
    """A job that notes why it is not started. Dask would say so in its log, and wait for it."""

    refused: list[str]
    status: Status
    submit_command: str

    async def start(self) -> None:
        try:
            await super().start()  # type: ignore[misc]  # of the class beside it
        except (RuntimeError, ValueError, OSError) as error:
            said = str(error).partition("stderr:\n")[2].strip() or str(error)
            self.refused.append(said.splitlines()[0])
            self.status = Status.running

    async def _submit_job(self, script: str) -> Any:
        """dask-jobqueue itself lets go of what LSF's command says when it takes the script from stdin."""
        if getattr(self, "use_stdin", False):
            call = f"{self.submit_command} < {shlex.quote(script)}"
            return await self._call([call], shell=True)  # type: ignore[attr-defined]
        return await super()._submit_job(script)  # type: ignore[misc]


def jobs(farm: str, options: Mapping[str, Any], count: int) -> Jobs:
    """Each worker has one core of its job."""

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
        "job_extra_directives": [*SHELL.get(farm, []), *setting("job_extra_directives", [])],
        "job_script_prologue": [*prologue, *setting("job_script_prologue", [])],
        "cores": cores,
        "processes": cores,
    }
    kind, refused = CLUSTERS[farm], list[str]()
    job = type("Job", (_Noting, kind.job_cls), {"refused": refused})
    try:
        with warnings.catch_warnings(action="ignore"):
            made = kind(count, job_cls=job, asynchronous=True, silence_logs="critical", **told)
    except (ValueError, TypeError, OSError) as error:
        raise FarmError(f"FARM {farm}: {str(error).splitlines()[0]}") from None
    return Jobs(made, count, str(told["log_directory"]), refused)
