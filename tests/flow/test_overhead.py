"""`make bench BENCH=farm`: what it compares, and what it lets pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pymodel.machine.errors import TatamiError
from scripts import bench as command
from tb.flow import overhead, regress
from tb.flow.farm import servers
from tb.flow.overhead import Done


def record(seed: int, **changed: Any) -> regress.RecordLine:
    told = {"test": "random", "sim": "icarus", "config": "8x4", "seed": seed, "result": "pass"}
    made = {"cycles": 9, "compared_bytes": 4, "signature": "", "message": "", "measured": {"cycles": 9}}
    return regress.RecordLine.model_validate(
        {**told, **made, "wall_s": 3.0, "log": "/x", "replay": "make sim", "failure": "", "git": "a"}
        | {"tools": {}, **changed}
    )


class Regressions:
    """In place of `make regress`. `seconds`: of whole regressions, in turn. `changed`: in records."""

    def __init__(self) -> None:
        self.seconds = {"local": [9.0, 11.0], "slurm": [10.5], "tcp": [10.9]}
        self.changed: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, int]] = []

    def __call__(self, build: Path, seeds: int, tests: str, farm: list[str], env: dict[str, str]) -> Done:
        assert build.is_dir()
        assert tests == "random"
        name = farm[0].removeprefix("--farm=").partition(":")[0] if farm else "local"
        assert env == ({"SLURM_CONF": "/x"} if name == "slurm" else {})
        self.calls.append((name, seeds))
        records = [
            record(seed, host=name, **{"wall_s": 3.0, **self.changed.get(name, {})}) for seed in range(seeds)
        ]
        return Done(self.seconds[name].pop(0) if seeds > 1 else 99.0, records[::-1])


@pytest.fixture
def regressions(monkeypatch: pytest.MonkeyPatch) -> Regressions:
    found = Regressions()
    farms = {"local": ([], {}), "slurm": (["--farm=slurm"], {"SLURM_CONF": "/x"})}
    monkeypatch.setattr(overhead, "_regression", found)
    monkeypatch.setattr(servers, "no_slurm", lambda: "")

    class Farm:
        def __init__(self, name: str, _: Path) -> None:
            self.given = farms.get(name, (["--farm=tcp://here:1"], {}))

        def __enter__(self) -> Any:
            return self.given

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(overhead, "_farm", Farm)
    return found


def figures(capsys: pytest.CaptureFixture[str], status: int) -> tuple[dict[str, Any], str]:
    assert command.main(["--bench=farm", "--n=4"]) == status
    out = capsys.readouterr().out
    return json.loads(out.splitlines()[-1].removeprefix("BENCH ")), out


def test_each_farm_is_held_against_this_machine(
    regressions: Regressions, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before and after the others, and without what the first run builds."""
    found, out = figures(capsys, 0)
    assert regressions.calls == [
        *(("local", 1), ("local", 4), ("slurm", 1), ("slurm", 4)),
        *(("tcp", 1), ("tcp", 4), ("local", 4)),
    ]
    assert found["ratio"] == {"slurm": 1.05, "scheduler": 1.09}
    assert found["wall_s"] == {"local": [9.0, 11.0], "slurm": [10.5], "scheduler": [10.9]}
    assert (found["runs"], found["run_s"], found["local_spread"]) == (4, 3.0, 0.222)
    assert "the target is for" not in out


def test_a_farm_that_costs_more_fails(regressions: Regressions, capsys: pytest.CaptureFixture[str]) -> None:
    regressions.seconds["slurm"] = [11.5]
    found, _ = figures(capsys, 1)
    assert (found["passed"], found["same_records"], found["ratio"]["slurm"]) == (False, True, 1.15)


@pytest.mark.parametrize("name", ["slurm", "tcp"])
def test_other_records_fail(name: str, regressions: Regressions, capsys: pytest.CaptureFixture[str]) -> None:
    """Also a run that was lost and done again; but not other times."""
    regressions.changed = {name: {"wall_s": 7.0, "log": "/y"}}
    assert figures(capsys, 0)[0]["same_records"]
    for changed in ({"cycles": 10}, {"lost": ["its process was killed"]}):
        regressions.seconds = Regressions().seconds
        regressions.changed = {name: changed}
        found, out = figures(capsys, 1)
        assert not found["same_records"]
        assert f"{'scheduler' if name == 'tcp' else name}: the records are not those of local" in out


def test_what_it_does_without_is_named(
    regressions: Regressions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(servers, "no_slurm", lambda: "Slurm is not installed: no munged")
    regressions.changed = {"local": {"wall_s": 1.5}}
    found, out = figures(capsys, 0)
    assert found["left_out"] == {"slurm": "Slurm is not installed: no munged"}
    assert found["ratio"].keys() == {"scheduler"}
    assert "slurm is left out: Slurm is not installed: no munged" in out
    assert "half of the runs take 1.5 s or less: the target is for 2 or more" in out


def test_a_regression_that_does_not_come_about_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TatamiError, match="^make regress: regress: TESTS 'x' matches no test"):
        overhead._regression(tmp_path, 1, "x", [], {})


def test_n_and_tests_are_of_this_bench_alone() -> None:
    for name in ("n=3", "tests=random"):
        with pytest.raises(TatamiError, match="BENCH 'env' takes none, only farm does"):
            command.main(["--bench=env", f"--{name}"])


@pytest.mark.slow
@pytest.mark.icarus
def test_on_real_farms(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One short run, as from make; times mean nothing."""
    monkeypatch.setenv("MAKE_GIVEN", "BENCH N TESTS")
    monkeypatch.setattr(overhead, "TARGET", 1000.0)
    assert command.main(["--bench=farm", "--n=1", "--tests=block_delay"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("BENCH "))
    assert found["same_records"]
    assert found["runs"] == 1
    assert found["ratio"].keys() == {"scheduler"} | (set() if found["left_out"] else {"slurm"})
