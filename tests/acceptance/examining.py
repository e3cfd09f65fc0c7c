"""Servers that work, for a test to spoil something of, and what doctor says of them then."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis

from tests.acceptance.terminal import Said, Terminal
from turnmill_worker.stack.postgres import EmbeddedPostgres

URL, BROKER = "TURNMILL_DATABASE_URL", "TURNMILL_BROKER_URL"
SECRET = "hunter2-hunter2"


@dataclass
class Place:
    """Servers that work, of which a seed spoils something; `with_` is undone afterwards."""

    postgres: EmbeddedPostgres
    database_url: str
    broker_url: str
    undo: ExitStack
    environment: dict[str, str] = field(default_factory=dict)

    def sql(self, *statements: str) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def configure(self, **settings: str) -> None:
        """Set what the broker is to do until the test is over."""
        client = self.undo.enter_context(redis.Redis.from_url(self.broker_url))
        for name, value in settings.items():
            option = name.replace("_", "-")
            before = client.config_get(option)[option]
            client.config_set(option, value)
            self.undo.callback(client.config_set, option, before)


def examined(folder: Path, environment: Mapping[str, str]) -> Said:
    said = Terminal(folder, environment).run("doctor", "--json")
    assert SECRET not in said.out + said.err
    return said


def wrong(said: Said) -> list[dict[str, str]]:
    return [one for one in said.json()["findings"] if one["level"] == "wrong"]
