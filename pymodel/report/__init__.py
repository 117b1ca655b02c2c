"""Reports of compression runs: read, tabulated, drawn and rendered as a page.

`reports` has the schema, `curves` the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pymodel.report.record import Report, read_reports
from pymodel.report.tables import console_table

__all__ = ["Report", "console_table", "read_reports", "render"]


def render(reports: Path, out: Path, *, command: str | None = None, missing: Sequence[str] = ()) -> None:
    """Calls `pymodel.report.page.render`. Only that function in this package needs matplotlib and jinja2."""
    from pymodel.report.page import render as render_page

    render_page(reports, out, command=command, missing=missing)
