"""One run of a test as a user asks for it: its network prepared, and a failure kept and replayed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.zoo.architectures import ARCHITECTURES
from pymodel.zoo.pruned import ZOO
from pymodel.zoo.systems import SYSTEMS
from tb.common.settings import Options
from tb.flow import failure, prepare, runner, simulators
from tb.flow.processes import processes
from tb.flow.replay import Replay, replay
from tb.flow.testlist import TestSpec

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
# The columns of `systems`, and what they are in the result of a run.
SYSTEMS_COLUMNS = {
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
ZOO_COLUMNS = {
    "MMACs": "mega_macs",
    "weights": "weights",
    "lanes": "lanes",
    "cycles": "cycles",
    "predicted": "predicted_cycles",
    "out": "out_cycles",
    "of_bound": "cycles_over_bound",
    "speedup": "speedup_over_dense",
    "feature": "feature_shared_over_bound",
    "load_wait": "load_wait_cycles",
    "images_s": "images_per_s",
    "in_a_row": "images_per_s_back_to_back",
    "mismatches": "mismatches",
    "compared": "compared_bytes",
    "prepared_s": "prepared_s",
    "wall_s": "wall_s",
}


@dataclass(frozen=True)
class Several:
    """A test that is several: their names, what the table calls one, and its columns."""

    tests: tuple[str, ...]
    one: str
    columns: Mapping[str, str]


SEVERAL = {
    "systems": Several(tuple(SYSTEMS), "system", SYSTEMS_COLUMNS),
    "zoo": Several(tuple(ZOO + name for name in ARCHITECTURES), "network", ZOO_COLUMNS),
}
MESSAGE_LINES = 20


@dataclass(frozen=True)
class Simulated:
    """One run; `failed` and `replayed` are None where it passed. `notes`: lines about what ran."""

    outcome: runner.RunResult
    summary: dict[str, Any]
    failed: failure.Failure | None
    replayed: Replay | None
    notes: tuple[str, ...] = ()

    def failure_lines(self) -> list[str]:
        """What went wrong, where it began, and how to see it again; empty for a run that passed."""
        if self.failed is None:
            return []
        lines = self.outcome.message.splitlines()
        more = len(lines) - MESSAGE_LINES
        return [
            "FAILED",
            *lines[:MESSAGE_LINES],
            *([f"... {more} more lines"] if more > 0 else []),
            *(self.replayed.lines() if self.replayed else []),
            f"log: {self.outcome.log}",
            f"replay: {self.failed.command}",
        ]


def simulate(
    test: TestSpec,
    config: ArrayConfig,
    sim: str,
    seed: int,
    images: int | None,
    waves: bool,
    source: prepare.Source,
    progress: Callable[[str], None],
    knobs: str = "",
) -> Simulated:
    """Prepares the test's network if it has one, runs it, and if it fails keeps the failure and
    replays it.
    """
    options, optimise = Options(images=images, knobs=knobs), simulators.OPT_FAST
    figures: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()
    if test.network is not None and images is not None:
        progress(f"compiling {test.name}")
        begin = time.monotonic()
        prepared = prepare.prepare(test.network, config, seed, images, source)
        config, options = prepared.config, options | prepared.options
        figures = {**prepared.figures, "prepared_s": round(time.monotonic() - begin, 2)}
        notes = prepared.notes
        optimise = simulators.optimised_for(prepared.cycles, shared=config in CONFIGS.values())
    outcome = runner.run(
        test, sim, config, seed, options=options, waves=waves, optimise=optimise, progress=progress
    )
    failed, replayed = None, None
    head = {"test": test.name, "sim": sim, "seed": seed, "config": config.name, "passed": outcome.passed}
    numbers = {
        **dict.fromkeys(MEASURED),
        **{key: value for key, value in outcome.result.items() if not is_table(value)},
    }
    summary = {**head, **numbers, **figures, "wall_s": outcome.wall_s}
    if not outcome.passed:
        failed = failure.keep(outcome, test, sim, config, seed, options=options)
        summary["failure"] = failure.shown(failed.folder)
        if outcome.wall_s < test.timeout_s:  # a simulation that hangs would hang twice more
            replayed = replay(failed, progress)
    return Simulated(outcome, summary, failed, replayed, notes)


def simulate_all(
    one: Callable[..., Simulated], tests: Sequence[TestSpec], workers: int, progress: Callable[[str], None]
) -> list[Simulated]:
    """`one` of each test, in their order, `workers` at a time; `one` is `simulate`, given all but its test
    and its `progress`. Raises `TatamiError` if one of the processes is killed, as by a machine that is short
    of memory.
    """
    if min(workers, len(tests)) == 1:
        return [one(test, progress=progress) for test in tests]
    with processes(workers) as pool:
        under_way = {pool.submit(one, test, progress=runner.no_progress): test for test in tests}
        for number, future in enumerate(as_completed(under_way), 1):
            try:
                future.result()
            except BrokenProcessPool:
                raise TatamiError(
                    f"JOBS {workers}: a process that ran one of the tests was killed; give fewer"
                ) from None
            progress(f"{number} of {len(tests)} tests: {under_way[future].name}")
    return [future.result() for future in under_way]


def together(done: Sequence[Simulated], name: str) -> dict[str, Any]:
    """A summary of several runs, with a row for each; `name` is one of `SEVERAL`."""
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
    several = SEVERAL[name]
    rows = [
        {
            several.one: each.summary["test"],
            **{title: each.summary.get(key) for title, key in several.columns.items()},
        }
        for each in done
    ]
    return {
        **head,
        **added,
        "wall_s": round(sum(each.outcome.wall_s for each in done), 2),
        name: rows,
    }


def is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
