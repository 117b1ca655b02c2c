"""Runs the tests of `tb/coverage/runs.yaml` with coverage on."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from pymodel.machine.config import get_config
from pymodel.machine.errors import TatamiError
from tb.common import settings
from tb.common.settings import Options
from tb.flow import runner
from tb.flow.processes import processes
from tb.flow.testlist import get_test

FILE = runner.ROOT / "tb" / "coverage" / "runs.yaml"
DESIGN = "psa_top"


@dataclass(frozen=True)
class CoverageRun:
    """A run to make.

    `options` go to the test; `change` holds fields of the configuration that this run has otherwise.
    """

    test: str
    config: str
    seed: int
    options: Options = field(default_factory=Options)
    change: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.test} {self.config}{' changed' if self.change else ''} seed {self.seed}"


def load(path: Path = FILE, chosen: str = "*") -> list[CoverageRun]:
    """The jobs of the file whose name, like "random 4x2 seed 1", matches.

    Raises `TatamiError` for an entry that names no test or configuration.
    """
    jobs = []
    for index, entry in enumerate(yaml.safe_load(path.read_text()), 1):
        try:
            test, configs, seeds = entry["test"], entry["configs"], int(entry["seeds"])
        except (KeyError, TypeError, ValueError):
            raise TatamiError(f"{path.name}, entry {index}: must have test, configs and seeds") from None
        get_test(test)
        where = f"{path.name}, entry {index}: options"
        more = (settings.options(entry.get("options", {}), where), entry.get("change", {}))
        jobs += [
            CoverageRun(test, get_config(config).name, seed, *more)
            for seed in range(1, seeds + 1)
            for config in configs
        ]
    matching = [job for job in jobs if fnmatch.fnmatchcase(str(job), chosen)]
    if not matching:
        raise TatamiError(f"RUNS '{chosen}' matches none of {path.name}, like '{jobs[0]}'")
    return matching


def run_all(
    jobs: list[CoverageRun], workers: int, progress: Callable[[str], None]
) -> tuple[list[Path], list[str]]:
    """Runs all jobs; returns the folders of the runs, and a message for each that failed.

    What a failed run has covered does not count.
    """
    folders, failed = [], []
    with processes(workers) as pool:
        waiting: dict[Any, CoverageRun] = {pool.submit(_run, job): job for job in jobs}
        for number, future in enumerate(as_completed(waiting), 1):
            folder, message = future.result()
            if message:
                failed.append(f"{waiting[future]}: {message}")
            else:
                folders.append(folder)
            progress(f"{number} of {len(jobs)} runs: {waiting[future]}")
    return sorted(folders), failed


def _run(job: CoverageRun) -> tuple[Path, str]:
    options = job.options | Options(coverage=True)
    test = get_test(job.test)
    # the machine without its checkers: only the design is measured
    top = test.top if test.parameters else DESIGN
    config = replace(get_config(job.config), **job.change)
    outcome = runner.run(test, "verilator", config, job.seed, options=options, top=top, coverage=True)
    return outcome.log.parent, "" if outcome.passed else f"{outcome.message}\nlog: {outcome.log}"
