"""The history of runs: what comes into the database, on SQLite and on a real PostgreSQL, and what happens
when that is not possible.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, text
from sqlalchemy.pool import NullPool

from pymodel.machine.errors import TatamiError
from scripts import history as command
from scripts import regress as regress_command
from tb.flow import regress, runner
from tb.flow.coverage import report
from tb.flow.coverage.merge import MergedCoverage
from tb.flow.history import database, intake, schema
from tb.flow.history.database import Database
from tb.flow.processes import within
from tests.support import assert_refused

GIT = "0123456789abcdef0123456789abcdef01234567"
TOOLS = {"python": "3.11", "platform": "Linux", "cpu": "2 x some processor"}


def line(**changed: Any) -> dict[str, Any]:
    """A line of runs.jsonl, of a run that passed."""
    return {
        **{"test": "random", "sim": "verilator", "config": "4x2", "seed": 1, "result": "pass"},
        **{"wall_s": 1.5, "cycles": 700, "compared_bytes": 64, "signature": "", "message": ""},
        **{"log": "/x/run.log", "replay": "make sim TEST=random SEED=1", "failure": ""},
        **{"measured": {"cycles": 700}, "git": GIT, "tools": TOOLS, "branch": "main"},
        **changed,
    }


def failed(signature: str = "N of N bytes differ", **changed: Any) -> dict[str, Any]:
    message = {"result": "fail", "signature": signature, "message": f"8 of 9: {signature}"}
    return line(**{**message, "failure": "build/failures/x", **changed})


_numbers = count(1)


def folder(parent: Path, lines: list[dict[str, Any]], finished: bool | None = True, name: str = "") -> Path:
    """The folder of a regression; names of folders follow each other, as their times would."""
    made = parent / (name or f"20260101-000000-{next(_numbers):06}")
    made.mkdir(parents=True)
    (made / regress.RUNS).write_text("".join(json.dumps(one) + "\n" for one in lines))
    if finished is not None:
        (made / regress.SUMMARY).write_text(json.dumps({"finished": finished, "wall_s": 9.5, "runs": 1}))
    return made


def rows(opened: Database, query: str) -> list[tuple[Any, ...]]:
    """By SQL of its own, not that of the code under test."""
    with opened.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


RUNS = """
SELECT regression.name, run.line, test, setup.sim, config, seed, signature, run.wall_s, cycles,
       compared_bytes, git, kind, regression.branch, finished, message, log, replay, failure, measured
FROM run JOIN setup ON setup.id = setup_id JOIN regression ON regression.id = regression_id
     JOIN revision ON revision.id = run.revision_id JOIN machine ON machine.id = run.machine_id
     JOIN detail ON run_id = run.id LEFT JOIN bucket ON bucket.id = bucket_id
ORDER BY regression.started, run.line
"""


# A real PostgreSQL, started and ended here


def programs() -> Path | None:
    """The folder of PostgreSQL's programs. Debian keeps those of each version apart."""
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


class Server:
    """A PostgreSQL of a folder, which listens on a socket there only. `url`: without the database's name."""

    def __init__(self, tools: Path, place: Path, user: str | None) -> None:
        self.tools, self.place, self.user = tools, place, user
        self.url = f"postgresql+psycopg://tatami@/%s?host={place}"

    def start(self) -> None:
        call = f"{self.tools}/postgres -D {self.place}/data -k {self.place} -c listen_addresses= -c fsync=off"
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(call.split(), user=self.user, cwd="/", stdout=log, stderr=log)
        assert within(lambda: answers(self.url % "postgres")), (self.place / "log").read_text()

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait(60)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Server]:
    """A fresh one."""
    tools = programs()
    if tools is None:
        pytest.skip("PostgreSQL is not installed")
    user: str | None = None
    if os.getuid() == 0:  # it refuses to run as root
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user 'postgres'")
    place = Path(tempfile.mkdtemp(prefix="tatami-postgres-"))
    try:
        if user:
            shutil.chown(place, user)
        make = f"{tools}/initdb -D {place}/data -U tatami -A trust -N"
        subprocess.run(make.split(), user=user, cwd="/", check=True, capture_output=True)
        made = Server(tools, place, user)
        made.start()
        try:
            yield made
        finally:
            made.end(signal.SIGINT)  # whoever is connected
    finally:
        shutil.rmtree(place)


def answers(url: str) -> bool:
    try:
        sqlalchemy.create_engine(url, poolclass=NullPool).connect().close()
    except sqlalchemy.exc.OperationalError:
        return False
    return True


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/history.db"
    server, name = request.getfixturevalue("postgresql").url, f"history{next(_numbers)}"
    engine = sqlalchemy.create_engine(server % "postgres", isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    return server % name


# What comes in


def test_everything_of_a_record_is_kept(url: str, tmp_path: Path) -> None:
    one = folder(tmp_path, [line(), failed(seed=2, cycles=None, message="a\0b", git=GIT)])
    other = folder(tmp_path, [line(sim="icarus", git=None, branch=None, seed=2**31)], finished=None)
    opened = Database(url)
    assert [intake.take_in(opened, path).runs for path in (one, other)] == [2, 1]
    common = ("random", "verilator", "4x2")
    kept = (GIT, "2 x some processor", "main", True)
    ends = ("/x/run.log", "make sim TEST=random SEED=1")
    measured, kind = '{"cycles": 700}', "2 x some processor"
    differs = ("N of N bytes differ", 1.5, None, 64)
    assert rows(opened, RUNS) == [
        (one.name, 1, *common, 1, None, 1.5, 700, 64, *kept, "", *ends, "", measured),
        (one.name, 2, *common, 2, *differs, *kept, "a?b", *ends, "build/failures/x", measured),
        (*(other.name, 1, "random", "icarus", "4x2", 2**31, None, 1.5, 700, 64, "", kind, "", None, ""),
         *ends, "", measured),
    ]  # fmt: skip


def test_a_file_that_grows_and_comes_again_is_counted_once(url: str, tmp_path: Path) -> None:
    opened = Database(url)
    made = folder(tmp_path, [line(seed=1), line(seed=2)], finished=None)
    half = json.dumps(line(seed=3))[:40]
    (made / regress.RUNS).write_text((made / regress.RUNS).read_text() + half)
    first = intake.take_in(opened, made)
    assert (first.runs, first.cut) == (2, (made / regress.RUNS,))
    folder(tmp_path / "b", [line(seed=seed) for seed in (1, 2, 3)], finished=False, name=made.name)
    moved = tmp_path / "b" / made.name
    assert [intake.take_in(opened, moved).runs for _ in range(2)] == [1, 0]
    assert rows(opened, "SELECT seed FROM run ORDER BY line") == [(1,), (2,), (3,)]
    assert rows(opened, "SELECT name, finished FROM regression") == [(made.name, False)]


def test_regressions_of_two_machines_that_began_at_the_same_time_are_two(tmp_path: Path) -> None:
    opened = Database(f"sqlite:///{tmp_path}/history.db")
    name = "20260101-000000-000000"
    for machine in "ab":
        intake.take_in(opened, folder(tmp_path / machine, [line(log=f"/{machine}/run.log")], name=name))
    assert rows(opened, "SELECT count(*) FROM regression") == [(2,)]


def test_records_of_an_earlier_version_come_in(tmp_path: Path) -> None:
    """They name neither branch nor processor."""
    before = {name: value for name, value in line(tools={"platform": "Linux 6"}).items() if name != "branch"}
    opened = Database(f"sqlite:///{tmp_path}/history.db")
    assert intake.take_in(opened, folder(tmp_path, [before])).runs == 1
    assert rows(opened, "SELECT branch, kind FROM regression JOIN machine ON machine.id = machine_id") == [
        ("", "Linux 6")
    ]


def summary(parent: Path, percent: float = 90.0) -> Path:
    """Adds a line to summaries.jsonl."""
    points = report.PointsFile(
        when="2026-01-02T03:04:05",
        git=GIT,
        whole=True,
        figures=dict.fromkeys(report.TARGETS, percent),
        points={"a.cp_x": report.PointCount(hit=3, bins=4)},
    )
    return report.add_summary(parent, points, runs=7, failed=1, wall_s=60.04)


def test_summaries_of_coverage_come_in_once(url: str, tmp_path: Path) -> None:
    opened = Database(url)
    path = summary(tmp_path)
    assert intake.take_in(opened, path).summaries == 1
    assert summary(tmp_path, 91.5) == path
    assert [intake.take_in(opened, path).summaries for _ in range(2)] == [1, 0]
    query = "SELECT started, runs, failed, whole, wall_s, functional_percent, toggle_percent FROM coverage"
    found = rows(opened, f"{query} ORDER BY functional_percent")
    assert [row[1:] for row in found] == [(7, 1, True, 60.0, p, p) for p in (90.0, 91.5)]
    assert str(found[0][0]).startswith("2026-01-02 03:04:05")
    assert rows(opened, "SELECT name, hit, bins FROM coverpoint") == [("a.cp_x", 3, 4)] * 2


def test_make_coverage_leaves_a_summary(tmp_path: Path) -> None:
    """Of what it has merged, with what it came from."""
    points = report.write_points(
        MergedCoverage(places={kind: [] for kind in report.FIGURES}), tmp_path, False
    )
    path = report.add_summary(tmp_path, points, 3, 0, 1.23)
    kept = json.loads(path.read_text())
    assert (kept["runs"], kept["wall_s"], kept["whole"]) == (3, 1.2, False)
    assert {"cpu", "verilator"} <= kept["tools"].keys()


WRITER = """
import sys
from pathlib import Path
from tb.flow.history.database import Database
from tb.flow.history.intake import take_in
sys.stdin.readline()
print(*(take_in(Database(sys.argv[1]), Path(path)).runs for path in sys.argv[2:]))
"""


def test_writers_at_the_same_time_lose_nothing_and_count_nothing_twice(url: str, tmp_path: Path) -> None:
    """Each has a regression of its own, and all have one in common; the database has no tables yet."""
    common = folder(tmp_path, [failed(f"common {n}", seed=n, test=f"t{n}") for n in range(300)])
    own = [
        folder(tmp_path, [failed(f"{n % 50}", seed=n, test=f"t{n % 70}", config=f"c{w}") for n in range(300)])
        for w in range(3)
    ]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, *map(str, (path, common) if w % 2 else (common, path))],
            cwd=runner.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for w, path in enumerate(own)
    ]
    for writer in writers:  # all have been started
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    said = [writer.communicate(timeout=120)[0].split() for writer in writers]
    assert sum(int(number) for numbers in said for number in numbers) == 4 * 300
    opened = Database(url)
    assert rows(opened, "SELECT count(*) FROM run") == [(1200,)]
    assert rows(opened, "SELECT count(*) FROM detail") == [(1200,)]
    assert rows(opened, "SELECT count(*) FROM regression") == [(4,)]
    assert rows(opened, "SELECT count(*), count(DISTINCT signature) FROM bucket") == [(350, 350)]


# The schema


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_server_that_is_killed_has_all_or_nothing_of_a_file(
    url: str, postgresql: Server, tmp_path: Path
) -> None:
    """In the middle of a transaction. Once it is there again, what was recorded comes in, once."""
    opened = Database(url)
    assert intake.take_in(opened, folder(tmp_path, [line()])).runs == 1
    recorded = folder(tmp_path, [line(seed=seed) for seed in range(50)])

    def kill(*given: Any) -> None:
        if given[2].startswith("INSERT INTO run "):
            postgresql.end(signal.SIGQUIT)  # as it ends in a crash

    event.listen(opened.engine, "after_cursor_execute", kill)
    with pytest.raises(TatamiError, match=r"^HISTORY 'postgresql\+psycopg://[^\n]*$"):
        intake.take_in(opened, recorded)
    with pytest.raises(TatamiError, match=r"^HISTORY 'postgresql\+psycopg://[^\n]*$"):
        intake.take_in(Database(url), recorded)
    postgresql.start()
    assert rows(Database(url), "SELECT count(*) FROM run") == [(1,)]
    assert [intake.take_in(Database(url), recorded).runs for _ in range(2)] == [50, 0]
    assert rows(Database(url), "SELECT count(*) FROM run") == [(51,)]


KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from tb.flow.history.database import Database
from tb.flow.history.intake import take_in
def kill(*given):
    if given[2].startswith("INSERT INTO run "):
        os.kill(os.getpid(), signal.SIGKILL)
opened = Database(sys.argv[1])
event.listen(opened.engine, "after_cursor_execute", kill)
take_in(opened, Path(sys.argv[2]))
"""


def test_a_writer_that_is_killed_leaves_nothing_and_nobody_waits_for_it(url: str, tmp_path: Path) -> None:
    recorded = folder(tmp_path, [line(seed=seed) for seed in range(50)])
    call = [sys.executable, "-c", KILLED, url, str(recorded)]
    assert subprocess.run(call, cwd=runner.ROOT, check=False).returncode == -signal.SIGKILL
    assert [intake.take_in(Database(url), recorded).runs for _ in range(2)] == [50, 0]
    assert rows(Database(url), "SELECT count(*) FROM run") == [(50,)]


def test_the_migrations_lead_to_the_tables_of_the_schema(url: str) -> None:
    opened = Database(url)
    with opened.writing() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    versions = [one.revision for one in ScriptDirectory(str(database.MIGRATIONS)).walk_revisions()]
    assert versions == [schema.VERSION, *reversed(database.EARLIER_VERSIONS)]


def test_a_database_of_a_newer_schema_is_left_alone(url: str, tmp_path: Path) -> None:
    opened = Database(url)
    intake.take_in(opened, folder(tmp_path, [line()]))
    with opened.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9000'"))
    said = r"HISTORY '.*': has schema version 9000, newer than \d+ of this checkout; update the checkout"
    with pytest.raises(TatamiError, match=said):
        intake.take_in(opened, folder(tmp_path, [line()]))
    with pytest.raises(TatamiError, match=said), opened.reading():
        pass
    assert rows(opened, "SELECT count(*) FROM run") == [(1,)]


# When it is not possible


def spoilt(tmp_path: Path) -> dict[str, tuple[str, str]]:
    """URLs, and what is said of them."""
    (tmp_path / "text.db").write_text("no database, but more than a few bytes of text\n" * 99)
    (tmp_path / "file").touch()
    return {
        "no url": ("history.db", "HISTORY 'history.db' is no URL of a database, like sqlite:"),
        "unknown": ("oracel://x/y", "no kind of database has the name 'oracel'"),
        "package": ("mysql+pymysql://u:secret@x/y", "needs the package 'pymysql', which is not installed"),
        "no file": (f"sqlite:///{tmp_path}/file/h.db", "File exists"),
        "text": (f"sqlite:///{tmp_path}/text.db", "file is not a database"),
        "nowhere": (f"postgresql+psycopg://u:secret@/h?host={tmp_path}", "No such file or directory"),
        "port": ("postgresql+psycopg://u:secret@127.0.0.1:1/h", "Connection refused"),
    }


@pytest.mark.parametrize("which", ["no url", "unknown", "package", "no file", "text", "nowhere", "port"])
def test_a_url_that_leads_nowhere_is_one_line(which: str, tmp_path: Path) -> None:
    where, message = spoilt(tmp_path)[which]
    made = folder(tmp_path, [line()])
    with pytest.raises(TatamiError) as raised:
        intake.take_in(Database(where), made)
    said = str(raised.value)
    assert message in said
    assert said.startswith("HISTORY '")
    assert "secret" not in said
    assert "\n" not in said


def test_a_full_disk_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    opened = Database(f"sqlite:///{tmp_path}/history.db")
    intake.take_in(opened, folder(tmp_path, [line()]))
    pages = rows(opened, "PRAGMA page_count")[0][0]
    event.listen(opened.engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count = {pages + 3}"))
    large = folder(tmp_path, [line(seed=seed, log="x" * 999) for seed in range(99)])
    with pytest.raises(TatamiError, match="history.db': database or disk is full"):
        intake.take_in(opened, large)
    later = Database(f"sqlite:///{tmp_path}/history.db")
    assert rows(later, "SELECT count(*) FROM run") == [(1,)]
    assert rows(later, "SELECT count(*) FROM regression") == [(1,)]
    assert intake.take_in(later, large).runs == 99


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda _: "[", "line 2: is no JSON"),
        (lambda one: json.dumps({**one, "seed": -1}), "line 2: field 'seed' is -1"),
        (
            lambda one: json.dumps({**one, "cycles": 2**63}),
            "line 2: field 'cycles' is above 9223372036854775807",
        ),
        (lambda one: json.dumps({**one, "more": 1}), "line 2: field 'more' is unknown"),
    ],
)
def test_a_damaged_line_is_named_and_nothing_of_its_file_comes_in(
    spoil: Callable[[dict[str, Any]], str], message: str, tmp_path: Path
) -> None:
    made = folder(tmp_path, [line()])
    with (made / regress.RUNS).open("a") as more:
        more.write(spoil(line()) + "\n")
    opened = Database(f"sqlite:///{tmp_path}/history.db")
    with pytest.raises(TatamiError, match=message):
        intake.take_in(opened, made)
    assert not (tmp_path / "history.db").exists()


# The commands


def ran(
    capsys: pytest.CaptureFixture[str], *options: str, status: int = 0
) -> tuple[dict[str, Any], str, str]:
    assert command.main(list(options)) == status
    said = capsys.readouterr()
    name, _, figures = said.out.splitlines()[-1].partition(" ")
    assert name == "HISTORY"
    return json.loads(figures), said.out, said.err


def test_a_regression_is_in_the_history_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In SQLite below build/, and the question finds it there."""
    monkeypatch.setattr(runner, "BUILD", tmp_path)
    monkeypatch.setattr(regress, "RECORDS", tmp_path / "regress")
    fields = {name: value for name, value in line().items() if name in regress.RunRecord.model_fields}
    monkeypatch.setattr(regress, "execute", lambda *_: [regress.RunRecord(**fields)])
    assert regress_command.main(["--tests=random", "--n=1"]) == 0
    capsys.readouterr()
    figures, out, _ = ran(capsys)
    assert (figures["regressions"], figures["runs"], figures["coverages"]) == (1, 1, 0)
    assert next((tmp_path / "regress").iterdir()).name in out


def test_a_regression_whose_history_is_away_ends_as_it_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says which command takes its records in later, and that command does."""
    monkeypatch.setattr(regress, "RECORDS", tmp_path / "regress")
    fields = {name: value for name, value in line().items() if name in regress.RunRecord.model_fields}
    monkeypatch.setattr(regress, "execute", lambda *_: [regress.RunRecord(**fields)])
    away = f"--history=postgresql+psycopg://u@/h?host={tmp_path}"
    assert regress_command.main(["--tests=random", "--n=1", away]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].startswith("REGRESS ")
    (complaint,) = said.err.splitlines()
    assert complaint.startswith("regress: not in the history: HISTORY 'postgresql+psycopg://u@/h?host=")
    recorded = complaint.partition("IMPORT=")[2].partition("`")[0]
    figures, _, _ = ran(capsys, f"--import={recorded}", f"--history=sqlite:///{tmp_path}/history.db")
    assert figures == {"runs": 1, "summaries": 0, "files": 1, "refused": 0}


def test_a_damaged_file_does_not_keep_the_others_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "a", [line()])
    bad = folder(tmp_path / "b", [line(seed=-1)])
    folder(tmp_path / "c", [line(), line(seed=2)])
    summary(tmp_path / "c")
    at = f"--history=sqlite:///{tmp_path}/history.db"
    figures, out, err = ran(capsys, f"--import={tmp_path}", at, status=2)
    assert figures == {"runs": 3, "summaries": 1, "files": 4, "refused": 1}
    (complaint,) = err.splitlines()
    assert complaint.startswith(f"history: {bad}/runs.jsonl, line 1: field 'seed' is -1: ")
    assert "3 runs and 1 coverage summaries are new, from 4 files" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--import=/nowhere"], "IMPORT '/nowhere': no such file or folder"),
        (["--import={0}"], "holds no runs.jsonl and no summaries.jsonl"),
        (["--history=sqlite:///{0}/none.db"], "there is no such file; `make regress` writes one"),
        (["--history=sqlite:///{0}/empty.db"], "holds no history; `make regress` writes it"),
    ],
)
def test_bad_input_is_one_line_and_status_2(options: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    with pytest.raises(TatamiError, match=message):
        command.main([option.format(tmp_path) for option in options])


def test_a_regression_refuses_what_is_no_url_before_it_runs() -> None:
    assert_refused("regress", ["--history=history.db"], "HISTORY 'history.db' is no URL of a database")
