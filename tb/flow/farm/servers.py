"""Servers of farms, started and ended on this machine: a Dask scheduler with workers, a Slurm of one node.
Tests and `make bench BENCH=farm` have their runs done by them.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pymodel.machine.errors import TatamiError
from pymodel.machine.places import ROOT
from tb.flow.processes import within

DAEMONS = ("munged", "slurmctld", "slurmd")
TOOLS = (*DAEMONS, "sbatch", "squeue", "scancel", "sinfo", "mungekey")
END_S = 20
CONF = """
ClusterName=tatami
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={second}
SlurmUser=root
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000
PartitionName=tests Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
# FARM_OPTIONS for it
OPTIONS = {"interface": "lo", "memory": "400MB", "queue": "tests"}


def no_slurm() -> str:
    """Why a Slurm cannot be started here; empty if it can."""
    missing = [name for name in TOOLS if _tool(name) is None]
    if missing:
        return f"Slurm is not installed: no {', '.join(missing)}"
    return "" if os.getuid() == 0 else "slurmd starts as root only"


def _tool(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        made = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in made]


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """The variables of the environment with which Slurm's commands reach it. `folder` has its state and logs,
    what the daemons print in `log`. Raises `TatamiError` if it does not come up.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir()
    conf, munge = folder / "slurm.conf", folder / "munge.socket"
    port, second = _free_ports(2)
    conf.write_text(CONF.format(host=platform.node(), port=port, second=second, folder=folder))
    key = folder / "munge.key"
    subprocess.run([str(_tool("mungekey")), "-c", "-k", key], check=True)
    files = [f"--{name}-file={folder}/munged.{name}" for name in ("log", "pid", "seed")]
    begun = [
        [str(_tool("munged")), "--force", "-F", f"--socket={munge}", f"--key-file={key}", *files],
        [str(_tool("slurmctld")), "-D", "-i", "-f", str(conf)],
        [str(_tool("slurmd")), "-D", "-f", str(conf)],
    ]
    reach = {"SLURM_CONF": str(conf)}
    env = {**os.environ, **reach}

    def idle() -> bool:
        call = ("sinfo", "-h", "-o", "%T")
        asked = subprocess.run(call, env=env, capture_output=True, text=True, check=False)
        return asked.stdout.split() == ["idle"]

    daemons: list[subprocess.Popen[bytes]] = []
    with (folder / "log").open("wb") as said:
        try:
            for call in begun:
                daemons.append(
                    subprocess.Popen(call, env=env, stdout=said, stderr=said, start_new_session=True)
                )
                if call is begun[0] and not within(munge.exists):
                    raise TatamiError(f"{folder}/log: munged does not answer")
            if not within(idle):
                raise TatamiError(f"{folder}/log: Slurm does not answer")
            yield reach
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
                with suppress(subprocess.TimeoutExpired):
                    daemon.wait(END_S)
                with suppress(ProcessLookupError):
                    os.killpg(daemon.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Scheduler:
    """A Dask scheduler on this machine, and workers that write below `build`. `name` is its FARM."""

    name: str
    process: subprocess.Popen[bytes]
    build: Path


@contextmanager
def scheduler(folder: Path, build: Path, workers: int = 2, path: Path = ROOT) -> Iterator[Scheduler]:
    """`folder` has its log; on `path` its workers find code, besides the checkout."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{path}"}
    file = folder / "scheduler.json"
    call = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    call += ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
    with (folder / "log").open("wb") as said:
        process = subprocess.Popen(call, cwd=ROOT, env=env, stdout=said, stderr=said)
        hands = None
        try:
            if not within(file.is_file):
                raise TatamiError(f"{folder}/log: the Dask scheduler does not start")
            address = json.loads(file.read_text())["address"]
            told = {"BUILD": str(build), "MAKE_GIVEN": ""}  # another command may have been called by make
            call = [sys.executable, "-m", "scripts.worker", f"--farm={address}", f"--jobs={workers}"]
            hands = subprocess.Popen(call, cwd=ROOT, env={**env, **told}, stdout=said, stderr=said)
            yield Scheduler(address, process, build)
        finally:
            for each in filter(None, (hands, process)):
                each.terminate()
                each.wait(END_S * 3)
