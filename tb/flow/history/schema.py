"""The tables of the history, in their newest version.

A change of a table is a new file in `migrations/versions/`, whose number `VERSION` then is. Times are UTC.
Names that come again in many runs have tables of their own, so that a row of `run` is a few numbers:
questions are answered from indices over them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

VERSION = "0001"

NAME = 200  # characters of a name, and of a signature
GIT = 64

metadata = MetaData()
NUMBER = BigInteger().with_variant(Integer, "sqlite")  # which counts up by itself in SQLite, too


def _id() -> Column[int]:
    return Column("id", NUMBER, primary_key=True)


def _of(table: str, **more: bool) -> Column[int]:
    return Column(f"{table}_id", NUMBER, ForeignKey(f"{table}.id"), **more)  # type: ignore[arg-type]


# Alembic's own. Whoever writes locks its row.
version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))

# A commit, with `+` behind it if files differed from it. Empty outside a repository.
revision = Table("revision", metadata, _id(), Column("git", String(GIT), nullable=False, unique=True))

# A kind of machine: times of one are compared with each other.
machine = Table("machine", metadata, _id(), Column("kind", String(NAME), nullable=False, unique=True))

setup = Table(
    "setup",
    metadata,
    _id(),
    Column("test", String(NAME), nullable=False),
    Column("sim", String(NAME), nullable=False),
    Column("config", String(NAME), nullable=False),
    UniqueConstraint("test", "sim", "config", name="uq_setup"),
)

# Failures that look alike (`tb/flow/regress.py`).
bucket = Table("bucket", metadata, _id(), Column("signature", String(NAME), nullable=False, unique=True))

# `digest` says which one it is, wherever its folder lies. `finished` is empty until it has a summary.
regression = Table(
    "regression",
    metadata,
    _id(),
    Column("digest", String(64), nullable=False, unique=True),
    Column("name", String(NAME), nullable=False),
    Column("started", DateTime, nullable=False, index=True),
    Column("sim", String(NAME), nullable=False),
    Column("branch", String(NAME), nullable=False),
    _of("revision", nullable=False),
    _of("machine", nullable=False),
    Column("finished", Boolean),
    Column("wall_s", Float),
)

# `line` is its line in runs.jsonl, from 1. A run that passed has no bucket.
run = Table(
    "run",
    metadata,
    _id(),
    _of("regression", nullable=False),
    Column("line", Integer, nullable=False),
    _of("revision", nullable=False),
    _of("machine", nullable=False),
    _of("setup", nullable=False),
    Column("seed", BigInteger, nullable=False),
    _of("bucket"),
    Column("wall_s", Float, nullable=False),
    Column("cycles", BigInteger),
    Column("compared_bytes", BigInteger, nullable=False),
    UniqueConstraint("regression_id", "line", name="uq_run"),
)
_failed = run.c.bucket_id.isnot(None)
Index(
    "ix_run_failed",
    *(run.c.bucket_id, run.c.regression_id, run.c.setup_id, run.c.seed),
    sqlite_where=_failed,
    postgresql_where=_failed,
)
Index(
    "ix_run_same",
    *(run.c.revision_id, run.c.setup_id, run.c.seed, run.c.bucket_id, run.c.cycles, run.c.compared_bytes),
)
Index("ix_run_time", run.c.machine_id, run.c.setup_id, run.c.regression_id, run.c.wall_s)

# The rest of a record. `measured` is JSON.
detail = Table(
    "detail",
    metadata,
    Column("run_id", NUMBER, ForeignKey("run.id"), primary_key=True, autoincrement=False),
    *(Column(name, Text, nullable=False) for name in ("message", "log", "replay", "failure", "measured")),
)

# A run of `make coverage`; figures in percent. `whole`: of all runs that there are.
coverage = Table(
    "coverage",
    metadata,
    _id(),
    Column("digest", String(64), nullable=False, unique=True),
    Column("started", DateTime, nullable=False, index=True),
    Column("branch", String(NAME), nullable=False),
    _of("revision", nullable=False),
    _of("machine", nullable=False),
    Column("whole", Boolean, nullable=False),
    Column("runs", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("wall_s", Float, nullable=False),
    *(
        Column(f"{name}_percent", Float, nullable=False)
        for name in ("functional", "line", "branch", "toggle")
    ),
)
coverpoint = Table(
    "coverpoint",
    metadata,
    Column("coverage_id", NUMBER, ForeignKey("coverage.id"), primary_key=True, autoincrement=False),
    Column("name", String(NAME), primary_key=True),
    Column("hit", Integer, nullable=False),
    Column("bins", Integer, nullable=False),
)
