"""Write pages about all runs so far, to be read without a server: `make pages`. Ends with one line
`PAGES {json}`.

Exit status 0, 2 for bad input.
"""

from __future__ import annotations

import json

from scripts.command import Integer, command, console, need, variable, working
from scripts.keep import history_database

REGRESSIONS = 50
MOST = 1000


@command("pages")
@variable("N", Integer(1, MOST), REGRESSIONS, "the last regressions that have a page each")
@history_database()
def main(n: int, history: str | None) -> int:
    need("jinja2", "pywellen", group="pages")
    need("sqlalchemy", group="history")
    from tb.flow.history.database import Database
    from tb.flow.pages.build import make

    with working(console()) as progress:
        made = make(Database(history), n, progress=progress)
    print(f"pages: {made.first}\nsummary: {made.summary}")
    figures = {
        "pages": made.pages,
        "seconds": round(sum(made.seconds.values()), 2),
        "slowest_page_s": round(max(made.seconds.values()), 2),
        "largest_page_bytes": max(made.bytes.values()),
        "first": str(made.first),
    }
    print("PAGES", json.dumps(figures))
    return 0


if __name__ == "__main__":
    main.run()
