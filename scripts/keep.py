"""What `make regress` and `make coverage` do with the history: they put into it what they have recorded.

The history is imported only when it is used: the processes that do the runs have no need of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pymodel.machine.errors import TatamiError
from scripts.command import need, variable


def history_database() -> Callable[[Any], Any]:
    """HISTORY."""
    return variable("HISTORY", what="URL of the database of the history (default: SQLite below build/)")


def check(url: str | None) -> None:
    """Raises `TatamiError` for what is no URL of a database. Whether one is there is seen when it is used."""
    need("sqlalchemy", "alembic", group="history")
    if url:
        from tb.flow.history.database import Database

        Database(url)


def keep(url: str | None, recorded: Path, command: str) -> None:
    """Takes what was recorded into the history. If that is not possible it says so in one line: the records
    are in files, and what came of the runs is as it was.
    """
    from tb.flow.history.database import Database
    from tb.flow.history.intake import take_in

    try:
        take_in(Database(url), recorded)
    except TatamiError as error:
        later = f"`make history IMPORT={recorded}` takes it in later"
        print(f"{command}: not in the history: {error}; {later}", file=sys.stderr)
