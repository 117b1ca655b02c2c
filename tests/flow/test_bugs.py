"""`make bugs`: the list of bugs fits the RTL, a planted bug is caught, and one that nobody would notice is
reported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pymodel.machine.errors import TatamiError
from scripts import bugs as command
from tb.checkers import mutants
from tb.common.bugs import BUGS_FILE, Bug, Edit
from tb.flow import hunt
from tb.flow.sources import rtl_sources

BUGS = {bug.name: bug for bug in hunt.known_bugs()}
COUNTER = BUGS["cycle_counter_one_short"]


def test_every_kind_of_hunter_has_bugs_in_many_places() -> None:
    assert len([bug for bug in BUGS.values() if bug.test]) >= 30
    assert len([bug for bug in BUGS.values() if bug.block]) >= 80
    assert len([bug for bug in BUGS.values() if bug.checker]) >= 35
    changes = {(bug.hunter, bug.edit) for bug in BUGS.values()}
    assert len(changes) == len(BUGS), "one bug, twice"


def row(**changes: object) -> Callable[[dict[str, object]], None]:
    return lambda fields: fields.update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (row(old="no such text"), "occurs 0 times in rtl/psa_regs.v"),
        (row(old="wire"), r"occurs \d\d+ times in rtl/psa_regs.v"),
        (row(file="rtl/psa_nothing.v"), "rtl/psa_nothing.v is not in rtl/psa.f"),
        (row(new="two\nlines"), "more than one line"),
        (row(line="irq"), r"line 'irq' occurs \d+ times in rtl/psa_regs.v"),
        (row(test="nonsense"), "test 'nonsense' is unknown"),
        (row(test="", block="nonsense"), "block 'nonsense' is unknown"),
        (row(test="", checker="nonsense"), "checker 'nonsense' is unknown"),
        (row(block="regs"), "must have one of test, block and checker"),
        (row(test=""), "must have one of test, block and checker"),
        (row(test="", block="regs", seeds=2), "seeds goes with test only"),
        (row(size=1), "size goes with block only"),
        (row(test="", block="regs", size=4), "size is 4, must be in 1..3 for block 'regs'"),
        (row(config="3x3"), "config '3x3' is unknown"),
        (row(message="("), r"field 'message.0' is '\(': '\(' is no regular expression"),
        (row(seeds=0), "field 'seeds' is 0: input should be greater than or equal to 1"),
        (row(sim="vcs"), "field 'sim' is 'vcs': .*'verilator'"),
        (row(extra=1), "field 'extra' is unknown; valid: name, what, file"),
        (lambda fields: fields.pop("message"), "message is missing"),
        (lambda fields: fields.pop("file"), "field 'file' is missing"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(
    change: Callable[[dict[str, object]], object], message: str, tmp_path: Path
) -> None:
    fields: dict[str, object] = next(
        r for r in yaml.safe_load(BUGS_FILE.read_text()) if r["name"] == COUNTER.name
    )
    change(fields)
    path = tmp_path / "bugs.yaml"
    path.write_text(yaml.safe_dump([fields]))
    with pytest.raises(TatamiError, match=message) as refused:
        hunt.known_bugs(path)
    assert "\n" not in str(refused.value)


def test_all_errors_are_in_one_list(tmp_path: Path) -> None:
    """Of fields first; of texts that are not there once when all fields are right."""
    path = tmp_path / "bugs.yaml"
    rows = yaml.safe_load(BUGS_FILE.read_text())[:3]
    path.write_text(yaml.safe_dump([rows[0] | {"old": "no such text"}, rows[1], rows[2] | {"old": "wire"}]))
    with pytest.raises(TatamiError, match=r"2 errors\n  bug 'wrong.* 0 times.*\n  bug 'chunk_off"):
        hunt.known_bugs(path)
    path.write_text(yaml.safe_dump([rows[0] | {"seeds": 0}, 3, rows[2] | {"extra": 1}]))
    with pytest.raises(TatamiError, match=r"3 errors\n  bug 'wrong.*\n  bug 2: .*\n  bug 'chunk"):
        hunt.known_bugs(path)


def test_text_is_replaced_in_the_line_that_is_meant() -> None:
    text = "a = x;\nb = x;\n"
    assert Edit("f", "x", "y", line="b =").applied(text) == "a = x;\nb = y;\n"
    with pytest.raises(TatamiError, match="old text occurs 2 times in f: x"):
        Edit("f", "x", "y").applied(text)
    with pytest.raises(TatamiError, match="line '= x' occurs 2 times in f"):
        Edit("f", "x", "y", line="= x").applied(text)
    with pytest.raises(TatamiError, match="old text occurs 0 times in line 'b =' of f: a"):
        Edit("f", "a", "y", line="b =").applied(text)


def test_a_name_taken_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bugs.yaml"
    path.write_text(BUGS_FILE.read_text() * 2)
    with pytest.raises(TatamiError, match="named twice: .*wrong_select_bit"):
        hunt.known_bugs(path)


def changed(bug: Bug, **changes: object) -> Bug:
    """Of its own name, if it is another bug and not only looked for in another way."""
    name = f"{bug.name}_changed" if "new" in changes else bug.name
    return bug.model_copy(update={"name": name, **changes})


def hunted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *bugs: Bug
) -> tuple[int, dict[str, int], str]:
    monkeypatch.setattr(command.hunt, "known_bugs", lambda: list(bugs))
    status = command.main(["--jobs=1"])
    text = capsys.readouterr().out
    last = text.splitlines()[-1]
    assert last.startswith("BUGS ")
    return status, json.loads(last.removeprefix("BUGS ")), text


def test_a_bug_is_caught_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Planted in a copy: the RTL itself stays as it is."""
    before = [source.read_bytes() for source in rtl_sources()]
    status, summary, text = hunted(monkeypatch, capsys, COUNTER)
    assert (status, summary["caught"], summary["total"]) == (0, 1, 1)
    assert "cycles less stall_cycles and load_wait_cycles is" in text
    assert [source.read_bytes() for source in rtl_sources()] == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # no bug at all
        ({"new": COUNTER.old.replace("1'b1", "1'b1 ")}, "not caught: digits passes at seeds 1 to 1"),
        ({"message": ("layer c9",)}, "failed, but does not say /layer c9/"),
        ({"new": "count_event = no_such_wire;"}, "does not build"),
    ],
)
def test_what_is_not_caught_is_said(
    changes: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bug = changed(COUNTER, **changes)
    status, summary, text = hunted(monkeypatch, capsys, bug)
    assert (status, summary["caught"], summary["total"]) == (1, 0, 1)
    assert f"NOT CAUGHT {bug.name}" in text
    assert said in text


def test_an_edited_bug_has_a_folder_of_its_own() -> None:
    """Two commands may try the old one and the new one at once."""
    other = changed(COUNTER, name=COUNTER.name, new="count_event = no_such_wire;")
    copies = [hunt.planted(bug) for bug in (COUNTER, other, COUNTER)]
    assert copies[0] == copies[2] != copies[1]
    assert ["no_such_wire" in "".join(p.read_text() for p in copy) for copy in copies] == [False, True, False]


def test_blocks_are_hunted_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is caught, and one that is none."""
    ram = BUGS["ram_reads_always"]
    status, summary, text = hunted(monkeypatch, capsys, ram, changed(ram, new=ram.old.replace("if", "if ")))
    assert (status, summary["caught"], summary["total"]) == (1, 1, 2)
    assert "block_ram" in text
    assert "block_ram does not say" in text
    assert "NOT CAUGHT ram_reads_always_changed" in text


@pytest.mark.icarus
def test_the_checkers_find_theirs_in_one_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bug that another checker names, and one that is none, are not caught. No other bug runs."""
    names = ("load_to_no_bank", "unchecked_tile_read", "member_lost")
    right, wrong, none = (BUGS[name].model_copy(update={"sim": "icarus"}) for name in names)
    wrong = wrong.model_copy(update={"checker": "psa_check_slots"})
    none = none.model_copy(update={"new": none.old})
    assert hunt.hunts([right, wrong, none]) == [[right, wrong, none]]
    status, summary, text = hunted(monkeypatch, capsys, right, wrong, none)
    assert (status, summary["caught"], summary["total"]) == (1, 1, 3)
    assert "psa_check_slots does not say 'TILE read is out of range', but [('psa_check_memories'" in text
    assert "psa_check_slots does not say 'a weight selects a member that is not valid', but []" in text
    (log,) = set(re.findall(r"^  log: (.*)", text, re.MULTILINE))
    played = json.loads(Path(log).with_name("result.json").read_text())["cases"]
    assert {case["case"] for case in played} == {mutants.SOUND.name, *names}


def test_an_unknown_bug_lists_the_names() -> None:
    with pytest.raises(TatamiError, match="BUG 'nonsense' matches no bug; there are: wrong_select_bit"):
        command.main(["--bug=nonsense"])
