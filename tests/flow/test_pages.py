"""The pages: what they show of records, failures, waves and coverage; that every link leads somewhere; and
how a real browser shows them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import pywellen
from rich.console import Console

from pymodel.machine.errors import TatamiError
from scripts import pages as command
from tb.debug.divergence import STAGES, Divergence
from tb.flow import failure, regress, runner
from tb.flow.coverage import rank, report
from tb.flow.coverage.functional import Bins
from tb.flow.coverage.merge import merge
from tb.flow.history import bench, intake
from tb.flow.history.database import Database
from tb.flow.pages import bench as pages_bench
from tb.flow.pages import build, evidence, excerpt, trend, verification, wave
from tb.flow.pages import coverage as coverage_pages
from tb.flow.replay import outside
from tb.flow.testplan import plan
from tests.flow import test_coverage
from tests.flow.flipped import Flipped
from tests.flow.test_history import failed, folder, line, postgresql, summary, url
from tests.support import assert_refused

__all__ = ["postgresql", "url"]  # fixtures

A, B = "a" * 40, "b" * 40
SHOTS = runner.BUILD / "screenshots"  # one of each kind of page, kept by CI
EVIL = 'N <b>bold</b> | "seen" & `x` <script>alert(1)</script>'
MANY = verification.ROWS + 100


class Page(HTMLParser):
    """The text of a page without its marks, its links, and its tables as rows of cells."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.words: list[str] = []
        self.table: str | None = None
        self.source = path.read_text()
        self.feed(self.source)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [given[name] or "" for name in ("href", "src") if name in given]
        self.ids += [given["id"] or ""] if "id" in given else []
        if tag == "table":
            self.table = given.get("id") or ""
            self.tables[self.table] = []
        elif tag == "tr" and self.table is not None:
            self.tables[self.table].append([])
        elif tag in ("td", "th") and self.table is not None:
            self.tables[self.table][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.table = None

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.table is not None and self.tables[self.table] and self.tables[self.table][-1]:
            self.tables[self.table][-1][-1] += data

    def rows(self, table: str) -> list[list[str]]:
        """Those of the body."""
        return [[" ".join(cell.split()) for cell in row] for row in self.tables[table][1:]]


@dataclass(frozen=True)
class Written:
    """A site, and the real failure in it."""

    folder: Path
    failed: failure.Failure
    divergence: Divergence

    def page(self, name: str) -> Page:
        return Page(self.folder / name)

    def bucket(self, of: str) -> str:
        """The page of the bucket whose signature has this in it."""
        pages = [path for path in self.folder.glob("bucket-*.html") if of in Page(path).text]
        assert len(pages) == 1
        return pages[0].name


def real_failure(place: pytest.MonkeyPatch, one: Flipped) -> tuple[failure.Failure, Divergence]:
    """A copy of it, with its replay."""
    folder = failure.FAILURES / one.failed.folder.name
    shutil.copytree(one.failed.folder, folder)
    assert one.replayed.divergence is not None
    place.setattr(build, "COVERAGE", folder.parent / "coverage")
    return failure.load(folder), one.replayed.divergence


def measured(parent: Path) -> None:
    """Coverage of a small module and two points, with the runs that reach their bins."""
    parent.mkdir()
    small = parent / "small.v"
    small.write_text(test_coverage.SOURCE)
    folder = test_coverage.folder(parent, "run", *test_coverage.LINES, *test_coverage.TOGGLES)
    coverage = merge([folder], [], [small])
    coverage.points = {
        "g.cp_whole": Bins("g.cp_whole", {"x": 4, "y": 2}),
        "g.cp_half": Bins("g.cp_half", {"('a', '<b>')": 0, "c": 2, "d": 0}, {"d": "unreachable: never"}),
    }
    points = report.write_points(coverage, parent, whole=True)
    report.write_shown(coverage, [small], parent, points, failed=1)
    reach = [
        rank.Reach(
            run=f"random 4x2 seed {n}",
            test="random",
            wall_s=1.0,
            bins={"g.cp_half": ["c"]},
            lines={"small.v": "4-5" if n else "4"},
        )
        for n in range(4)
    ]
    (parent / rank.FILE).write_text("".join(one.model_dump_json() + "\n" for one in reach))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, flipped: Callable[[str], Flipped]) -> Iterator[Written]:
    """Twelve regressions, each fourth on Icarus. The real failure is in the last three, one with a strange
    message in the second and third; the sixth has more runs than its page shows; coverage three times.
    """
    parent = tmp_path_factory.mktemp("pages")
    one = flipped("icarus" if shutil.which("iverilog") else "verilator")  # whose waves are FST and VCD
    with pytest.MonkeyPatch.context() as place:
        place.setattr(failure, "FAILURES", parent / "failures")
        kept, divergence = real_failure(place, one)
        measured(build.COVERAGE)
        database = Database(f"sqlite:///{parent}/history.db")
        for n in range(12):
            sim = "icarus" if n % 4 == 3 else "verilator"
            git = (A, B)[n // 6]
            lines = [
                line(seed=seed, test=f"t{seed % 3}", git=git, sim=sim, cycles=100 * seed, wall_s=1 + seed)
                for seed in range(MANY if n == 5 else 20)
            ]
            if n >= 9:
                said = {"message": kept.message, "failure": failure.shown(kept.folder)}
                lines.append(
                    failed(regress.signature(kept.message), sim=sim, git=git, test="digits", seed=7, **said)
                )
            if n in (1, 2):
                lines.append(failed(EVIL, sim=sim, git=git, seed=99, message=EVIL))
            intake.take_in(database, folder(parent, lines, name=f"20260101-{n:02}0000-000000"))
        for n in range(3):
            measure = summary(parent, 90.0 + n)
        intake.take_in(database, measure)
        out = parent / "site"
        build.make(database, 12, out)
        yield Written(out, kept, divergence)


# What the pages say


def test_the_overview_has_the_last_regressions_and_trends(written: Written) -> None:
    page = written.page("index.html")
    assert f"{11 * 20 + MANY + 5:,} runs of 12 regressions, and 3 measurements of coverage" in page.text
    rows = page.rows("regressions")
    assert len(rows) == 12
    assert rows[0][:6] == ["2026-01-01 11:00", "icarus", "main", "bbbbbbbb", "21", "1"]
    assert rows[6][4] == f"{MANY:,}"
    charts = re.findall(r"<figcaption>(.*?)</figcaption>.*?</figure>", page.source, re.DOTALL)
    assert [re.sub("<.*?>", "", one).split(":")[0] for one in charts] == [
        "runs passed, percent",
        "time of a regression, minutes",
        "coverage, percent",
    ]
    assert "<title>verilator, 2026-01-01 10:00 bbbbbbbb main: 95.2381%</title>" in page.source
    assert page.source.count("<title>toggle, 2026-01-02 03:04") == 3


def test_a_failure_is_shown_with_divergence_waves_and_replay(written: Written) -> None:
    page = written.page(written.bucket("digits_on_the_array"))
    assert written.failed.message.splitlines()[1] in page.source
    assert written.divergence.line() in page.text
    assert f"So look at {STAGES[written.divergence.stage]}." in page.text
    for name in ("replay", "bisect", "shrink"):
        assert f"make {name} FAILURE={written.failed.folder}" in page.text
    assert "first seen 2026-01-01 09:00 bbbbbbbb" in page.text
    assert [row[1:4] for row in page.rows("tests")] == [["verilator", "4x2", "2"], ["icarus", "4x2", "1"]]
    assert [row[0] for row in page.rows("runs")] == [f"2026-01-01 {hour}:00" for hour in (11, 10, "09")]
    (svg,) = re.findall(r'<svg class="wave".*?</svg>', page.source, re.DOTALL)
    assert f"<title>{written.divergence.seen}</title>" in svg  # the wrong sum
    assert 'class="mark"' in svg
    assert [">psum_out<" in svg, ">weight<" in svg, ">clk<" in svg] == [True] * 3
    (count,) = re.findall(r"<title>failures, 2026-01-01 11:00 bbbbbbbb: (\d+)</title>", page.source)
    assert count == "1"


def test_failures_have_their_state(written: Written) -> None:
    """The real one is in the base on Verilator, and new on Icarus; the worse of both is shown."""
    rows = written.page("failures.html").rows("failures")
    assert [(row[0], row[2], row[3]) for row in rows] == [("new", "3", "3"), ("earlier", "2", "2")]
    assert rows[1][1] == EVIL


def test_a_regression_has_its_tests_and_runs_the_failed_first(written: Written) -> None:
    page = written.page("regression-12.html")
    assert [row[1] for row in page.rows("buckets")] == ["1"]
    runs = page.rows("runs")
    assert len(runs) == 21
    assert runs[0][:4] == ["fail", "digits", "4x2", "7"]
    assert runs[0][7] == "make sim TEST=random SEED=1"  # as the record says
    assert [row[3] for row in runs[1:]] == [str(seed) for seed in range(19, -1, -1)]  # the slowest first
    assert page.rows("tests")[:2] == [
        ["digits", "4x2", "1", "1", "700", "1.50"],
        ["t0", "4x2", "7", "0", "6,300", "10.00"],
    ]


def test_a_page_does_not_grow_with_the_regression(written: Written) -> None:
    page = written.page("regression-6.html")
    assert len(page.rows("runs")) == verification.ROWS
    assert f"{verification.ROWS:,} of {MANY:,}" in page.text
    assert sum(int(row[2].replace(",", "")) for row in page.rows("tests")) == MANY
    assert max(path.stat().st_size for path in written.folder.glob("*.html")) < 2e6


def test_a_page_does_not_grow_with_what_a_failure_says(tmp_path: Path) -> None:
    """All runs fail, each in its own way, with messages of a megabyte."""
    message = "<" * 2**20
    lines = [failed(f"{n:<<200}", seed=n, message=message if n < 20 else "x") for n in range(MANY)]
    lines = [{**one, "replay": f"make replay FAILURE={'x' * 100}"} for one in lines]
    database = Database(f"sqlite:///{tmp_path}/history.db")
    intake.take_in(database, folder(tmp_path, lines))
    made = build.make(database, 1, tmp_path / "site")
    assert max(made.bytes.values()) < 2e6, made.bytes
    assert made.summary.stat().st_size < 60_000


def test_coverage_has_modules_source_and_bins_with_who_hit_them(written: Written) -> None:
    page = written.page("coverage.html")
    assert page.rows("modules") == [["small.v", "66.6", "50.0", "25.0", "100.0"]]
    assert "functional g.cp_half: ('a', '<b>')" in page.text
    assert "1 failed" in page.text
    source = written.page(coverage_pages.source_page("small.v"))
    assert re.search(r'class="hole" id="l6"', source.source)
    lines = {row[0]: (row[1], row[2], row[4]) for row in source.rows("")}
    assert lines["4"] == ("9", "4", "")
    only = "only random 4x2 seed 1, random 4x2 seed 2, random 4x2 seed 3"
    assert lines["5"] == ("9", "3", f"branch: else; {only}")
    assert lines["6"] == ("0", "", "line: not executed")
    assert re.search(r'class="partial" id="l5".*branch: else', source.source)
    points = written.page("coverpoints.html")
    assert points.rows("points") == [
        ["g.cp_half", "1", "2", "50.0", "1"],
        ["g.cp_whole", "2", "2", "100.0", ""],
    ]
    by = "random 4x2 seed 0, random 4x2 seed 1, random 4x2 seed 2 ..."
    assert points.rows("bins")[:3] == [
        ["g.cp_half", "('a', '<b>')", "hole", "0", "0", ""],
        ["g.cp_half", "c", "hit", "2", "4", by],
        ["g.cp_half", "d", "excluded", "0", "0", "unreachable: never"],
    ]


def test_the_testplan_has_all_testpoints(written: Written) -> None:
    rows = written.page("testplan.html").rows("testplan")
    assert [row[1] for row in rows] == [point.name for point in plan.load_plan(plan.PLAN)]


def test_results_and_areas_are_those_that_are_kept(written: Written) -> None:
    assert len(written.page("results.html").rows("results-1")) > 1
    machines = json.loads(build.PPA.read_text())["machines"]
    assert [row[0] for row in written.page("ppa.html").rows("machines")] == [one["name"] for one in machines]


def test_slow_and_flaky_tests(url: str, tmp_path: Path) -> None:
    database = Database(url)
    for n, seconds in enumerate((1.0, 1.0, 3.0)):
        lines = [line(wall_s=seconds, cycles=700 + n)]
        intake.take_in(database, folder(tmp_path, lines, name=f"20260101-{n:02}0000-000000"))
    made = build.make(database, 5, tmp_path / "site")
    page = Page(tmp_path / "site" / "tests.html")
    assert page.rows("slow") == [["random", "verilator", "4x2", "1", "3.00", "1.00", "2", "3.00"]]
    assert [row[:4] + row[5:] for row in page.rows("flaky")] == [
        ["random", "verilator", "4x2", "1", "3", "0", "cycles"]
    ]
    said = made.summary.read_text()
    assert "**Flaky: 1**" in said
    assert "Slower than before: random 4x2 on verilator 3.0 times" in said


def test_one_is_one(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/history.db")
    intake.take_in(database, folder(tmp_path, [line()]))
    made = build.make(database, 5, tmp_path / "site")
    said = Page(made.first).text
    assert "1 run of 1 regression, and 0 measurements of coverage, are in the history" in said
    assert "### verilator: 1 run, all passed\n" in made.summary.read_text()


def test_the_summary_fits_a_comment(written: Written) -> None:
    said = (written.folder / build.SUMMARY).read_text()
    assert "### icarus: 1 of 21 runs failed\n\nCommit `bbbbbbbb` of main, 2026-01-01 11:00 UTC" in said
    rows = [row for row in said.splitlines() if row.startswith("| **new**")]
    assert len(rows) == 1
    assert r"AssertionError: N of N bytes differ \| image N" in rows[0]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 7
    assert len(said) < 60_000
    assert "| target | 98 | 95 | 95 | 90 |" in said


def test_text_of_others_is_no_markdown() -> None:
    assert verification.cell("a|b\n<img> [x](y) `z` @all") == r"a\|b \<img\> \[x\](y) \`z\` \@all"


# Links


def test_every_link_leads_somewhere_and_nothing_is_fetched(written: Written) -> None:
    pages = {path.name: Page(path) for path in written.folder.glob("*.html")}
    linked = set()
    for name, page in pages.items():
        for link in page.links:
            if link == "data:,":  # no icon
                continue
            assert not re.match(r"\w+:|//", link), (name, link)
            file, _, mark = unquote(link).partition("#")
            assert (written.folder / (file or name)).is_file(), (name, link)
            assert not mark or mark in pages[file or name].ids, (name, link)
            linked.add(file)
        assert not re.search(r"https?://(?!www\.w3\.org/)", page.source), name
    assert pages.keys() <= linked  # none that nobody finds


def test_text_of_others_is_no_html(written: Written) -> None:
    page = written.page(written.bucket("bold"))
    assert EVIL in page.text
    assert "<script>alert" not in page.source
    assert "<b>" not in page.source


# Waves

VCD = """$timescale 1ps $end
$scope module top $end
$var wire 1 ! clk $end
$var wire 8 " bus [7:0] $end
$var wire 1 # flag $end
$var wire 32 % WIDTH $end
$upscope $end
$enddefinitions $end
#0
0!
bxxxxxxxx "
x#
b1000 %
"""


def waves(path: Path, cycles: int) -> Path:
    """A clock of 10 ns whose edges are at 5, 15, ...; the bus counts down from -1, the flag ends high."""
    changes = [
        f'#{5000 + 10000 * n}\n1!\nb{255 - n:08b} "\n{int(n == cycles - 1)}#\n#{10000 + 10000 * n}\n0!\n'
        for n in range(cycles)
    ]
    path.write_text(VCD + "".join(changes))
    return path


def test_waves_without_a_divergence_are_those_of_the_top(tmp_path: Path) -> None:
    shown = excerpt.read(waves(tmp_path / "w.vcd", 30), None)
    assert [signal.name for signal in shown.signals] == ["clk", "bus", "flag"]
    assert (shown.period, shown.mark, shown.end) == (10.0, None, 305.0)
    bus = shown.signals[1]
    assert bus.changes[0] == (shown.begin, f"{255 - 14:02x}")
    assert bus.changes[-1] == (295.0, f"{255 - 29:02x}")
    assert shown.signals[2].changes == ((shown.begin, "0"), (295.0, "1"))


def test_waves_around_a_time_begin_with_what_is_not_known(tmp_path: Path) -> None:
    path = waves(tmp_path / "w.vcd", 30)
    path.write_text(path.read_text().replace('b11111110 "\n', ""))
    shown = excerpt.read(path, None, 35.0)
    assert (shown.mark, shown.begin, shown.end) == (35.0, 5.0, 75.0)
    assert shown.signals[1].changes[:2] == ((5.0, "ff"), (25.0, "fd"))
    svg = wave.drawn(shown)
    assert svg.count("<title>") == 6
    unknown = excerpt.Excerpt((excerpt.Signal("top", "bus", 8, ((5.0, None),)),), 5.0, 15.0, 10.0, None)
    assert 'class="unknown"' in wave.drawn(unknown)


RULE = """$scope module memories $end
$var wire 1 ! clk $end
$var wire 8 & address $end
$scope module in_range $end
$var wire 1 ' fail $end
$var wire 1 ( active $end
$var wire 32 ) violations $end
$upscope $end
$upscope $end
$upscope $end
"""


def test_waves_at_a_broken_rule_are_those_of_its_checker(tmp_path: Path) -> None:
    path = waves(tmp_path / "w.vcd", 30)
    text = path.read_text().replace("$upscope $end\n", RULE).replace("x#\n", "x#\n0'\n1(\nb0 )\nb101 &\n")
    path.write_text(text.replace("#45000\n", "#45000\nb1 )\n1'\n"))
    shown = excerpt.read(path, None, 45.0)
    assert [(one.scope, one.name) for one in shown.signals] == [
        ("top", "clk"),
        ("top.memories.in_range", "fail"),
        ("top.memories.in_range", "active"),
        ("top.memories", "address"),
    ]
    assert [one.name for one in excerpt.read(path, None, 55.0).signals] == ["clk", "bus", "flag"]


def test_values_are_signed_where_they_are_and_unknown_where_a_bit_is() -> None:
    assert [excerpt.shown(0b1111_1111, 8, letter) for letter in "suh"] == ["-1", "255", "ff"]
    assert excerpt.shown("0000000x", 8, "u") is None
    assert excerpt.shown(5, 18, "h") == "00005"


@pytest.mark.parametrize("text", ["", "no waves", VCD])
def test_a_file_that_is_no_waves_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "waves.vcd"
    path.write_text(text)
    with pytest.raises(TatamiError, match="waves.vcd"):
        excerpt.read(path, None)


def test_every_signal_that_is_shown_is_in_the_design(written: Written) -> None:
    """On each stage, so that a signal that the RTL renames is missed here."""
    file = next(written.failed.folder.glob("waves.*"))
    for stage, scopes in excerpt.WATCHED.items():
        other = Divergence(**{**vars(written.divergence), "stage": stage})
        shown = excerpt.read(file, other)
        wanted = [one.partition(":")[0] for _, members in scopes for one in members.split()]
        assert [signal.name for signal in shown.signals] == ["clk", *wanted]
    names = {str(one.full_name) for one in pywellen.Waveform(str(file)).all_vars()}
    for name in (excerpt.COUNT, excerpt.FAIL, excerpt.ACTIVE):
        assert f"psa_checked.memories.read_lane.in_range.{name}" in names


def test_a_damaged_failure_is_said_on_its_page(written: Written, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(written.failed.folder, copy)
    (copy / "divergence.json").write_text('{"stage": "sum"}')
    assert "divergence.json: field" in evidence.of(copy, "").problem
    (copy / "divergence.json").unlink()
    for file in copy.glob("waves.*"):
        file.write_bytes(b"")
    found = evidence.of(copy, "")
    assert "waves." in found.problem
    assert (found.divergence, found.waves) == ("", "")


def test_waves_of_a_block_are_those_at_the_end_of_the_test_that_failed(tmp_path: Path) -> None:
    waves(tmp_path / "waves.vcd", 30)
    cases = [
        f'<testcase name="{name}">{end}<property name="sim_time_stop" value="{time}"/></testcase>'
        for name, end, time in (("a", "", 50), ("b", "<failure/>", 95.0), ("c", "<failure/>", 200))
    ]
    (tmp_path / "results.xml").write_text(f"<testsuite>{''.join(cases)}</testsuite>")
    found = evidence.of(tmp_path, "b: AssertionError: x")
    assert 'aria-label="waves from 5 to 135 ns"' in found.waves
    assert (found.looked, found.divergence, found.place, found.problem) == (False, "", "", "")
    (tmp_path / "divergence.json").write_text("null")
    found = evidence.of(tmp_path, "read of CYCLES gave 3")
    assert found.looked
    assert found.place == outside("read of CYCLES gave 3")


def test_the_folder_with_waves_is_preferred(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those below build/failures/ count, wherever their records were made."""
    other = written.failed.folder.parent / "other"
    other.mkdir()
    monkeypatch.setattr(failure, "FAILURES", written.failed.folder.parent)
    elsewhere = f"/another/machine/build/failures/{written.failed.folder.name}"
    found = evidence.best(["/etc", "", "build/failures/other", elsewhere], "")
    assert found is not None
    assert found.folder == str(written.failed.folder)
    assert evidence.best(["/etc", "../.."], "") is None


# Trend lines


def test_a_trend_reaches_from_its_lowest_to_its_highest_value() -> None:
    assert trend.steps(0, 100) == [0, 50, 100]
    assert trend.steps(97.3, 100) == [97, 98, 99, 100]
    assert trend.steps(5, 5)[0] <= 5 < trend.steps(5, 5)[-1]
    svg = trend.drawn(trend.Trend("t", [trend.Line("a", [1, None, 3])], ["x 1", "y 2", "z 3"]))
    assert svg.count("<circle") == 2
    low, high = re.findall(r'cy="([\d.]+)"', svg)
    assert float(low) > float(high)  # up is less
    assert trend.drawn(trend.Trend("t", [trend.Line("a", [None])], ["x"])) == ""
    assert trend.drawn(trend.Trend("t", [trend.Line("a", [2.0])], ["x"])).count("<circle") == 1


# The command


def test_pages_of_a_history_without_regressions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "COVERAGE", tmp_path / "none")
    database = Database(f"sqlite:///{tmp_path}/history.db")
    intake.take_in(database, summary(tmp_path))
    made = build.make(database, 5, tmp_path / "site")
    assert "There is no regression yet" in Page(made.first).text
    assert "There is no coverage in this build folder" in Page(tmp_path / "site" / "coverage.html").text
    assert "There is no regression yet." in made.summary.read_text()


def test_new_pages_take_the_place_of_the_old_ones_or_leave_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "FOLDER", tmp_path / "pages")
    monkeypatch.setattr(build, "COVERAGE", tmp_path / "none")
    url = f"sqlite:///{tmp_path}/history.db"
    intake.take_in(Database(url), folder(tmp_path, [line(), failed()]))
    assert command.main([f"--history={url}"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    figures = json.loads(last.removeprefix("PAGES "))
    assert figures["pages"] == len(list((tmp_path / "pages").glob("*.html")))
    (tmp_path / "pages" / "regression-99.html").touch()
    assert command.main([f"--history={url}"]) == 0
    assert not (tmp_path / "pages" / "regression-99.html").exists()
    with pytest.raises(TatamiError, match="there is no such file"):
        command.main([f"--history=sqlite:///{tmp_path}/none.db"])
    assert (tmp_path / "pages" / "index.html").is_file()
    assert [path.name for path in tmp_path.glob("pages*")] == ["pages"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n=0"], "N 0 is outside 1"),
        (["--history=nonsense"], "HISTORY 'nonsense' is no URL"),
        (["--history=sqlite:////no/such.db"], "there is no such file"),
    ],
)
def test_a_bad_variable_is_one_line_and_status_2(options: list[str], message: str) -> None:
    assert_refused("pages", options, message)


def test_the_bench_writes_pages_of_made_up_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RUNS", 20_000)
    monkeypatch.setattr(bench, "COVERAGES", 20)
    figures = pages_bench.run(Console(quiet=True))
    assert figures["passed"]
    assert figures["pages"] > 50
    monkeypatch.setattr(bench, "RUNS", 2_000)
    monkeypatch.setattr(pages_bench, "TARGET_MB", 0.01)
    assert not pages_bench.run(Console(quiet=True))["passed"]


def test_made_up_numbers_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages count what is in the database, at the size of the bench."""
    monkeypatch.setattr(bench, "COVERAGES", 20)
    database = Database(f"sqlite:///{tmp_path}/history.db")
    planted = bench.make_up(database, 20_000, np.random.default_rng(1))
    build.make(database, 10, tmp_path / "site")
    rows = Page(tmp_path / "site" / "failures.html").rows("failures")
    assert len(rows) == planted.buckets
    assert sum(int(row[2].replace(",", "")) for row in rows) == planted.failures
    assert len(list((tmp_path / "site").glob("regression-*.html"))) == 10


# In a browser

KINDS = {
    "overview": "index.html",
    "failures": "failures.html",
    "bucket": "",
    "regression": "regression-12.html",
    "tests": "tests.html",
    "coverage": "coverage.html",
    "source": "source-small.v.html",
    "coverpoints": "coverpoints.html",
    "testplan": "testplan.html",
    "results": "results.html",
    "area": "ppa.html",
}
PHONE, DESK = (390, 844), (1280, 900)

# The least contrast between a text and what is behind it, and that text. Formulas of WCAG 2.
CONTRAST = """
const parse = (c) => c.match(/[\\d.]+/g).map(Number);
const light = (c) => {
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const [r, g, b] = c.slice(0, 3).map((v) => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
let worst = [21, ""];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const text = walk.currentNode.textContent.trim(), element = walk.currentNode.parentElement;
  if (!text || !element.checkVisibility() || element.closest("title, option, script")) continue;
  const style = getComputedStyle(element);
  const clear = (one) => parse(getComputedStyle(one).backgroundColor)[3] === 0;
  let ground = element;
  while (ground && clear(ground)) ground = ground.parentElement;
  const a = light(parse(element.closest("svg") ? style.fill : style.color));
  const b = light(parse(getComputedStyle(ground ?? document.body).backgroundColor));
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < worst[0]) worst = [contrast, text];
}
return worst;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    driver = shutil.which("chromedriver")
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
    if driver is None or program is None:
        pytest.skip("chromium and chromedriver are not installed (scripts/install_chromium.sh)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def look(browser: Any, path: Path, size: tuple[int, int] = DESK, scheme: str = "light") -> None:
    """Opens a page, on a screen of that size, in light or dark."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size is PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(path.as_uri())


def shown_rows(browser: Any, table: str) -> list[list[str]]:
    script = (
        f"return [...document.querySelectorAll('#{table} tbody tr')].filter((row) => row.checkVisibility())"
        ".map((row) => [...row.cells].map((cell) => cell.textContent.trim()))"
    )
    found: list[list[str]] = browser.execute_script(script)
    return found


def typed(browser: Any, table: str, words: str) -> None:
    field = browser.find_element("css selector", f"input[aria-label='filter the table {table}']")
    field.clear()
    field.send_keys(words or " ")


def test_no_page_has_an_error_in_the_console(browser: Any, written: Written) -> None:
    for path in sorted(written.folder.glob("*.html")):
        look(browser, path)
        assert browser.get_log("browser") == [], path.name
        links = browser.execute_script("return [...document.links].map((link) => link.href)")
        for link in links:
            file = Path(unquote(link.removeprefix("file://").partition("#")[0]))
            assert file.is_file(), (path.name, link)


def test_a_page_with_an_error_is_seen(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!DOCTYPE html><script>nothing()</script>")
    look(browser, page)
    assert "nothing is not defined" in browser.get_log("browser")[0]["message"]


def test_a_link_is_followed(browser: Any, written: Written) -> None:
    look(browser, written.folder / "index.html")
    for words, title in (("Failures", "Failures"), ("digits_on_the_array", "digits_on_the_array")):
        browser.find_element("partial link text", words).click()
        assert title in browser.title
    browser.find_element("link text", "2026-01-01 11:00").click()
    assert "Regression of 2026-01-01 11:00" in browser.title


def test_tables_are_filtered(browser: Any, written: Written) -> None:
    look(browser, written.folder / "regression-12.html")
    assert len(shown_rows(browser, "runs")) == 21
    typed(browser, "runs", "T1 4x2")
    rows = shown_rows(browser, "runs")
    assert {row[1] for row in rows} == {"t1"}
    assert len(rows) == 7
    said = browser.find_element("tag name", "body").text
    assert "7 of 21 rows" in said
    assert re.search(r"\b1 row\b", said)  # of the failures
    typed(browser, "runs", "")
    select = browser.find_element("css selector", "#runs").find_element(
        "xpath", "../preceding-sibling::div[1]//select[@aria-label='result']"
    )
    select.find_element("css selector", "option[value='=fail']").click()
    assert [row[1] for row in shown_rows(browser, "runs")] == ["digits"]


def test_tables_are_sorted(browser: Any, written: Written) -> None:
    look(browser, written.folder / "regression-12.html")

    def column(title: str) -> list[str]:
        head = browser.find_element("xpath", f"//table[@id='runs']//th[normalize-space()='{title}']/button")
        titles = [one.text for one in browser.find_elements("css selector", "#runs th")]
        head.click()
        return [row[titles.index(title)] for row in shown_rows(browser, "runs")]

    cycles = [100 * seed for seed in range(20)] + [700]
    numbers = [f"{n:,}" for n in sorted(cycles, reverse=True)]
    assert column("cycles") == numbers
    assert column("cycles") == numbers[::-1]
    assert column("test") == sorted(["digits", *(f"t{seed % 3}" for seed in range(20))])


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_page_is_readable(kind: str, browser: Any, written: Written) -> None:
    """On a phone nothing is wider than the screen but what scrolls by itself; in light and dark, every text
    has the contrast that WCAG asks for.
    """
    path = written.folder / (KINDS[kind] or written.bucket("digits_on_the_array"))
    SHOTS.mkdir(parents=True, exist_ok=True)
    grounds = set()
    for size, scheme in ((DESK, "light"), (PHONE, "dark"), (PHONE, "light"), (DESK, "dark")):
        look(browser, path, size, scheme)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= size[0], scheme
        contrast, text = browser.execute_script(CONTRAST)
        assert contrast >= 4.5, (scheme, text)
        ground = "return getComputedStyle(document.body).backgroundColor"
        grounds.add(browser.execute_script(ground))
        shot = SHOTS / f"{kind}-{'phone' if size is PHONE else 'desk'}-{scheme}.png"
        browser.save_screenshot(str(shot))
        assert shot.stat().st_size > 5000
    assert len(grounds) == 2


def test_waves_begin_where_they_are_marked(browser: Any, written: Written) -> None:
    look(browser, written.folder / written.bucket("digits_on_the_array"), PHONE)
    seen = browser.execute_script(
        "const box = document.querySelector('.waves').getBoundingClientRect();"
        "const mark = document.querySelector('.mark').getBoundingClientRect();"
        "return box.left < mark.left && mark.left < box.right"
    )
    assert seen
