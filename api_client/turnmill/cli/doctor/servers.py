"""Checks of the database and the broker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from turnmill.cli.doctor.findings import Examination, Level, note, ok, skipped, wrong
from turnmill.connections.shown import shown
from turnmill.show.wording import duration
from turnmill.variables import slips

if TYPE_CHECKING:
    from turnmill.connections.broker_causes import Cause
    from turnmill.connections.brokers import Broker

#: Beyond this the times in rows and in logs no longer go together.
_WORST_SKEW = timedelta(seconds=2)
_MOST_VIOLATIONS = 5
_UNREACHABLE = "the database cannot be used"

Findings = Iterator[tuple[Level, str, str]]


def check_settings(examination: Examination) -> Findings:
    """Which profile, and whether it refuses anything."""
    settings = examination.settings
    examination.settings.check()
    yield ok(f"profile {settings.profile}, home {settings.home}")
    for line in slips(examination.environ):
        yield note(line, "docs/settings.md has all of them")


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
    if found.read_only:
        yield wrong(
            "it takes no writes: replies in hand wait, messages are refused",
            "use the primary, or switch default_transaction_read_only off",
        )
    if found.encoding != "UTF8":
        yield wrong(
            f"its encoding is {found.encoding}: not every text can be stored",
            "create the database WITH ENCODING 'UTF8'",
        )
    if not found.durable:
        yield note(
            "it confirms commits before they are on disk: a crash loses accepted messages",
            "fsync = on, synchronous_commit = on",
        )
    if found.most_connections and found.connections > 0.8 * found.most_connections:
        yield note(
            f"{found.connections} of {found.most_connections} connections are taken",
            "raise max_connections, or put pgbouncer before it",
        )


def check_schema(examination: Examination) -> Findings:
    """Whether the migrations have been run."""
    from turnmill.domain.errors import SchemaOutOfDate
    from turnmill.store.schema import moving_in, revision

    if examination.database is None:
        yield skipped(_UNREACHABLE)
        return
    schema = examination.database.schema
    try:
        with examination.database.begin() as conn:
            found = revision.current(conn, schema=schema)
            old_home = moving_in.home_of_before(conn, schema) if found is None and schema else None
            revision.require_current(conn, schema=schema)
    except SchemaOutOfDate as error:
        examination.database.close()
        examination.database = None
        if old_home is not None:
            yield wrong(
                f"a store of the version before: its tables stand in schema {old_home},"
                f" not yet in schema {schema}",
                "stop its workers and clients, then: turnmill migrate",
            )
            return
        older = found is None or found < revision.NEEDS
        yield wrong(str(error), "turnmill migrate" if older else error.hint)
        return
    yield ok(f"revision {found}" + (f", schema {schema}" if schema else ""))
    if found is not None and found < revision.HEAD:
        yield note(
            "migrations wait for the end of the version before",
            "turnmill migrate --finish, once none of its workers and clients runs any more",
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
            "let NTP set both; leases are safe, times in rows and logs do not match",
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
        yield wrong(f"{violation}: {violation.promise}", "report it, with this line")
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
        yield note(str(row), "it stops nobody else; delete or archive it, or mend it in SQL")
    if not found:
        yield ok("all rows are within bounds")


def check_broker(examination: Examination) -> Findings:
    """Whether it answers and keeps what it was given."""
    from turnmill.broker.vitals import BrokerSilent, ask_broker
    from turnmill.connections.broker_urls import read_broker_url

    url = examination.settings.broker_url
    if not url:
        yield from _without_broker(examination)
        return
    broker = read_broker_url(url)
    if not broker.is_redis_like:
        yield from _other_broker(broker, shown(url))
        return
    try:
        vitals = ask_broker(broker)
    except BrokerSilent as error:
        yield _silent(shown(url), error.cause)
        return
    yield ok(f"{vitals.product} at {shown(url)}")
    if vitals.evicts:
        yield from _evicting(examination, vitals.eviction)


def _silent(place: str, cause: Cause) -> tuple[Level, str, str]:
    return wrong(f"{place}: {cause}; messages are accepted all the same", cause.remedy)


def _without_broker(examination: Examination) -> Findings:
    from turnmill.store.capabilities import Capability, capabilities_at

    if Capability.SHARED not in capabilities_at(examination.settings.database_url):
        yield ok("none, and SQLite needs none")
    else:
        yield wrong("TURNMILL_BROKER_URL is not set", "set it, or run `turnmill up`")


def _other_broker(broker: Broker, place: str) -> Findings:
    from turnmill.broker.publisher import connect
    from turnmill.connections.broker_causes import cause_of

    try:
        with connect(broker) as connection:
            connection.connect()
    except Exception as error:  # noqa: BLE001
        # The edge to somebody else's client: whatever it raises is what is to be told.
        yield _silent(place, cause_of(error))
    else:
        yield ok(f"RabbitMQ at {place}" if broker.places else "in the memory of one process")


def _evicting(examination: Examination, policy: str) -> Findings:
    from turnmill.settings import Profile

    fix = "set maxmemory-policy to noeviction"
    what = f"it evicts ({policy}): hints vanish when its memory is full"
    if examination.settings.profile is Profile.PRODUCTION:
        yield wrong(f"{what}; workers refuse to start", fix)
    else:
        yield note(f"{what}; the production profile refuses that", fix)
