"""Makes all pages, and the summary of them that a comment can hold."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pymodel.machine.files import write_text
from tb.flow import runner
from tb.flow.coverage.report import TARGETS
from tb.flow.history.database import Database
from tb.flow.pages import coverage, plan, results, verification
from tb.flow.pages.site import INDEX, Section, Site

FOLDER = runner.BUILD / "pages"
COVERAGE = runner.BUILD / "coverage"
RESULTS, PPA = runner.ROOT / "docs" / "results", runner.ROOT / "docs" / "ppa.json"
SUMMARY = "summary.md"
SHOWN = 10  # rows of a list of the summary


@dataclass(frozen=True)
class Made:
    """The pages, seconds by page, and the first of them. `summary`: the comment."""

    pages: int
    seconds: dict[str, float]
    bytes: dict[str, int]
    first: Path
    summary: Path


def make(
    database: Database,
    count: int,
    folder: Path | None = None,
    progress: Callable[[str], None] = runner.no_progress,
) -> Made:
    """All pages, with a page for each of the last `count` regressions, in the place of those that are in the
    folder. What was there stays if something goes wrong.
    """
    folder = folder or FOLDER
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        site = _write(database, count, draft, progress)
        draft.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Made(
        pages=len(site.seconds),
        seconds=site.seconds,
        bytes={name: (folder / name).stat().st_size for name in site.seconds},
        first=folder / INDEX,
        summary=folder / SUMMARY,
    )


def _write(database: Database, count: int, folder: Path, progress: Callable[[str], None]) -> Site:
    merged = coverage.load(COVERAGE)
    sections = [
        Section(INDEX, "Overview"),
        Section(verification.FAILURES, "Failures"),
        Section(verification.TESTS, "Tests"),
        Section(coverage.COVERAGE, "Coverage"),
        *([Section(coverage.POINTS, "Coverpoints")] if merged else []),
        Section(plan.TESTPLAN, "Testplan"),
        *([Section(results.RESULTS, "Results")] if any(RESULTS.glob("*.json")) else []),
        *([Section(results.PPA, "Area")] if PPA.is_file() else []),
    ]
    site = Site(folder, sections)
    with database.reading() as connection:
        progress("asking the history")
        answers = verification.ask(connection, count)
        progress("pages of the history")
        verification.write(site, connection, answers, count)
    progress("the other pages")
    coverage.write_all(site, merged, verification.trends_of_coverage(answers.coverages))
    plan.write(site)
    if site.has(results.RESULTS):
        results.write_results(site, RESULTS)
    if site.has(results.PPA):
        results.write_ppa(site, PPA)
    text = site.environment.get_template("summary.md.j2").render(
        answers=answers, targets=TARGETS, shown=SHOWN, text=verification.cell
    )
    write_text(folder / SUMMARY, text.strip() + "\n")
    return site
