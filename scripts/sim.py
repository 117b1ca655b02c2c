"""Run one test on the RTL:

`make sim`. Ends with one line `RESULT {json}`; exit status 0 if the test passed, 1 if not, 2 for bad input.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from pymodel.machine.config import CONFIGS, DEFAULT_CONFIG, ArrayConfig, get_config
from pymodel.machine.errors import TatamiError
from pymodel.machine.slot_rows import FORMATS
from pymodel.zoo.systems import SYSTEMS
from tb.common.settings import Options
from tb.flow import failure, prepare, runner
from tb.flow.blocks import BLOCKS
from tb.flow.replay import Replay, replay
from tb.flow.testlist import DEFAULT_TEST, TESTS, TestSpec, get_test

# Always in the RESULT line, null where a test has none.
MEASURED = (
    "images",
    "compared_bytes",
    "mismatches",
    "cycles",
    "predicted_cycles",
    "dense_cycles",
    "accuracy",
)
SYSTEMS_TEST = "systems"
# The columns of `systems`, and what they are in the result of a run.
COMPARED = {
    "scheme": "scheme",
    "config": "config",
    "accuracy": "accuracy",
    "compression": "matrix_compression",
    "kbytes": "image_kbytes",
    "slots_kb": "slot_kbytes",
    "plain_kb": "plain_slot_kbytes",
    "cycles": "cycles",
    "predicted": "predicted_cycles",
    "speedup": "speedup_over_dense",
    "stalls": "stall_cycles",
    "decoder": "decoder_stall_cycles",
    "mismatches": "mismatches",
}
MESSAGE_LINES = 20
NETWORK_CONFIG = "16x16"  # of tests with networks of their own


def main() -> int:
    options = parse()
    # Tables keep their width in a pipe.
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    if options.list:
        show_list(console)
        return 0

    test, sim = get_test(options.test or DEFAULT_TEST), options.sim or runner.SIMULATORS[0]
    config = get_config(options.config or (DEFAULT_CONFIG if test.network is None else NETWORK_CONFIG))
    seed = integer("SEED", options.seed or "1", 0, runner.MAX_SEED)
    waves = bool(integer("WAVES", options.waves or "0", 0, 1))
    images = test.default_images(sim)
    if options.images:
        if images is None or test.max_images is None:
            raise TatamiError(f"IMAGES: test '{test.name}' takes no images")
        images = integer("IMAGES", options.images, 1, test.max_images)
    if sim == "icarus":
        subprocess.run([runner.ROOT / "scripts" / "install_icarus.sh"], check=False)
    runner.check_simulator(sim)

    weights, data = (
        path(name, value) for name, value in (("WEIGHTS", options.weights), ("DATA", options.data))
    )
    if test.network is None and (weights or data):
        raise TatamiError(f"{'WEIGHTS' if weights else 'DATA'}: test '{test.name}' takes none")
    if options.format and test.network is None:
        raise TatamiError(f"FORMAT: test '{test.name}' takes none")
    if options.format and options.format not in FORMATS:
        raise TatamiError(f"FORMAT '{options.format}' is unknown; valid: {', '.join(FORMATS)}")
    source = prepare.Source(weights, data, xor=options.format == "xor")
    status = console.status("") if console.is_terminal else None
    progress = status.update if status else runner.no_progress
    with status or nullcontext():
        if test.name == SYSTEMS_TEST:
            done = [
                simulate(TESTS[name], config, sim, seed, images, waves, source, progress) for name in SYSTEMS
            ]
        else:
            done = [simulate(test, config, sim, seed, images, waves, source, progress)]
    summary = together(done, test.name) if test.name == SYSTEMS_TEST else done[0].summary
    for name, rows in (done[0].outcome.result if len(done) == 1 else summary).items():
        if is_table(rows):
            console.print(rows_table(name, rows))
    console.print(summary_table({name: value for name, value in summary.items() if not is_table(value)}))
    for each in done:
        each.show_failure()
        if each.outcome.waves:
            print(f"waves: {each.outcome.waves}")
    print("RESULT", json.dumps(summary))
    return 0 if summary["passed"] else 1


@dataclass(frozen=True)
class Simulated:
    """One run; `failed` and `replayed` are None where it passed."""

    outcome: runner.RunResult
    summary: dict[str, Any]
    failed: failure.Failure | None
    replayed: Replay | None

    def show_failure(self) -> None:
        """What went wrong, where it began, and how to see it again."""
        if self.failed is None:
            return
        lines = self.outcome.message.splitlines()
        print("FAILED", *lines[:MESSAGE_LINES], sep="\n")
        if len(lines) > MESSAGE_LINES:
            print(f"... {len(lines) - MESSAGE_LINES} more lines")
        if self.replayed:
            print(*self.replayed.lines(), sep="\n")
        print(f"log: {self.outcome.log}")
        print(f"replay: {self.failed.command}")


def simulate(
    test: TestSpec,
    config: ArrayConfig,
    sim: str,
    seed: int,
    images: int | None,
    waves: bool,
    source: prepare.Source,
    progress: Callable[[str], None],
) -> Simulated:
    """Prepares the test's network if it has one, runs it, and if it fails keeps the failure and
    replays it.
    """
    options = Options(images=images)
    if test.network is not None and images is not None:
        progress(f"compiling {test.name}")
        prepared = prepare.prepare(test.network, config, seed, images, source)
        config, options = prepared.config, options | prepared.options
    outcome = runner.run(test, sim, config, seed, options=options, waves=waves, progress=progress)
    failed, replayed = None, None
    head = {"test": test.name, "sim": sim, "seed": seed, "config": config.name, "passed": outcome.passed}
    numbers = {
        **dict.fromkeys(MEASURED),
        **{key: value for key, value in outcome.result.items() if not is_table(value)},
    }
    summary = {**head, **numbers, "wall_s": outcome.wall_s}
    if not outcome.passed:
        failed = failure.keep(outcome, test, sim, config, seed, options=options)
        summary["failure"] = failure.shown(failed.folder)
        if outcome.wall_s < test.timeout_s:  # a simulation that hangs would hang twice more
            replayed = replay(failed, progress)
    return Simulated(outcome, summary, failed, replayed)


def together(done: Sequence[Simulated], name: str) -> dict[str, Any]:
    """A summary of several runs, with a row for each: `systems`."""
    first = done[0].summary
    head = {
        "test": name,
        "sim": first["sim"],
        "seed": first["seed"],
        "passed": all(each.outcome.passed for each in done),
    }
    added = {
        key: sum(each.summary[key] or 0 for each in done)
        for key in ("images", "compared_bytes", "mismatches", "cycles", "predicted_cycles")
    }
    rows = [
        {"system": each.summary["test"], **{title: each.summary.get(key) for title, key in COMPARED.items()}}
        for each in done
    ]
    return {
        **head,
        **added,
        "wall_s": round(sum(each.outcome.wall_s for each in done), 2),
        SYSTEMS_TEST: rows,
    }


def parse() -> argparse.Namespace:
    """Every option is text, empty for its default: the checks in `main` name the variable of `make sim` that
    is wrong.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="list the tests, configurations and simulators")
    for name in ("test", "sim", "config", "seed", "images", "waves", "weights", "data", "format"):
        parser.add_argument(f"--{name}", default="")
    return parser.parse_args()


def path(name: str, text: str) -> Path | None:
    if text and not Path(text).exists():
        raise TatamiError(f"{name} '{text}': no such file or folder")
    return Path(text).resolve() if text else None


def integer(name: str, text: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise TatamiError(f"{name} '{text}' is not an integer in {low}..{high}") from None
    if not low <= value <= high:
        raise TatamiError(f"{name} {value} is outside {low}..{high}")
    return value


def is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def rows_table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Any list of flat dicts: a column for each key, numbers to the right."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for key in dict.fromkeys(key for row in rows for key in row):
        table.add_column(
            key,
            justify="right" if all(isinstance(row.get(key), int | float | None) for row in rows) else "left",
        )
    for row in rows:
        table.add_row(*[text(row.get(str(column.header))) for column in table.columns])
    return table


def summary_table(summary: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for key, value in summary.items():
        if value is not None:
            table.add_row(key, str(value) if key == "seed" else text(value))
    return table


def show_list(console: Console) -> None:
    rows = [
        {"TEST": t.name, "IMAGES": t.images, "on icarus": t.icarus_images, "what": t.description}
        for t in TESTS.values()
    ]
    console.print(rows_table("tests", rows))
    blocks = [
        {"TEST": f"block_{b.name}", "sizes": len(b.parameters), "what": b.description}
        for b in BLOCKS.values()
    ]
    console.print(
        rows_table("blocks, each in its own sizes: block_pe is the first, block_pe_2 the second", blocks)
    )
    configs = [
        {"CONFIG": c.name, "array": f"{c.size} x {c.size}", "group": c.group, "lanes": c.lane_depth}
        for c in CONFIGS.values()
    ]
    console.print(rows_table("configurations", configs))
    print("simulators:", ", ".join(runner.SIMULATORS))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TatamiError as error:
        print(f"{Path(__file__).stem}: {error}", file=sys.stderr)
        sys.exit(2)
