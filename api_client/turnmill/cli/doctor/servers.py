"""Checks of the settings, and of the database that they lead to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from turnmill.cli.doctor.findings import Examination, Finding, Findings, note, ok, skipped, wrong
from turnmill.connections.shown import shown
from turnmill.domain.errors import AccessDenied, SchemaOutOfDate, TurnmillError
from turnmill.settings import Profile, unsafe_settings
from turnmill.show.wording import duration
from turnmill.variables import slips

if TYPE_CHECKING:
    from turnmill.store.capabilities import Vitals
    from turnmill.store.database import Database
    from turnmill.store.upkeep.structure import Damage

#: Beyond this the times in rows and in logs no longer go together.
_WORST_SKEW = timedelta(seconds=2)
_MOST_VIOLATIONS = 5
_UNREACHABLE = "the database cannot be used"


def check_settings(examination: Examination) -> Findings:
    """Which profile, and whether it refuses anything."""
    settings = examination.settings
    for refused in unsafe_settings(settings, examination.environ):
        yield wrong(str(refused), refused.hint, code=refused.code)
    yield ok(f"profile {settings.profile}, home {settings.home}")
    for line in slips(examination.environ):
        yield note(line, "docs/settings.md has all of them", code="misspelt")


def check_database(examination: Examination) -> Findings:
    """Whether it answers, keeps what it confirms, and takes every text."""
    from turnmill.store.capabilities import Capability
    from turnmill.store.database import Database
    from turnmill.store.upkeep.vitals import vitals

    database = Database(
        examination.settings.database_url,
        schema=examination.settings.schema,
        pool_size=1,
        overflow=0,
    )
    with database.begin() as conn:
        found = vitals(conn)
    examination.database = database
    yield ok(f"{found.product} at {shown(examination.settings.database_url)}")
    if not database.can(Capability.SHARED):
        yield note("SQLite serves this machine: no Celery worker, and one process runs all turns")
    yield from _unwell(found)


def _unwell(found: Vitals) -> Findings:
    """Yield what keeps it from taking what it is to keep."""
    if found.read_only:
        yield wrong(
            "it takes no writes: replies in hand wait, messages are refused",
            "use the primary, or set default_transaction_read_only off",
            code="read_only",
        )
    if found.encoding != "UTF8":
        yield wrong(
            f"its encoding is {found.encoding}: not every text can be stored",
            "create the database WITH ENCODING 'UTF8'",
            code="encoding",
        )
    if not found.durable:
        yield note(
            "it confirms commits before they are on disk: a crash loses accepted messages",
            "fsync = on, synchronous_commit = on",
            code="not_durable",
        )
    if found.most_connections and found.connections > 0.8 * found.most_connections:
        yield note(
            f"{found.connections} of {found.most_connections} connections are taken",
            "raise max_connections, or put pgbouncer before it",
            code="connections",
        )


def check_schema(examination: Examination) -> Findings:
    """Whether the migrations have been run."""
    from turnmill.store.schema import revision
    from turnmill.store.upkeep.privileges import hiding_tables, is_superuser, missing_privileges
    from turnmill.store.upkeep.structure import damages

    if examination.database is None:
        yield skipped(_UNREACHABLE)
        return
    schema = examination.database.schema
    try:
        with examination.database.begin() as conn:
            found = revision.current(conn, schema=schema)
            revision.require_current(conn, schema=schema)
            lacking, may_all = missing_privileges(conn, schema), is_superuser(conn)
            hiding = hiding_tables(conn, schema)
            # Of the code's own revision alone is known what stands there.
            damaged = [*damages(conn, schema)] if found == revision.HEAD else []
    except (AccessDenied, SchemaOutOfDate) as error:
        yield _unusable(examination.database, error)
        _give_up(examination)
        return
    yield ok(f"revision {found}" + (f", schema {schema}" if schema else ""))
    yield from _finish(found)
    yield from _of_the_role(lacking, may_all=may_all, profile=examination.settings.profile)
    yield from _damaged(damaged)
    if hiding:
        yield _hidden(hiding)
        _give_up(examination)  # whatever is looked at would look broken


def _damaged(found: Sequence[Damage]) -> Findings:
    """Yield what somebody has changed, some of each kind."""
    told: Counter[str] = Counter()
    for one in found:
        told[one.code] += 1
        if told[one.code] <= _MOST_VIOLATIONS:
            yield wrong(one.what, one.fix, code=one.code)


def _of_the_role(lacking: Sequence[str], *, may_all: bool, profile: Profile) -> Findings:
    if lacking:
        others = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        yield _not_granted(lacking[0] + others)
    if may_all:
        say = wrong if profile is Profile.PRODUCTION else note
        yield say("its role is a superuser", "turnmill roles --help", code="superuser")


def _give_up(examination: Examination) -> None:
    """Let later checks look at no rows."""
    if examination.database is not None:
        examination.database.close()
    examination.database = None


def _hidden(tables: Sequence[str]) -> Finding:
    others = f" and {len(tables) - 1} more" if len(tables) > 1 else ""
    return wrong(
        f"row level security hides rows of {tables[0]}{others} from its role",
        "ALTER TABLE … DISABLE ROW LEVEL SECURITY, as the owner; or ALTER ROLE … BYPASSRLS",
        code="row_security",
    )


def _unusable(database: Database, error: TurnmillError) -> Finding:
    from turnmill.store.schema import moving_in, revision

    if isinstance(error, AccessDenied):
        return _not_granted("USAGE on the schema")
    with database.begin() as conn:
        found, schema = revision.current(conn, schema=database.schema), database.schema
        old_home = moving_in.home_of_before(conn, schema) if found is None and schema else None
    if old_home is not None:
        return wrong(
            f"a store of the version before: its tables stand in schema {old_home},"
            f" not yet in schema {schema}",
            "stop its workers and clients, then: turnmill migrate",
            code="schema_of_before",
        )
    if found is None:
        return wrong("it has no tables of Turnmill's", "turnmill migrate", code="no_schema")
    if found < revision.NEEDS:
        return wrong(str(error), "turnmill migrate", code="schema_older")
    what = f"its schema {found} is newer than this version, which knows {revision.HEAD}"
    return wrong(what, error.hint, code="schema_newer")


def _not_granted(what: str) -> Finding:
    return wrong(
        f"its role has no {what}",
        "as the owner of the tables: turnmill migrate --runtime-role ROLE",
        code="privilege",
    )


def _finish(found: str | None) -> Findings:
    from turnmill.store.schema import revision

    if found is not None and found < revision.HEAD:
        yield note(
            "migrations wait for the end of the version before",
            "turnmill migrate --finish, once none of its workers and clients runs any more",
            code="unfinished",
        )


def check_clock(examination: Examination) -> Findings:
    """Whether the database's clock and this one agree."""
    from turnmill.store.upkeep.vitals import vitals

    if examination.database is None:
        yield skipped(_UNREACHABLE)
        return
    with examination.database.begin() as conn:
        before = datetime.now(UTC)
        there = vitals(conn).now
        after = datetime.now(UTC)
    skew = max(before - there, there - after, timedelta(0))
    if skew > _WORST_SKEW:
        yield wrong(
            f"the database's clock and this one are {duration(skew)} apart",
            "let NTP set both: leases are safe, times in rows and logs differ",
            code="clock_skew",
        )
    else:
        yield ok(f"within {duration(max(skew, after - before))} of the database's")


def check_invariants(examination: Examination) -> Findings:
    """Whether any row breaks a promise."""
    from turnmill.store.upkeep.invariants import violations

    if examination.database is None:
        yield skipped(_UNREACHABLE)
        return
    with examination.database.begin() as conn:
        found = violations(conn, limit=_MOST_VIOLATIONS)
    for violation in found:
        yield wrong(
            f"{violation}: {violation.promise}", "report it, with this line", code="invariant"
        )
    if not found:
        yield ok("no row breaks a promise")


def check_rows(examination: Examination) -> Findings:
    """Whether any row is out of the bounds that new ones are held to."""
    from turnmill.store.upkeep.odd_rows import odd_rows

    if examination.database is None:
        yield skipped(_UNREACHABLE)
        return
    with examination.database.begin() as conn:
        found = odd_rows(conn, limit=_MOST_VIOLATIONS)
    for row in found:
        yield note(
            str(row),
            "it stops nobody else; delete or archive it, or mend it in SQL",
            code="odd_row",
        )
    if not found:
        yield ok("all rows are within bounds")
