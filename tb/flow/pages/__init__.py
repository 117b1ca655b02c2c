"""Pages of static files about the runs so far: `make pages`. They need no server and no network.

`site` writes pages from templates, `trend` and `wave` draw, `excerpt` reads wave files; `coverage` has the
pages of coverage, `verification` those of the history, `plan` and `results` the others, and `build` makes all
of them. Of these, only those of the history know the database.
"""
