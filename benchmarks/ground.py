"""The ground that all systems stand on: Postgres with fsync, Valkey, sessions with a history."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import psycopg
import redis
from psycopg import sql

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane
from turnmill.settings import Settings
from turnmill.store.schema.migrate import upgrade
from turnmill.sync.client import Client
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.valkey import EmbeddedValkey

#: So many have all sessions, one as many as another.
USERS = 100
_CHUNK = 5000
_OF_KEYS = ("TURNMILL_ENCRYPTION_KEYS", "TURNMILL_KEY_STORE")
_TEXT = "A durable queue decouples the moment of sending from that of answering. " * 3

# Without the triggers of the foreign keys: the rows are made in order, and there are many.
_FILL = (
    "SET session_replication_role = replica",
    """
    INSERT INTO turnmill.sessions (id, user_id, provider, model, settings, next_seq,
        turns_succeeded)
    SELECT uuidv7(), 'user-' || n %% %(users)s, %(provider)s, 'gpt-5-mini', '{"thread": "client"}',
        %(turns)s + 1, %(turns)s
    FROM generate_series(1, %(sessions)s) AS n
    """,
    """
    INSERT INTO turnmill.turns (id, session_id, seq, state, attempt, max_attempts, started_at,
        finished_at)
    SELECT uuidv7(), s.id, seq, 'succeeded', 1, 5, now(), now()
    FROM turnmill.sessions s CROSS JOIN generate_series(1, %(turns)s) AS seq
    """,
    """
    INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content, final)
    SELECT uuidv7(), t.session_id, t.id, p,
        CASE p WHEN 0 THEN 'user' ELSE 'assistant' END,
        jsonb_build_array(jsonb_build_object('type', 'text', 'text', %(text)s::text)), p = 1
    FROM turnmill.turns t CROSS JOIN generate_series(0, 1) AS p
    """,
    """
    INSERT INTO turnmill.attempts (turn_id, fence, n, kind, worker, ended_at, outcome)
    SELECT id, seq, 1, 'send', 'worker', now(), 'succeeded' FROM turnmill.turns
    """,
    "UPDATE turnmill.sessions SET fence = %(turns)s",
    "SET session_replication_role = DEFAULT",
)


@dataclass(slots=True, kw_only=True)
class Ground:
    """Two servers, and a folder that goes with them."""

    folder: Path
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def template(
        self, *, sessions: int, turns: int = 10, provider: str = "openai", users: int = USERS
    ) -> str:
        """Make a database of sessions with `turns` succeeded turns each; return its name."""
        name = f"template_{next(self._numbers)}"
        self._admin("CREATE DATABASE {}", name)
        url = self.postgres.url_of(name)
        upgrade(url)
        fill(url, sessions=sessions, turns=turns, provider=provider, users=users)
        return name

    @contextmanager
    def database(self, template: str) -> Iterator[str]:
        """Lend a copy of the template and an empty broker; yield the URL of the database."""
        name = f"bench_{next(self._numbers)}"
        self._admin("CREATE DATABASE {} TEMPLATE {}", name, template)
        redis.Redis.from_url(self.valkey.url).flushall()
        try:
            yield self.postgres.url_of(name)
        finally:
            self._admin("DROP DATABASE {} WITH (FORCE)", name)

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """Lend a database without tables, and an empty broker; yield its URL."""
        with self.database("template1") as url:
            yield url

    def _admin(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.postgres.url_of("postgres"), autocommit=True) as conn:
            conn.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def ground() -> Iterator[Ground]:
    """Run Postgres (durable commits) and Valkey in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="turnmill-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with (
            EmbeddedPostgres(folder, port=0) as postgres,
            EmbeddedValkey(folder, port=0) as valkey,
        ):
            yield Ground(folder=folder, postgres=postgres, valkey=valkey)


def fill(
    url: str, *, sessions: int, turns: int, provider: str = "openai", users: int = USERS
) -> None:
    """Add sessions and their history by SQL; only for a database that has none."""
    given = {
        "sessions": sessions,
        "turns": turns,
        "provider": provider,
        "text": _TEXT,
        "users": users,
    }
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as conn:
        with conn.transaction():
            for statement in _FILL:
                conn.execute(statement, given)
        conn.execute("VACUUM ANALYZE")


def queue_turns(url: str, *, turns: int, lane: Lane) -> list[tuple[TurnId, SessionId]]:
    """Accept `turns` messages, spread over all sessions, and tell nobody."""
    with psycopg.connect(url) as conn:
        rows = conn.execute("SELECT id FROM turnmill.sessions ORDER BY id")
        ids = [SessionId(row[0]) for row in rows]
    queued = []
    with quiet_client(url) as client:
        for start in range(0, turns, _CHUNK):
            chosen = [ids[n % len(ids)] for n in range(start, min(start + _CHUNK, turns))]
            sent = client.send_many(((one, "And then? " * 10) for one in chosen), lane=lane)
            queued += [(turn.id, turn.session_id) for turn in sent]
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE turnmill.sessions, turnmill.turns, turnmill.messages")
    return queued


def quiet_client(url: str) -> Client:
    """Return a client without a broker and without bounds; it encrypts where keys are named."""
    keys = {name: value for name, value in os.environ.items() if name in _OF_KEYS}
    settings = Settings.from_env(keys)
    return Client(settings=replace(settings, database_url=url, max_unfinished_per_user=None))
