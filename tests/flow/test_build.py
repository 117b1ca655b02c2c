"""What builds share, so that small designs build in a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from tb.flow import build, simulators


def small(source: Path) -> Path:
    source.write_text(f"module {source.stem} (input wire a, output wire b);\nassign b = a;\nendmodule\n")
    return build.build("verilator", {}, top=source.stem, sources=[source])


def test_runtime_and_headers_are_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After two builds of a kind the next ones compile neither, but one file alone. The compiler warns of
    headers that were compiled by another compiler or with other flags than the design, and reads them itself.
    """
    *_, third = (small(tmp_path / f"{name}.v") for name in ("first", "second", "third"))
    log = (third / "build.log").read_text()
    assert [made.name for made in third.glob("*.o")] == ["Vtop__ALL.o"]
    assert f"/{build.HEADER} -Winvalid-pch " in log
    assert "[-Winvalid-pch]" not in log

    header = tmp_path / build.HEADER
    header.write_text('#include "verilated.h"\n')
    header.with_suffix(".h.gch").write_bytes(b"of another compiler")
    monkeypatch.setattr(build, "header_cache", lambda _: tmp_path)
    assert "[-Winvalid-pch]" in (small(tmp_path / "fourth.v") / "build.log").read_text()


@pytest.mark.parametrize("sim", simulators.SIMULATORS)
def test_machines_of_several_kinds_have_builds_of_their_own(
    sim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that they share, neither runs nor overwrites what is compiled for the other."""
    source = tmp_path / "one.v"
    source.write_text("module one; endmodule\n")
    wanted = build.Build(sim, "one", {}, (source,))
    here = wanted.directory, wanted.content(), build.header_cache(wanted), build.runtime_cache({})
    monkeypatch.setattr(simulators.platform, "machine", lambda: "another")
    there = wanted.directory, wanted.content(), build.header_cache(wanted), build.runtime_cache({})
    assert not {*here} & {*there}
