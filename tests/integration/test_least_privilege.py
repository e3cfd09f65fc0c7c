"""What each role of Postgres must not do, Postgres refuses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url

from tests import steps
from tests.acceptance.terminal import Terminal
from tests.conftest import fresh_database
from turnmill import AccessDenied, Client
from turnmill.domain.auditing import Action
from turnmill.domain.states import TurnState
from turnmill.settings import Reads, Settings
from turnmill.store.database import Database
from turnmill.store.nouns.audit import audited
from turnmill.store.nouns.audit_chain import chain
from turnmill.store.schema import migrate
from turnmill.store.schema.grants import AUDITED, PRODUCED, WHOLE
from turnmill.store.schema.key_tables import metadata
from turnmill.store.schema.roles import Login, make_roles
from turnmill.store.schema_name import SCHEMA
from turnmill_worker.stack.postgres import EmbeddedPostgres

OWNER, RUNTIME, VIEWER, PRODUCER, AUDITOR, ANALYST = ROLES = tuple(
    Login(f"least_{one}", f"p-{one}")
    for one in ("owner", "app", "viewer", "producer", "auditor", "analyst")
)
NAMED = {one.name.removeprefix("least_"): one for one in ROLES}


@dataclass(frozen=True)
class Place:
    """A database with a row in the tables that matter, and the URLs of those who use it."""

    admin: str

    def url_as(self, login: Login) -> str:
        url = make_url(self.admin).set(username=login.name, password=login.password)
        return url.render_as_string(hide_password=False)

    def run(self, login: Login | None, *statements: str) -> list[tuple[object, ...]]:
        url = self.url_as(login) if login else self.admin
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(sql.SQL(statement))
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def place(postgres_server: EmbeddedPostgres) -> Iterator[Place]:
    with fresh_database(postgres_server) as url:
        place = Place(url)
        make_them(place)
        migrate.upgrade(place.url_as(OWNER))
        make_them(place)
        fill(place)
        yield place
        place.run(None, f"ALTER DATABASE {make_url(url).database} OWNER TO CURRENT_USER")
        for role in ROLES:
            place.run(None, f"DROP OWNED BY {role.name} CASCADE", f"DROP ROLE {role.name}")


def make_them(place: Place) -> None:
    names = ("owner", "runtime", "viewer", "producer", "auditor", "analyst")
    given = dict(zip(names, ROLES, strict=True))
    make_roles(place.admin, **given)  # type: ignore[arg-type]


def fill(place: Place) -> None:
    store = Database(place.url_as(RUNTIME))
    with Client(database_url=place.url_as(RUNTIME)) as client:
        session = client.sessions.create(user_id="ada", key="s", system_prompt="Be kind.")
        steps.answer(store, client.send(session, "Hello").id)
        failed = client.send(session, "Again")
        steps.end(store, steps.take_one(store, failed.id), TurnState.FAILED, error_code="x")
    with store.begin() as conn:
        audited(conn, Action.CONTENT_READ, actor="os:eve", user_id="ada")
    assert store.run(chain)
    store.close()


#: Of the server, of the schema and of other roles: nobody of ours may.
NOBODY = (
    "CREATE ROLE least_more",
    "ALTER ROLE least_owner SUPERUSER",
    "ALTER ROLE least_auditor CREATEROLE",
    "DROP ROLE least_viewer",
    "SET ROLE turnmill",
    "SET SESSION AUTHORIZATION turnmill",
    "CREATE DATABASE least_more",
    "ALTER SYSTEM SET fsync = off",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/least'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/hostname')",
    "SELECT lo_creat(-1)",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT pg_read_binary_file('PG_VERSION')",
    "SELECT data FROM pg_largeobject",
    "SELECT * FROM pg_statistic",
    "SET ROLE pg_read_all_data",
    "CREATE PUBLICATION least FOR ALL TABLES",
    "DO $$ BEGIN PERFORM pg_read_file('PG_VERSION'); END $$",
    "SELECT rolpassword FROM pg_authid",
    "SELECT * FROM pg_hba_file_rules",
    "SELECT pg_reload_conf()",
    "SELECT pg_switch_wal()",
    "SET session_replication_role = replica",
    "CREATE TABLESPACE least LOCATION '/tmp'",
    "CREATE EVENT TRIGGER least ON ddl_command_end EXECUTE FUNCTION turnmill.audit_keep()",
    "CREATE FUNCTION turnmill.least_c() RETURNS int LANGUAGE c AS 'x', 'y'",
    "GRANT pg_read_server_files TO CURRENT_USER",
    "UPDATE turnmill.audit_log SET actor = 'os:somebody'",
    "DELETE FROM turnmill.audit_log",
    "TRUNCATE turnmill.audit_log",
    "UPDATE turnmill.audit_heads SET hash = ''",
    "DELETE FROM turnmill.audit_heads",
    "TRUNCATE turnmill.audit_heads",
    "INSERT INTO turnmill.audit_log (id, at, actor, login, action, digest)"
    " VALUES (9999, now(), 'x', 'postgres', 'content.read', '')",
    "SELECT turnmill.audit_purge(1)",
)
#: Beside the owner.
NO_USER = (
    "CREATE TABLE turnmill.more (n int)",
    "CREATE TEMPORARY TABLE more (n int)",
    "CREATE SCHEMA more",
    "ALTER TABLE turnmill.turns ADD COLUMN n int",
    "ALTER TABLE turnmill.audit_log DISABLE TRIGGER ALL",
    "DROP TABLE turnmill.messages",
    "DROP TRIGGER keep ON turnmill.audit_log",
    "CREATE INDEX more ON turnmill.turns (id)",
    "TRUNCATE turnmill.turns CASCADE",
    "UPDATE turnmill.schema_version SET version_num = '0001'",
    "UPDATE turnmill.revisions SET serves = '9999'",
    "DELETE FROM turnmill.revisions",
    "ALTER TABLE turnmill.messages OWNER TO CURRENT_USER",
    "UPDATE turnmill.audit_subjects SET user_id = 'bob'",
    "SET ROLE least_owner",
    "CREATE OR REPLACE FUNCTION turnmill.audit_keep() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NULL; END'",
    "CREATE TRIGGER least BEFORE INSERT ON turnmill.turns EXECUTE FUNCTION turnmill.audit_keep()",
    "CREATE RULE least AS ON INSERT TO turnmill.turns DO INSTEAD NOTHING",
    "CREATE POLICY least ON turnmill.turns USING (true)",
    "SELECT setval('turnmill.audit_log_id_seq', 1)",
    "ALTER SEQUENCE turnmill.audit_log_id_seq RESTART",
    "DROP SCHEMA turnmill CASCADE",
)
#: Who has one errand.
NO_WRITER = (
    "DELETE FROM turnmill.sessions",
    "DELETE FROM turnmill.turns",
    "DELETE FROM turnmill.messages",
    "UPDATE turnmill.turns SET state = 'succeeded'",
    "UPDATE turnmill.turns SET cancel_requested = true",
    "UPDATE turnmill.messages SET content = '[]'",
    "UPDATE turnmill.sessions SET status = 'archived'",
    "UPDATE turnmill.sessions SET user_id = 'bob'",
    "UPDATE turnmill.sessions SET system_prompt = ''",
    "INSERT INTO turnmill.attempts (turn_id, fence) SELECT id, 99 FROM turnmill.turns",
    "INSERT INTO turnmill.wishes (turn_id, verb) VALUES (gen_random_uuid(), 'retry')",
    "INSERT INTO turnmill.pauses (kind, name) VALUES ('lane', 'bulk')",
    "UPDATE turnmill.budgets SET limit_usd = 0",
    "DELETE FROM turnmill.events",
    "DELETE FROM turnmill.tombstones",
    "SELECT system_prompt FROM turnmill.sessions",
    "SELECT settings FROM turnmill.sessions",
    "SELECT metadata FROM turnmill.sessions",
    "SELECT decision FROM turnmill.tool_calls",
    "SELECT content FROM turnmill.schedules",
    "SELECT secret FROM turnmill.webhooks",
    "SELECT summary FROM turnmill.compactions",
    "SELECT * FROM turnmill.template_versions",
    "SELECT * FROM turnmill.sessions",
    "SELECT name FROM turnmill.attachments",
    "SELECT ref FROM turnmill.kept_refs",
    "COPY turnmill.sessions (settings) TO STDOUT",
    "COPY turnmill.turns FROM STDIN",
    "WITH gone AS (DELETE FROM turnmill.messages RETURNING id) SELECT * FROM gone",
    "MERGE INTO turnmill.turns t USING (SELECT 1) x ON true WHEN MATCHED THEN DELETE",
    "EXPLAIN ANALYZE DELETE FROM turnmill.turns",
    "UPDATE turnmill.holds SET reason = ''",
    "DELETE FROM turnmill.erasures",
)
FORBIDDEN: dict[str, Sequence[str]] = {
    "owner": NOBODY,
    "app": (*NOBODY, *NO_USER, "SELECT turnmill.ask_cancel(gen_random_uuid())"),
    "viewer": (
        *(*NOBODY, *NO_USER, *NO_WRITER),
        "SELECT content FROM turnmill.messages",
        "SELECT error_detail FROM turnmill.attempts",
        "SELECT user_id FROM turnmill.sessions",
        "SELECT actor FROM turnmill.audit_log",
        "SELECT user_id FROM turnmill.audit_subjects",
    ),
    "producer": (
        *(*NOBODY, *NO_USER, *NO_WRITER),
        "INSERT INTO turnmill.sessions (id, user_id) VALUES (gen_random_uuid(), 'ada')",
        "SELECT actor FROM turnmill.audit_log",
        "SELECT key FROM turnmill.audit_subjects",
        "DELETE FROM turnmill.audit_subjects",
        "SELECT turnmill.ask_retry(gen_random_uuid())",
        "SELECT spent_usd FROM turnmill.budgets",
        "SELECT account FROM turnmill.accounts",
    ),
    "auditor": (
        *(*NOBODY, *NO_USER, *NO_WRITER),
        "SELECT content FROM turnmill.messages",
        "SELECT id FROM turnmill.sessions",
        "SELECT state FROM turnmill.turns",
        "SELECT error_detail FROM turnmill.attempts",
        "DELETE FROM turnmill.audit_subjects",
        "SELECT nextval('turnmill.audit_log_id_seq')",
        "SELECT turnmill.ask_cancel(gen_random_uuid())",
    ),
    "analyst": (
        *(*NOBODY, *NO_USER, *NO_WRITER),
        "SELECT content FROM turnmill.messages",
        "SELECT id FROM turnmill.sessions",
        "SELECT state FROM turnmill.turns",
        "SELECT error_detail FROM turnmill.attempts",
        "SELECT score FROM turnmill.feedback",
        "SELECT actor FROM turnmill.audit_log",
        "SELECT user_id FROM turnmill.audit_subjects",
        "SELECT turns FROM turnmill.rollups",
        "SELECT rule FROM turnmill.alerts",
        "INSERT INTO turnmill.v_usage (slot, turns) VALUES (now(), 1)",
        "UPDATE turnmill.v_usage SET cost_usd = 0",
        "DELETE FROM turnmill.v_usage",
        "DELETE FROM turnmill.v_alerts",
        "CREATE OR REPLACE VIEW turnmill.v_folded AS SELECT content FROM turnmill.messages",
        "SELECT turnmill.ask_cancel(gen_random_uuid())",
    ),
}


@pytest.mark.parametrize("role", FORBIDDEN)
def test_what_a_role_must_not_do_is_refused_by_postgres(place: Place, role: str) -> None:
    wanted = FORBIDDEN[role]
    assert len(wanted) == len(set(wanted)) >= 30
    let_pass = []
    with psycopg.connect(place.url_as(NAMED[role]), autocommit=True) as connection:
        for statement in wanted:
            try:
                connection.execute(sql.SQL(statement))
            except psycopg.errors.InsufficientPrivilege:
                continue
            except psycopg.Error as error:
                let_pass.append(f"{statement}: {error}")
            else:
                let_pass.append(statement)
    assert not let_pass, "\n".join(let_pass)


def test_a_producer_sends_and_reads_replies_and_does_nothing_else(place: Place) -> None:
    store = Database(place.url_as(RUNTIME))
    settings = Settings(database_url=place.url_as(PRODUCER), audit_reads=Reads.ALL, actor="web")
    with Client(settings=settings) as client:
        turn = client.send("s", "What is it?", idempotency_key="k", metadata={"n": 1}, stream=True)
        assert client.send("s", "What is it?", idempotency_key="k").id == turn.id
        many = client.send_many([("s", "one"), ("s", "two")])
        for one in (turn, *many):
            steps.answer(store, one.id)
        assert turn.result(timeout=5).text
        assert [event.kind for event in turn.stream()][-1] == "ended"
        assert client.turns.get(many[1].id).result(timeout=5).text
        assert turn.feedback(0.5, "kind", by="ada").score == 0.5
        assert turn.feedback(-1, by="ada").changes == 1
        for refused in (
            lambda: client.sessions.create(user_id="bob"),
            lambda: client.sessions.get("s"),
            lambda: client.sessions.archive("s"),
            turn.tool_calls,
            client.send("s", "Wait").cancel,
            lambda: client.budgets.set(limit_usd=1),
            client.audit.list,
        ):
            with pytest.raises(AccessDenied):
                refused()
    with Client(database_url=place.url_as(AUDITOR)) as client:
        read = client.audit.list(action="content.read", limit=10)
        assert {(one.actor, one.login, one.user_id) for one in read[:3]} == {
            ("web", PRODUCER.name, "ada")
        }
    store.close()


def test_an_auditor_reads_and_verifies_the_log_and_nothing_else(place: Place) -> None:
    with Client(database_url=place.url_as(RUNTIME)) as client:
        client.budgets.set(limit_usd=1)
    with Client(database_url=place.url_as(AUDITOR)) as client:
        assert client.audit.verify().ok
        with pytest.raises(AccessDenied):
            client.sessions.list()
        with pytest.raises(AccessDenied):
            client.audit.checkpoint()


def test_commands_make_all_roles_and_read_the_log_as_the_auditor(
    place: Place, tmp_path: Path
) -> None:
    urls = {
        "TURNMILL_SUPERUSER_URL": place.admin,
        "TURNMILL_OWNER_URL": place.url_as(OWNER),
        "TURNMILL_DATABASE_URL": place.url_as(RUNTIME),
        "TURNMILL_VIEWER_URL": place.url_as(VIEWER),
        "TURNMILL_PRODUCER_URL": place.url_as(PRODUCER),
        "TURNMILL_AUDITOR_URL": place.url_as(AUDITOR),
        "TURNMILL_ANALYST_URL": place.url_as(ANALYST),
    }
    terminal = Terminal(tmp_path, urls)
    made = terminal.run("roles")
    assert (made.code, made.err) == (0, "")
    assert f"{PRODUCER.name} sends and reads replies, {AUDITOR.name} audits" in made.out
    assert f"{ANALYST.name} reads figures" in made.out
    assert terminal.run("migrate").code == 0
    elsewhere = Terminal(tmp_path, urls | {"TURNMILL_DATABASE_URL": place.url_as(PRODUCER)})
    assert elsewhere.run("audit", "verify").code == 0
    assert elsewhere.run("audit", "ls", "--json").lines()
    assert elsewhere.run("audit", "checkpoint").code == 1


def test_every_column_that_is_granted_is_one_of_the_tables() -> None:
    for granted in (PRODUCED, AUDITED):
        for name, grant in granted.items():
            table = metadata.tables.get(f"{SCHEMA}.{name}")
            columns = {*grant.select, *grant.insert, *grant.update} - {*WHOLE}
            known = set() if table is None else {*table.c.keys()}
            assert table is not None or name in ("schema_version", "revisions")
            assert columns <= known, name


def test_who_had_more_before_has_no_more_than_his_errand(place: Place) -> None:
    place.run(None, f"GRANT ALL ON ALL TABLES IN SCHEMA turnmill TO {AUDITOR.name}")
    migrate.grant(
        place.url_as(OWNER), schema="turnmill", runtime=None, viewer=None, auditor=AUDITOR.name
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.run(AUDITOR, "SELECT content FROM turnmill.messages")
    assert place.run(AUDITOR, "SELECT count(*) FROM turnmill.audit_log")
