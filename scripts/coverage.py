"""Functional and code coverage of the tests in tb/coverage/runs.yaml: `make coverage`. Ends with one line
`COVERAGE {json}`.

Exit status 0 if all targets are reached, 1 if not or if a run failed, 2 for bad input.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from pymodel.machine.errors import TatamiError
from tb.flow import runner
from tb.flow.coverage import exclusions, report, runs
from tb.flow.coverage.merge import merge


def main() -> int:
    options = parse()
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    excluded = exclusions.load()
    started = time.monotonic()
    folders = [Path(folder) for folder in options.folders]
    failed: list[str] = []
    if not folders:
        status = console.status("building") if console.is_terminal else None
        with status or nullcontext():
            folders, failed = runs.run_all(
                runs.load(chosen=options.runs or "*"),
                jobs(options.jobs),
                status.update if status else runner.no_progress,
            )
    wall_s = time.monotonic() - started

    for message in failed:
        print(f"FAILED {message}")
    sources = runner.rtl_sources()
    coverage = merge(folders, excluded, sources)
    report.show(coverage, console)
    figures = report.figures(coverage)
    report.write_points(
        coverage, runner.BUILD / "coverage", whole=not (options.folders or options.runs or failed)
    )
    index = report.write_html(
        coverage, sources, runner.BUILD / "coverage", {"runs": len(folders), "failed": len(failed)}
    )
    print(f"{len(folders)} runs in {wall_s:.0f} s, report: {index}")
    missed = report.missed(figures)
    print(*missed, sep="\n", end="\n" if missed else "")
    print("COVERAGE", json.dumps(figures))
    return 1 if failed or missed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", default="", help="runs at a time; as many as cores if not given")
    parser.add_argument("--runs", default="", help="only the runs whose name matches, like 'random 4x2 *'")
    parser.add_argument(
        "folders",
        nargs="*",
        help="folders of runs made with coverage; if not given, the runs of tb/coverage/runs.yaml are made",
    )
    return parser.parse_args()


def jobs(text: str) -> int:
    if text and not (text.isdigit() and int(text) > 0):
        raise TatamiError(f"JOBS '{text}' is not a number above zero")
    return int(text or os.cpu_count() or 1)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TatamiError as error:
        print(f"{Path(__file__).stem}: {error}", file=sys.stderr)
        sys.exit(2)
