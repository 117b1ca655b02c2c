"""Ranking of runs: the smallest set that hits the same bins, and its list, which `make coverage` takes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from pymodel.machine.errors import TatamiError
from scripts import rank as command
from tb.coverage import collect
from tb.flow import runner
from tb.flow.coverage import code, functional, rank, runs
from tb.flow.coverage.merge import CODE_FILE
from tb.flow.coverage.rank import Reach

XML = '<top abs_name="top"><x abs_name="top.tatami.g.cp_x">{}</x></top>'


def reach(name: str, bins: str, seconds: float = 1.0) -> Reach:
    """A run of test `name` up to its first space, that hits each letter."""
    return Reach(run=name, test=name.partition(" ")[0], wall_s=seconds, bins={"g.cp_x": list(bins)})


def names(ranking: rank.Ranking) -> list[str]:
    return [step.run.run for step in ranking.steps]


def test_the_run_that_adds_most_comes_first_and_of_equals_the_quickest() -> None:
    rows = [
        reach("a 1", "ab"),
        reach("b 1", "abcd", 9),
        reach("b 2", "abcd", 2),
        reach("c 1", "de"),
        reach("d 1", ""),
    ]
    found = rank.rank(rows)
    assert [(step.run.run, step.new, step.total) for step in found.steps] == [("b 2", 4, 4), ("c 1", 1, 5)]
    assert (found.runs, found.bins) == (5, 5)
    assert found.alone == {"c 1": ("g.cp_x: e",)}
    assert found.idle == ("a", "d")


def test_what_others_make_superfluous_is_taken_out() -> None:
    """The largest comes first, and then all of it comes again."""
    rows = [reach("large", "abcd"), reach("left", "abx"), reach("right", "cdy")]
    assert sorted(names(rank.rank(rows))) == ["left", "right"]
    rows = [
        reach("large", "abcdef"),
        reach("l 1", "abcx"),
        reach("l 2", "abcx"),
        reach("r 1", "defy"),
        reach("r 2", "defy"),
    ]
    assert sorted(names(rank.rank(rows))) == ["l 1", "r 1"]


@pytest.mark.parametrize("seed", range(20))
def test_the_set_hits_all_and_no_run_of_it_can_be_left_out(seed: int) -> None:
    """Held against every set there is: it is at most one larger than the smallest."""
    rng = np.random.default_rng(seed)
    hit = {f"t{n} {n}": {b for b in range(12) if rng.random() < 0.3} for n in range(9)}
    found = names(rank.rank([reach(run, "".join(chr(97 + b) for b in bins)) for run, bins in hit.items()]))
    everything = set().union(*hit.values())
    assert set().union(*(hit[run] for run in found)) == everything
    for left_out in found:
        assert set().union(*(hit[run] for run in found if run != left_out)) != everything
    smallest = next(
        size
        for size in range(10)
        if any(
            set().union(*(hit[r] for r in some)) == everything for some in itertools.combinations(hit, size)
        )
    )
    assert len(found) <= smallest + 1


def test_what_runs_have_hit_is_written_and_read(tmp_path: Path) -> None:
    """From the files of the runs; the set hits what all have hit, counted from the files again."""
    rng = np.random.default_rng(1)
    done = []
    for job in runs.load(chosen="random 4x2 *"):
        bins = "".join(f'<b bin="{n}" hits="{int(rng.random() < 0.2)}"/>' for n in range(30))
        folder = tmp_path / str(job)
        folder.mkdir()
        (folder / collect.FILE).write_text(XML.format(bins))
        done.append(runs.Done(job, folder, 1.0))
    path = tmp_path / rank.FILE
    rank.write(done, path, [])
    ranking = rank.rank(rank.read(path))
    rank.write_lists(ranking, tmp_path)
    chosen = runs.load(chosen=str(tmp_path / rank.LIST))
    assert 0 < len(chosen) < len(done)

    def hit(some: list[runs.CoverageRun]) -> set[str]:
        total: functional.Points = {}
        for job in some:
            functional.add(total, functional.read(tmp_path / str(job) / collect.FILE))
        return {name for name, count in total["g.cp_x"].hits.items() if count}

    assert hit(chosen) == hit([one.run for one in done])
    assert ranking.bins == len(hit(chosen))


def test_lines_and_sides_of_branches_count_too(tmp_path: Path) -> None:
    """Of the files that are asked for; a run that alone reaches a line is needed."""
    jobs = runs.load(chosen="random 4x2 seed 1, random 4x2 seed 2, random 4x2 seed 3")
    points = {
        "1": [(4, "block", "4-6,8", 2), (9, "if", "10", 1), (9, "else", "11", 0)],
        "2": [(4, "block", "4-6,8", 1), (9, "if", "10", 0), (9, "else", "11", 3)],
        "3": [(4, "block", "4-6,8", 5), (9, "if", "10", 1), (9, "else", "11", 0)],
    }
    done = []
    for job in jobs:
        folder = tmp_path / str(job)
        folder.mkdir()
        lines = [
            f"C '\1page\2v_branch/x\1f\2rtl/{file}\1l\2{line}\1n\2{n}\1o\2{what}\1S\2{spans}\1h\2t' {count}"
            for file in ("psa_x.v", "other.v")
            for n, (line, what, spans, count) in enumerate(points[str(job)[-1]])
        ]
        (folder / CODE_FILE).write_text("\n".join([code.HEADER, *lines, ""]), encoding="latin-1")
        done.append(runs.Done(job, folder, 1.0))
    path = tmp_path / rank.FILE
    rank.write(done, path, ["psa_x.v"])
    rows = rank.read(path)
    assert rows[0].lines == {"psa_x.v": "4-6,8,10"}
    assert rows[0].branches == {"psa_x.v": ["4 block", "9 if"]}
    assert rank.reaching(rows, "psa_x.v: 11") == {"psa_x.v: 11": ["random 4x2 seed 2"]}
    assert rank.reaching(rows, "psa_x.v: 9 else") == {"psa_x.v: 9 else": ["random 4x2 seed 2"]}
    found = rank.rank(rows)
    assert "random 4x2 seed 2" in names(found)
    assert (len(found.steps), found.bins) == (2, 6 + 3)
    assert found.alone == {"random 4x2 seed 2": ("psa_x.v: 11", "psa_x.v: 9 else")}


def test_toggles_take_more_runs_and_are_asked_for_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The set is that of bins, lines and branches; what toggles besides is hit by the runs that come then."""
    monkeypatch.setattr(runner, "BUILD", tmp_path)
    jobs = runs.load(chosen="random 4x2 seed 1, random 4x2 seed 2, random 4x2 seed 3")
    bits = {"1": (0, 1), "2": (0, 1, 2), "3": (3,)}
    done = []
    for job in jobs:
        number = str(job)[-1]
        (folder := tmp_path / str(job)).mkdir()
        points = [("branch", 4, "if", "4-6", int(number == "1"))]
        points += [("toggle", 9, f"x[{bit}]:0->1", "", int(bit in bits[number])) for bit in range(5)]
        lines = [
            f"C '\1page\2v_{page}/x\1f\2rtl/{file}\1l\2{line}\1n\2{n}\1o\2{what}\1S\2{spans}\1h\2t' {count}"
            for file in ("psa_x.v", "other.v")
            for n, (page, line, what, spans, count) in enumerate(points)
        ]
        (folder / CODE_FILE).write_text("\n".join([code.HEADER, *lines, ""]), encoding="latin-1")
        done.append(runs.Done(job, folder, 1.0))
    (tmp_path / "coverage").mkdir()
    path = tmp_path / "coverage" / rank.FILE
    rank.write(done, path, ["psa_x.v"])
    found = rank.rank(rank.read(path))
    assert names(found) == ["random 4x2 seed 1"]
    assert {step.run.run: step.new for step in found.more} == {"random 4x2 seed 2": 1, "random 4x2 seed 3": 1}
    assert (found.toggles, found.more[-1].total) == (4, 4)  # none has the fifth bit
    assert command.main([]) == 0
    listed = path.with_name(rank.LONGER_LIST)
    assert f"with 2 more, all that toggled, too: make coverage RUNS={listed}" in capsys.readouterr().out
    assert {str(job) for job in runs.load(chosen=str(listed))} == {str(job) for job in jobs}
    assert command.main(["--bin=psa_x.v: 9 x*:0->1"]) == 0
    out = capsys.readouterr().out
    assert "psa_x.v: 9 x[0]:0->1\n  hit by 2 of 3 runs: random 4x2 seed 1, random 4x2 seed 2" in out
    assert "psa_x.v: 9 x[3]:0->1\n  hit by 1 of 3 runs: random 4x2 seed 3" in out
    assert "x[4]" not in out
    assert "other.v" not in out


def test_line_numbers_are_written_as_spans() -> None:
    for text in ("", "3", "1-2", "1-4,6,9-11"):
        assert code.spans(code.spanned(text)) == text


def test_the_command_shows_the_set_and_who_hits_a_bin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "BUILD", tmp_path)
    (tmp_path / "coverage").mkdir()
    rows = [reach("a 1", "ab", 2.5), reach("b 1", "bc"), reach("b 2", "c")]
    (tmp_path / "coverage" / rank.FILE).write_text("".join(row.model_dump_json() + "\n" for row in rows))
    assert command.main([]) == 0
    out = capsys.readouterr().out
    figures = json.loads(out.splitlines()[-1].removeprefix("RANK "))
    listed = tmp_path / "coverage" / rank.LIST
    assert figures == {
        **{"runs": 3, "chosen": 2, "bins": 3, "alone": 1, "idle_tests": [], "list": str(listed)},
        **{"wall_s": 4.5, "chosen_wall_s": 3.5, "toggles": 0, "chosen_for_toggles": 2},
        "list_for_toggles": str(listed.with_name(rank.LONGER_LIST)),
    }
    assert f"make coverage RUNS={listed}" in out
    assert "g.cp_x: a, by a 1" in out
    assert listed.read_text() == "b 1\na 1\n"
    assert command.main(["--bin=*: c"]) == 0
    assert "g.cp_x: c\n  hit by 2 of 3 runs: b 1, b 2" in capsys.readouterr().out
    with pytest.raises(
        TatamiError, match="BIN '\\*cp_y\\*' matches no bin that a run has hit, like 'g.cp_x: a'"
    ):
        command.main(["--bin=*cp_y*"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no such file; `make coverage` writes it"),
        ("", "holds no run"),
        ("{}\n", "line 1: field 'run' is missing"),
        (
            2 * '{"run": "a", "test": "a", "wall_s": 1, "bins": {}}\n',
            "line 2: field 'run' is 'a', which an earlier",
        ),
    ],
)
def test_a_file_that_is_none_is_one_line(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / rank.FILE
    if text is not None:
        path.write_text(text)
    with pytest.raises(TatamiError, match=message):
        rank.read(path)


def test_runs_are_chosen_by_globs_or_by_a_file_of_them(tmp_path: Path) -> None:
    some = [str(job) for job in runs.load(chosen="live 4x2 *, digits*")]
    assert some == ["live 4x2 seed 1", "digits 16x8 seed 1"]
    listed = tmp_path / "list"
    listed.write_text("random 4x2 seed 3\n\nlive 4x2 *\n")
    assert [str(job) for job in runs.load(chosen=str(listed))] == ["random 4x2 seed 3", "live 4x2 seed 1"]
    with pytest.raises(TatamiError, match="RUNS 'nothing' matches none of runs.yaml"):
        runs.load(chosen="live 4x2 *,nothing")
    listed.write_text("\n")
    with pytest.raises(TatamiError, match="the file names no run"):
        runs.load(chosen=str(listed))
