"""The connection to the database of the history: SQLite or a server, brought to the newest schema when it is
written to.

Everything that is wrong with a database is one `TatamiError` that begins with `HISTORY` and its URL, without
the password.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, event, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from pymodel.machine.errors import TatamiError
from tb.flow import runner
from tb.flow.history import schema

FILE = "history.db"  # below build/
MIGRATIONS = Path(__file__).with_name("migrations")
WAIT_S = 60  # for another writer of an SQLite file
CONNECT_S = 10  # for a server
WRITES = {"writes": True}
EARLIER_VERSIONS: tuple[str, ...] = ()


class Database:
    """A database by its URL; by default an SQLite file below build/. Nothing is opened before it is used."""

    def __init__(self, url: str | None = None) -> None:
        """Raises `TatamiError` for what is no URL, or one that no installed package can open."""
        default = runner.BUILD / FILE
        try:
            self.url: URL = make_url(url) if url else URL.create("sqlite", database=str(default))
        except ArgumentError:
            raise TatamiError(
                f"HISTORY '{url}' is no URL of a database, like sqlite:////shared/history.db or"
                " postgresql+psycopg://user@host/name"
            ) from None
        self.shown = self.url.render_as_string(hide_password=True)
        try:
            self.engine = _engine(self.url)
        except NoSuchModuleError:
            raise TatamiError(
                f"HISTORY '{self.shown}': no kind of database has the name '{self.url.drivername}'"
            ) from None
        except ModuleNotFoundError as error:
            raise TatamiError(
                f"HISTORY '{self.shown}': this needs the package '{error.name}', which is not installed"
            ) from None
        except (SQLAlchemyError, TypeError, ValueError) as error:
            raise TatamiError(f"HISTORY '{self.shown}': {_line(error)}") from None

    @property
    def file(self) -> Path | None:
        """Of SQLite."""
        name = self.url.database
        return Path(name) if self.url.get_backend_name() == "sqlite" and name else None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to ask. Raises `TatamiError` if there is no history at the URL, or of another schema
        than this checkout's.
        """
        with self._said():
            if self.file and not self.file.is_file():
                raise TatamiError(f"HISTORY '{self.shown}': there is no such file; `make regress` writes one")
            with self.engine.connect() as connection:
                found = self._version(connection)
                if found is None:
                    raise TatamiError(f"HISTORY '{self.shown}': holds no history; `make regress` writes it")
                if found != schema.VERSION:
                    raise TatamiError(
                        f"HISTORY '{self.shown}': has schema version {found}, this checkout has"
                        f" {schema.VERSION}; the next `make regress` updates it"
                    )
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a transaction that no other writer shares, with the newest schema.

        Committed at the end of the block; after an exception nothing of it has been written.
        """
        with self._said():
            if self.file:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            self._upgrade()
            with self._transaction() as connection:
                # one at a time: on a server, the row of the version is the lock
                connection.execute(select(schema.version.c.version_num).with_for_update())
                yield connection

    def _upgrade(self) -> None:
        """Makes the tables, or changes those of an earlier version. Others may do the same at this time."""
        try:
            with self._transaction() as connection:
                if self._version(connection) != schema.VERSION:
                    _migrate(connection)
        except DBAPIError:
            with self.engine.connect() as connection:
                if self._version(connection) != schema.VERSION:
                    raise

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self.engine.connect().execution_options(**WRITES) as connection, connection.begin():
            yield connection

    def _version(self, connection: Connection) -> str | None:
        """Of the schema there; None if there is none. Raises `TatamiError` for one that is not known."""
        if not sqlalchemy.inspect(connection).has_table(schema.version.name):
            return None
        found = connection.execute(select(schema.version.c.version_num)).scalar()
        if found not in (None, schema.VERSION, *EARLIER_VERSIONS):
            raise TatamiError(
                f"HISTORY '{self.shown}': has schema version {found}, newer than {schema.VERSION} of this"
                " checkout; update the checkout, or name another database"
            )
        return found

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Turns what a driver raises into one line."""
        try:
            yield
        except SQLAlchemyError as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise TatamiError(f"HISTORY '{self.shown}': {_line(reason)}") from None
        except (OverflowError, UnicodeError) as error:  # of a value, before it goes out
            raise TatamiError(f"HISTORY '{self.shown}': {_line(error)}") from None
        except OSError as error:
            raise TatamiError(f"HISTORY '{self.shown}': {error.filename}: {error.strerror}") from None


def _engine(url: URL) -> Engine:
    backend = url.get_backend_name()
    if backend != "sqlite":
        more: dict[str, Any] = {"connect_timeout": CONNECT_S} if backend == "postgresql" else {}
        return sqlalchemy.create_engine(url, connect_args=more, poolclass=NullPool)
    engine = sqlalchemy.create_engine(url, connect_args={"timeout": WAIT_S}, poolclass=NullPool)

    # Python's module begins a transaction only at the first change, and then two writers that have both read
    # wait for each other: here a writer has the file from its beginning on
    @event.listens_for(engine, "connect")
    def connected(dbapi_connection: Any, _: object) -> None:
        dbapi_connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begins(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _migrate(connection: Connection) -> None:
    """To the newest version, by alembic, which is imported only for this."""
    from alembic import command, config

    settings = config.Config()
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


def _line(error: object) -> str:
    """The first line of what a driver says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
