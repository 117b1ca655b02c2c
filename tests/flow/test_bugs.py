"""`make bugs`: the list of bugs fits the RTL, a planted bug is caught, and one that nobody would notice is
reported.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pymodel.machine.errors import TatamiError
from scripts import bugs as command
from tb.flow import bugs

BUGS = {bug.name: bug for bug in bugs.load_bugs()}
COUNTER = BUGS["cycle_counter_one_short"]


def test_there_are_ten_or_more_in_as_many_places() -> None:
    assert len(BUGS) >= 10
    assert len({bug.file for bug in BUGS.values()}) >= 6
    assert len({(bug.file, bug.old) for bug in BUGS.values()}) == len(BUGS)


def row(**changes: object) -> Callable[[dict[str, object]], None]:
    return lambda fields: fields.update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (row(old="no such text"), "occurs 0 times in rtl/psa_regs.v"),
        (row(old="wire"), r"occurs \d\d+ times in rtl/psa_regs.v"),
        (row(file="rtl/psa_nothing.v"), "rtl/psa_nothing.v is not in rtl/psa.f"),
        (row(new="two\nlines"), "more than one line"),
        (row(test="nonsense"), "TEST 'nonsense' is unknown"),
        (row(config="3x3"), "CONFIG '3x3' is unknown"),
        (row(message="("), "bug 'cycle_counter_one_short': "),
        (row(extra=1), "field 'extra' is unknown"),
        (lambda fields: fields.pop("message"), "missing 1 required"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(
    change: Callable[[dict[str, object]], object], message: str, tmp_path: Path
) -> None:
    fields: dict[str, object] = next(
        r for r in yaml.safe_load(bugs.BUGS_FILE.read_text()) if r["name"] == COUNTER.name
    )
    change(fields)
    path = tmp_path / "bugs.yaml"
    path.write_text(yaml.safe_dump([fields]))
    with pytest.raises(TatamiError, match=message):
        bugs.load_bugs(path)


def test_a_name_taken_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bugs.yaml"
    path.write_text(bugs.BUGS_FILE.read_text() * 2)
    with pytest.raises(TatamiError, match="named twice: .*wrong_select_bit"):
        bugs.load_bugs(path)


def hunt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bug: bugs.Bug
) -> tuple[int, dict[str, int], str]:
    monkeypatch.setattr(command.bugs, "load_bugs", lambda: [bug])
    status = command.main(["--jobs=1"])
    text = capsys.readouterr().out
    last = text.splitlines()[-1]
    assert last.startswith("BUGS ")
    return status, json.loads(last.removeprefix("BUGS ")), text


def test_a_bug_is_caught_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Planted in a copy: the RTL itself stays as it is."""
    before = bugs.planted(replace(COUNTER, new=COUNTER.old))
    status, summary, text = hunt(monkeypatch, capsys, COUNTER)
    assert (status, summary["caught"], summary["total"]) == (0, 1, 1)
    assert "cycles less stall_cycles is" in text
    assert bugs.planted(replace(COUNTER, new=COUNTER.old)) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # no bug at all
        ({"new": COUNTER.old.replace("1'b1", "1'b1 ")}, "not caught: digits passes at seeds 1 to 1"),
        ({"message": "layer c9"}, "failed, but does not say /layer c9/"),
        ({"new": "count_event = no_such_wire;"}, "does not build"),
    ],
)
def test_what_is_not_caught_is_said(
    change: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed: dict[str, Any] = {"name": f"{COUNTER.name}_changed", **change}
    status, summary, text = hunt(monkeypatch, capsys, replace(COUNTER, **changed))
    assert (status, summary["caught"], summary["total"]) == (1, 0, 1)
    assert f"NOT CAUGHT {COUNTER.name}_changed" in text
    assert said in text


def test_an_unknown_bug_lists_the_names() -> None:
    with pytest.raises(TatamiError, match="BUG 'nonsense' matches no bug; there are: wrong_select_bit"):
        command.main(["--bug=nonsense"])
