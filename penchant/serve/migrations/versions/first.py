"""The first tables: events, items and their vectors, who was forgotten, idempotency keys, API keys, notes."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sql.BigInteger().with_variant(sql.Integer(), "sqlite")
    op.create_table(
        "events",
        sql.Column("number", number, primary_key=True, autoincrement=True),
        sql.Column("user_id", sql.Text, nullable=False),
        sql.Column("item_id", sql.Text, nullable=False),
        sql.Column("at", sql.Double, nullable=False),
        sql.Column("review", sql.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_user", "events", ["user_id"])
    op.create_table(
        "items",
        sql.Column("number", number, primary_key=True, autoincrement=True),
        sql.Column("item_id", sql.Text, nullable=False, unique=True),
        sql.Column("deleted", sql.Boolean, nullable=False),
        sql.Column("fields", sql.Text, nullable=False),
        sql.Column("numbers", sql.Text, nullable=False),
        sql.Column("picture", sql.LargeBinary),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "vectors",
        sql.Column("item", number, primary_key=True, autoincrement=False),
        sql.Column("input", sql.Text, primary_key=True),
        sql.Column("encoder", sql.Text, nullable=False),
        sql.Column("vector", sql.LargeBinary),
    )
    op.create_table(
        "forgotten",
        sql.Column("digest", sql.Text, primary_key=True),
        sql.Column("after", sql.BigInteger, nullable=False),
    )
    op.create_table(
        "seen",
        sql.Column("digest", sql.Text, primary_key=True),
        sql.Column("content", sql.Text, nullable=False),
        sql.Column("at", sql.Double, nullable=False),
    )
    op.create_index("seen_by_time", "seen", ["at"])
    op.create_table(
        "keys",
        sql.Column("id", sql.Text, primary_key=True),
        sql.Column("name", sql.Text, nullable=False),
        sql.Column("digest", sql.Text, nullable=False, unique=True),
        sql.Column("created", sql.Double, nullable=False),
        sql.Column("revoked", sql.Double),
    )
    op.create_table(
        "notes",
        sql.Column("name", sql.Text, primary_key=True),
        sql.Column("value", sql.Text, nullable=False),
    )
