"""The first tables: regressions and their runs, coverage and its points."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FAILED = sa.text("bucket_id IS NOT NULL")


def _id() -> sa.Column[int]:
    return sa.Column("id", NUMBER, primary_key=True)


def _of(table: str, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(f"{table}_id", NUMBER, sa.ForeignKey(f"{table}.id"), nullable=nullable)


def _owner(table: str) -> sa.Column[int]:
    foreign = sa.ForeignKey(f"{table}.id")
    return sa.Column(f"{table}_id", NUMBER, foreign, primary_key=True, autoincrement=False)


def _name(name: str, length: int = 200) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False)


def upgrade() -> None:
    for table, column, length in (
        ("bucket", "signature", 200),
        ("machine", "kind", 200),
        ("revision", "git", 64),
    ):
        op.create_table(table, _id(), _name(column, length), sa.UniqueConstraint(column))
    op.create_table(
        "setup",
        *(_id(), _name("test"), _name("sim"), _name("config")),
        sa.UniqueConstraint("test", "sim", "config", name="uq_setup"),
    )
    op.create_table(
        "regression",
        *(_id(), _name("digest", 64), _name("name")),
        sa.Column("started", sa.DateTime, nullable=False),
        *(_name("sim"), _name("branch"), _of("revision"), _of("machine")),
        sa.Column("finished", sa.Boolean),
        sa.Column("wall_s", sa.Float),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("ix_regression_started", "regression", ["started"])
    op.create_table(
        "run",
        *(_id(), _of("regression")),
        sa.Column("line", sa.Integer, nullable=False),
        *(_of("revision"), _of("machine"), _of("setup")),
        sa.Column("seed", sa.BigInteger, nullable=False),
        _of("bucket", nullable=True),
        sa.Column("wall_s", sa.Float, nullable=False),
        sa.Column("cycles", sa.BigInteger),
        sa.Column("compared_bytes", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("regression_id", "line", name="uq_run"),
    )
    op.create_index(
        "ix_run_failed",
        "run",
        ["bucket_id", "regression_id", "setup_id", "seed"],
        sqlite_where=FAILED,
        postgresql_where=FAILED,
    )
    op.create_index(
        "ix_run_same", "run", ["revision_id", "setup_id", "seed", "bucket_id", "cycles", "compared_bytes"]
    )
    op.create_index("ix_run_time", "run", ["machine_id", "setup_id", "regression_id", "wall_s"])
    texts = ("message", "log", "replay", "failure", "measured")
    op.create_table("detail", _owner("run"), *(sa.Column(name, sa.Text, nullable=False) for name in texts))
    op.create_table(
        "coverage",
        *(_id(), _name("digest", 64)),
        sa.Column("started", sa.DateTime, nullable=False),
        *(_name("branch"), _of("revision"), _of("machine")),
        sa.Column("whole", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("runs", "failed")),
        sa.Column("wall_s", sa.Float, nullable=False),
        *(
            sa.Column(f"{name}_percent", sa.Float, nullable=False)
            for name in ("functional", "line", "branch", "toggle")
        ),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("ix_coverage_started", "coverage", ["started"])
    op.create_table(
        "coverpoint",
        _owner("coverage"),
        sa.Column("name", sa.String(200), primary_key=True),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("hit", "bins")),
    )
