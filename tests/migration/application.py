"""An application with Alembic and with tables of its own that are called like ours."""

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, MetaData, create_engine, inspect

_ENV = """
from alembic import context
from sqlalchemy import create_engine

engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
"""
_FIRST = """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table("sessions", sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("seat", sa.Text))
    op.create_table("turns", sa.Column("id", sa.Integer, primary_key=True))
    op.create_table("messages", sa.Column("id", sa.Integer, primary_key=True))


def downgrade():
    for table in ("messages", "turns", "sessions"):
        op.drop_table(table)
"""


@dataclass(frozen=True, slots=True)
class Application:
    """It knows nothing of us, and reaches its tables by their bare names."""

    url: str
    folder: Path

    @classmethod
    def beside(cls, url: str, folder: Path) -> "Application":
        (folder / "versions").mkdir()
        (folder / "env.py").write_text(_ENV)
        (folder / "versions" / "first.py").write_text(_FIRST)
        return cls(url.replace("postgresql://", "postgresql+psycopg://"), folder)

    def engine(self) -> Engine:
        return create_engine(self.url)

    def migrate(self, revision: str = "head") -> None:
        config = Config()
        config.set_main_option("script_location", str(self.folder))
        config.set_main_option("sqlalchemy.url", self.url.replace("%", "%%"))
        move = command.downgrade if revision == "base" else command.upgrade
        move(config, revision)

    def columns(self, table: str) -> set[str]:
        """Return the columns of a table as its bare name leads to it."""
        engine = self.engine()
        with engine.connect() as conn:
            found = {column["name"] for column in inspect(conn).get_columns(table)}
        engine.dispose()
        return found

    def tables(self) -> set[str]:
        engine = self.engine()
        found = MetaData()
        with engine.connect() as conn:
            found.reflect(conn)
        engine.dispose()
        return set(found.tables)
