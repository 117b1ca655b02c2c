#!/usr/bin/env python3
"""A batch system of one machine in place of LSF, PBS and SGE. Called as bsub, bkill, qsub or qdel, by links
of these names, it does what dask-jobqueue uses of them.

Folder $BATCH_SYSTEM holds its jobs: N.sh, as it was handed in, and N.pid. As there, LSF hands the environment
on and the others do not; PBS begins in the home folder; PBS and SGE take the shell of `-S`, whatever the
script's first line says, and else that of an old user.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

MARKS = {"#BSUB": "lsf", "#PBS": "pbs", "#$": "sge"}
QUEUE = "tests"
SAID = {
    "lsf": "Job <{job}> is submitted to queue <tests>.",
    "pbs": "{job}.server",
    "sge": 'Your job {job} ("dask-worker") has been submitted',
}
VARIABLES = {"lsf": "LSB_JOBID", "pbs": "PBS_JOBID", "sge": "JOB_ID"}
REFUSED = {
    "lsf": "nonsense: No such queue. Job not submitted.",
    "pbs": "qsub: Unknown queue",
    "sge": "Unable to run job: Job was rejected because job requests unknown queue",
}


def submit(folder: Path) -> str:
    script = Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else sys.stdin.read()
    lines = [line.split() for line in script.splitlines() if line.split()[:1] and line.split()[0] in MARKS]
    (kind,) = {MARKS[words[0]] for words in lines}
    told = {words[1]: words[2:] for words in lines}
    if told.get("-q") != [QUEUE]:
        sys.exit(REFUSED[kind])
    job = 1
    while True:
        try:
            (folder / f"{job}.sh").touch(exist_ok=False)
            break
        except FileExistsError:
            job += 1
    (folder / f"{job}.sh").write_text(script)
    home = {"HOME": str(folder), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    env = {**(os.environ if kind == "lsf" else home), VARIABLES[kind]: str(job)}
    shell = "/bin/bash" if kind == "lsf" else told.get("-S", ["/bin/csh"])[0]
    logs = told["-o"][0].replace("%J", str(job))
    log = Path(logs) if kind == "lsf" else Path(logs) / f"dask-worker.o{job}"
    cwd = folder if kind == "pbs" else None
    with log.open("w") as out:
        begun = subprocess.Popen(
            ["/bin/sh", "-c", 'exec "$0" "$1"', shell, folder / f"{job}.sh"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    (folder / f"{job}.pid").write_text(str(begun.pid))
    return SAID[kind].format(job=job)


def cancel(folder: Path) -> str:
    for job in sys.argv[1:]:
        file = folder / f"{re.sub('[.].*', '', job)}.pid"
        os.killpg(int(file.read_text()), signal.SIGKILL)
    return ""


if __name__ == "__main__":
    does = {"bsub": submit, "qsub": submit, "bkill": cancel, "qdel": cancel}[Path(sys.argv[0]).name]
    print(does(Path(os.environ["BATCH_SYSTEM"])))
