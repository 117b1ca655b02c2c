"""A regression on a real Slurm of one machine, which this file starts and ends: munged, slurmctld and slurmd.

Skipped where Debian's slurmctld, slurmd, slurm-client and munge are not installed: that takes a minute, too
long for each `make test`.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from pymodel.machine.places import ROOT
from tb.flow import regress
from tb.flow.farm.choice import Farm, crew
from tb.flow.farm.crew import FarmError
from tests.flow.calls import sleep
from tests.flow.test_farm import RUNS, compared
from tests.support import gone, state_of, within

DAEMONS = ("munged", "slurmctld", "slurmd")
TOOLS = (*DAEMONS, "sbatch", "squeue", "scancel", "sinfo", "mungekey")
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
OPTIONS = {"interface": "lo", "memory": "400MB", "queue": "tests"}


def tool(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


MISSING = [name for name in TOOLS if tool(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"Slurm is not installed: no {', '.join(MISSING)}"),
    pytest.mark.skipif(os.getuid() != 0, reason="slurmd starts as root only"),
]


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        made = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in made]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a Slurm that runs and answers to the commands of this process."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    conf, munge = folder / "slurm.conf", folder / "munge.socket"
    port, second = free_ports(2)
    conf.write_text(CONF.format(host=platform.node(), port=port, second=second, folder=folder))
    key = folder / "munge.key"
    subprocess.run([str(tool("mungekey")), "-c", "-k", key], check=True)
    files = [f"--{name}-file={folder}/munged.{name}" for name in ("log", "pid", "seed")]
    begun = [
        [str(tool("munged")), "--force", "-F", f"--socket={munge}", f"--key-file={key}", *files],
        [str(tool("slurmctld")), "-D", "-i", "-f", str(conf)],
        [str(tool("slurmd")), "-D", "-f", str(conf)],
    ]
    daemons: list[subprocess.Popen[bytes]] = []
    with pytest.MonkeyPatch.context() as patch, (folder / "log").open("wb") as said:
        patch.setenv("SLURM_CONF", str(conf))
        try:
            for call in begun:
                daemons.append(subprocess.Popen(call, stdout=said, stderr=said, start_new_session=True))
                if call is begun[0]:
                    assert within(munge.exists)
            assert within(lambda: asked("sinfo", "-h", "-o", "%T") == ["idle"]), (folder / "log").read_text()
            yield folder
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
                with suppress(subprocess.TimeoutExpired):
                    daemon.wait(20)
                with suppress(ProcessLookupError):
                    os.killpg(daemon.pid, signal.SIGKILL)


def asked(*command: str) -> list[str]:
    """What one of Slurm's commands says; nothing while nobody answers."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def jobs() -> list[str]:
    return asked("squeue", "-h", "-o", "%i")


@pytest.mark.icarus
def test_the_records_on_slurm_are_those_of_this_machine(slurm: Path, tmp_path: Path) -> None:
    """Jobs write where the command does, and end with it."""
    folders: list[Path] = []
    for farm in ([], ["--farm=slurm", "--farm_options=interface=lo memory=400MB queue=tests"]):
        build = tmp_path / str(len(folders))
        done = subprocess.run(
            [sys.executable, "-m", "scripts.regress", *RUNS, "--jobs=2", *farm],
            cwd=ROOT,
            env={**os.environ, "BUILD": str(build)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + (slurm / "log").read_text()
        (folder,) = (build / "regress").iterdir()
        folders.append(folder)
    assert compared(folders[0]) == compared(folders[1])
    for row in regress.read_records(folders[1]):
        assert Path(row.log).is_file()
        assert row.lost == []
    assert any((tmp_path / "1" / "farm" / "jobs").iterdir())
    assert within(lambda: not jobs())


def test_a_job_that_is_cancelled_has_its_call_done_elsewhere_and_ctrl_c_ends_all(
    slurm: Path, tmp_path: Path
) -> None:
    assert slurm.is_dir()
    note = tmp_path / "note"
    with pytest.raises(KeyboardInterrupt), crew(Farm("slurm", OPTIONS), 2) as pool:  # noqa: PT012
        assert within(lambda: len(jobs()) == 2)
        call = pool.submit(sleep, note)
        assert within(note.is_file)
        first, job = note.read_text().split()
        note.unlink()
        subprocess.run(["scancel", job], check=True)
        assert within(note.is_file)
        second, other = note.read_text().split()
        assert other != job
        assert len(call.lost) == 1
        assert "was lost" in call.lost[0]
        assert gone(int(first))
        assert state_of(int(second)) not in ("", "Z")
        raise KeyboardInterrupt
    assert gone(int(second))
    assert within(lambda: not jobs())


def test_a_queue_that_there_is_not_is_said(slurm: Path) -> None:
    assert slurm.is_dir()
    with (
        pytest.raises(FarmError, match="FARM slurm: no job can be started: sbatch: error: .*partition"),
        crew(Farm("slurm", {**OPTIONS, "queue": "nonsense"}), 1),
    ):
        pass
