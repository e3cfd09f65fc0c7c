"""`turnmill doctor` names what somebody's SQL, a dump or a copy has done to the tables."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from celery.app.control import Control

from tests.acceptance.examining import SECRET, Place, examined, wrong
from tests.acceptance.terminal import Terminal
from turnmill.store.database import Database
from turnmill.store.schema.revision import VERSION_TABLE
from turnmill.store.upkeep.structure import damages, expected

_INVALID = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'turnmill.{}'::regclass"
#: As a replica takes rows: triggers do not fire, and nothing is counted.
_COPIED = """
SET session_replication_role = replica;
INSERT INTO turnmill.audit_log (id, at, actor, login, action, digest)
VALUES (7, now(), 'ada', 'ada', 'x', '')
"""

#: What was done → code, a part of what is said, and of the remedy.
DONE: dict[str, tuple[Sequence[str], str, str, str]] = {
    "a function was dropped": (
        ["DROP FUNCTION turnmill.budgets_charge"],
        *("part_lost", "function budgets_charge", "pg_dump --schema-only"),
    ),
    "a trigger was dropped": (
        ["DROP TRIGGER keep ON turnmill.audit_log"],
        *("part_lost", "trigger audit_log.keep", "pg_dump --schema-only"),
    ),
    "an index was dropped": (
        ["DROP INDEX turnmill.uq_sessions_keyed"],
        *("part_lost", "index sessions.uq_sessions_keyed", "pg_dump --schema-only"),
    ),
    "a constraint was dropped": (
        ["ALTER TABLE turnmill.turns DROP CONSTRAINT ck_turns_within_bounds"],
        *("part_lost", "constraint turns.ck_turns_within_bounds", "pg_dump --schema-only"),
    ),
    "a column was dropped": (
        ["ALTER TABLE turnmill.sessions DROP COLUMN key_id"],
        *("part_lost", "column sessions.key_id", "pg_dump --schema-only"),
    ),
    "a table was dropped": (
        ["DROP TABLE turnmill.topics CASCADE"],
        *("part_lost", "table topics", "pg_dump --schema-only"),
    ),
    "a view was dropped": (
        ["DROP VIEW turnmill.v_usage CASCADE"],
        *("part_lost", "view v_usage", "pg_dump --schema-only"),
    ),
    "pg_restore --disable-triggers did not come to its end": (
        ["ALTER TABLE turnmill.attempts DISABLE TRIGGER ALL"],
        *("triggers_off", "foreign keys of attempts do not hold", "ENABLE TRIGGER ALL"),
    ),
    "a trigger was disabled": (
        ["ALTER TABLE turnmill.audit_log DISABLE TRIGGER keep"],
        *("triggers_off", "trigger keep of audit_log", "ENABLE TRIGGER keep"),
    ),
    "its role writes as a replica does": (
        ['ALTER DATABASE "{database}" SET session_replication_role = replica'],
        *("triggers_off", "for its role", "RESET session_replication_role"),
    ),
    "an index was not built to its end": (
        [_INVALID.format("ix_sessions_due")],
        *("index_invalid", "ix_sessions_due", "REINDEX INDEX CONCURRENTLY"),
    ),
    "a key was not built to its end": (
        [_INVALID.format("uq_turns_session_id_seq")],
        *("index_invalid", "uq_turns_session_id_seq", "REINDEX INDEX CONCURRENTLY"),
    ),
    "a table is not kept in a crash": (
        ["ALTER TABLE turnmill.alerts SET UNLOGGED"],
        *("unlogged", "table alerts", "SET LOGGED"),
    ),
    "a part belongs to another": (
        ["CREATE ROLE doctors_other", "ALTER VIEW turnmill.v_usage OWNER TO doctors_other"],
        *("owners", "doctors_other", "turnmill roles"),
    ),
    "rows were copied and their numbers were not": (
        [_COPIED],
        *("sequence_behind", "audit_log_id_seq", "setval"),
    ),
}


@pytest.fixture(autouse=True)
def _nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Control, "broadcast", lambda *_, **__: [])


@pytest.mark.parametrize("name", DONE)
def test_what_was_done_to_the_tables_has_its_cause_and_its_remedy(
    name: str, place: Place, tmp_path: Path
) -> None:
    statements, code, what, fix = DONE[name]
    if code == "owners":
        place.undo.callback(place.sql, "DROP OWNED BY doctors_other", "DROP ROLE doctors_other")
    database = urlsplit(place.database_url).path[1:]
    place.sql(*(one.format(database=database) for one in statements))
    said = examined(tmp_path, place.environment)
    [found] = [one for one in wrong(said) if one["code"] == code]
    assert what in found["what"]
    assert fix in found["fix"]
    assert said.code == 12


def test_who_may_not_migrate_is_told_whose_the_tables_are(place: Place, tmp_path: Path) -> None:
    place.sql(f"CREATE ROLE doctors_role LOGIN PASSWORD '{SECRET}'")
    place.undo.callback(place.sql, "DROP OWNED BY doctors_role", "DROP ROLE doctors_role")
    parts = urlsplit(place.database_url)
    owner, where = parts.username, parts.netloc.rpartition("@")[2]
    his = parts._replace(netloc=f"doctors_role:{SECRET}@{where}").geturl()
    environment = place.environment | {"TURNMILL_OWNER_URL": his}
    for arguments in (["migrate"], ["migrate", "--runtime-role", "doctors_role"]):
        said = Terminal(tmp_path, environment).run(*arguments)
        assert said.code != 0 and SECRET not in said.err
        assert f"the tables belong to {owner}, and this is doctors_role" in said.err
        assert "turnmill roles" in said.err
        place.sql("GRANT USAGE ON SCHEMA turnmill TO doctors_role")
        place.sql("GRANT SELECT ON ALL TABLES IN SCHEMA turnmill TO doctors_role")


def test_who_may_make_no_schema_is_told_which_grant_a_migration_needs(
    place: Place, tmp_path: Path
) -> None:
    place.sql(f"CREATE ROLE doctors_role LOGIN PASSWORD '{SECRET}'")
    place.undo.callback(place.sql, "DROP OWNED BY doctors_role", "DROP ROLE doctors_role")
    parts = urlsplit(place.database_url)
    where = parts.netloc.rpartition("@")[2]
    his = parts._replace(netloc=f"doctors_role:{SECRET}@{where}").geturl()
    environment = place.environment | {"TURNMILL_DATABASE_URL": his, "TURNMILL_SCHEMA": "another"}
    said = Terminal(tmp_path, environment).run("migrate")
    assert said.code != 0 and SECRET not in said.err
    assert "may not make the schema another" in said.err
    assert "GRANT it CREATE ON DATABASE" in said.err


def test_what_migrations_make_is_what_is_looked_for(place: Place) -> None:
    known = {*expected()}
    database = Database(place.database_url, pool_size=1)
    with database.begin() as conn:
        assert [*damages(conn, database.schema)] == []
        made = conn.exec_driver_sql(
            "SELECT 'trigger', concat_ws('.', c.relname, t.tgname) FROM pg_trigger t"
            " JOIN pg_class c ON c.oid = t.tgrelid"
            " WHERE c.relnamespace = 'turnmill'::regnamespace AND NOT t.tgisinternal"
            " UNION ALL SELECT 'function', proname FROM pg_proc"
            " WHERE pronamespace = 'turnmill'::regnamespace"
            " UNION ALL SELECT CASE relkind WHEN 'v' THEN 'view' ELSE 'table' END, relname"
            " FROM pg_class"
            " WHERE relnamespace = 'turnmill'::regnamespace AND relkind IN ('r', 'v')"
        )
        notes = {("table", VERSION_TABLE), ("table", "revisions")}
        assert {(kind, name) for kind, name in made} <= known | notes
    database.close()
