"""Checks of the workers: whether any answers, and whether each can do what is asked of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from turnmill import alive
from turnmill.cli.doctor.findings import (
    Examination,
    Finding,
    Findings,
    WorkerSays,
    note,
    ok,
    skipped,
    wrong,
)
from turnmill.connections.broker_causes import cause_of
from turnmill.domain.states import Lane
from turnmill.show.wording import count
from turnmill.wire import ABOUT

_ASK_SECONDS = 1.0
#: How many sessions ask for each provider; None where the database cannot be used.
InUse = Mapping[str, int] | None
_OPTIONS = {
    "socket_timeout": 2.0,
    "socket_connect_timeout": 1.0,
    "priority_steps": [0],  # as the workers do: an ACL knows one name of each queue
}


def check_workers(examination: Examination) -> Findings:
    """Whether a worker answers, takes every lane, and is of one version with the others."""
    from turnmill.store.capabilities import Capability, capabilities_at

    settings = examination.settings
    yield from _standing_still(settings.home)
    if Capability.SHARED not in capabilities_at(settings.database_url):
        yield skipped("with SQLite, turns run in the process that sends them")
        return
    if not settings.broker_url or examination.broker_silent:
        yield skipped("they are asked through the broker, and it cannot be used")
        return
    try:
        workers = _asked(settings.broker_url)
    except Exception as error:  # noqa: BLE001
        # The edge to somebody else's client: whatever it raises is what is to be told.
        cause = cause_of(error)
        yield wrong(f"they cannot be asked: {cause}", cause.remedy, code=cause.code)
        return
    examination.workers = workers
    if not workers:
        yield _nobody(examination)
        return
    yield ok(f"{count(len(workers), 'worker')}: {', '.join(one.name for one in workers)}")
    yield from _versions(workers)
    yield from _lanes(workers)
    yield from (_short_of_files(one) for one in workers if _is_short_of_files(one))


def _nobody(examination: Examination) -> Finding:
    from turnmill.store.upkeep.vitals import listening_workers

    if examination.database is not None:
        with examination.database.begin() as conn:
            listening = listening_workers(conn)
        if listening:
            return wrong(
                f"no worker answers through this broker, and {count(listening, 'worker')} of this"
                " database run: turns go on, a second later",
                "is the TURNMILL_BROKER_URL of workers, beat and clients the same?",
                code="another_broker",
            )
    return wrong("no worker answers: turns are accepted and wait", "turnmill worker", code="none")


def _standing_still(home: Path) -> Findings:
    """Yield the processes of this home that run and do nothing, whoever answers in their place."""
    for program in ("worker", "beat"):
        for one in alive.signs(home, program):
            if one.is_running and one.silent_for:
                yield wrong(
                    f"{program} {one.pid} of this machine stands still, for {one.silent_for:.0f} s",
                    f"kill -9 {one.pid}: what it had in hand is taken over; then start it anew",
                    code="stands_still",
                )


def _asked(broker_url: str) -> Sequence[WorkerSays]:
    """Return what workers say of themselves; raises what stands in the way."""
    from celery import Celery

    from turnmill.connections.broker_urls import read_broker_url

    broker = read_broker_url(broker_url)
    said = broker.for_kombu(_OPTIONS if broker.is_redis_like else {})
    app = Celery("turnmill-doctor", broker=said.url, set_as_current=False)
    app.conf.update(
        broker_connection_timeout=_ASK_SECONDS,
        broker_use_ssl=said.ssl,
        broker_transport_options=said.options,
    )
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=_ASK_SECONDS)
            answers = app.control.broadcast(
                ABOUT, reply=True, timeout=_ASK_SECONDS, connection=connection
            )
    finally:
        app.close()
    found = {name: said for answer in answers or () for name, said in answer.items()}
    return [_read(name, found[name]) for name in sorted(found)]


def _read(name: str, said: Any) -> WorkerSays:
    """Return what a worker said; whoever may write to the broker can answer, so all is checked."""
    said = said if isinstance(said, Mapping) else {}
    lacks = said.get("lacks")
    return WorkerSays(
        name=name,
        version=_text(said.get("version")),
        revision=_text(said.get("revision")),
        providers=_texts(said.get("providers")),
        lacks={_text(key): _text(value) for key, value in lacks.items()}
        if isinstance(lacks, Mapping)
        else {},
        lanes=_texts(said.get("lanes")),
        slots=_number(said.get("slots")),
        open_files=_number(said.get("open_files")),
    )


def _versions(workers: Sequence[WorkerSays]) -> Findings:
    """Yield who is of another version: each has its own mind about what rows mean."""
    from turnmill import __version__
    from turnmill.store.schema.revision import HEAD

    ours = (__version__, HEAD)
    others = [one for one in workers if (one.version, one.revision) != ours]
    for one in others:
        its = f"{one.version or 'older'}, schema {one.revision or 'unknown'}"
        yield wrong(
            f"{one.name} is of version {its}; this is {__version__}, {HEAD}",
            "install one version everywhere, and restart",
            code="mixed_versions",
        )


def _lanes(workers: Sequence[WorkerSays]) -> Findings:
    if not all(one.lanes for one in workers):
        return  # one does not say
    taken = frozenset[str]().union(*(one.lanes for one in workers))
    if missing := [lane.value for lane in Lane if lane not in taken]:
        yield wrong(
            f"no worker takes turns of lane {', '.join(missing)}",
            "start one without -Q, or with these queues",
            code="lane_without_worker",
        )


def _is_short_of_files(one: WorkerSays) -> bool:
    return 0 < one.open_files < one.slots


def _short_of_files(one: WorkerSays) -> Finding:
    return wrong(
        f"{one.name} may open {one.open_files} files, and holds up to {one.slots} turns",
        f"ulimit -n {2 * one.slots + 1024}, or a smaller TURNMILL_CONCURRENCY",
        code="open_files",
    )


def check_providers(examination: Examination) -> Findings:
    """Whether every session's provider can be asked, by workers or, where none answers, here."""
    from turnmill.store.upkeep.vitals import providers_in_use

    in_use: InUse = None
    if examination.database is not None:
        with examination.database.begin() as conn:
            in_use = providers_in_use(conn)
    if told := [one for one in examination.workers or () if one.version]:
        yield from _of_workers(told, in_use)
    else:
        yield from _of_here(examination, in_use)


def _of_workers(workers: Sequence[WorkerSays], in_use: InUse) -> Findings:
    installed = frozenset[str]().union(*(one.providers for one in workers))
    for name in sorted({*installed, *(in_use or ())}):
        sessions = _sessions(name, in_use)
        without = [one for one in workers if name not in one.providers]
        keyless = [one for one in workers if name in one.lacks]
        if sessions and without:
            who = _who(without, workers)
            yield wrong(
                f"{name}: {count(sessions, 'session')}, and it is not installed at {who}",
                _INSTALL,
                code="provider_unknown",
            )
        elif keyless:
            variable = keyless[0].lacks[name]
            yield _keyless(name, variable, who=_who(keyless, workers), sessions=sessions)
        else:
            yield ok(f"{name}: can be asked{_used_by(sessions)}")


_INSTALL = (
    "if it is misspelt: turnmill sessions move SESSION --provider NAME; else install the package"
    " that registers it under turnmill.providers"
)


def _who(these: Sequence[WorkerSays], of: Sequence[WorkerSays]) -> str:
    return "any worker" if len(these) == len(of) else ", ".join(one.name for one in these)


def _sessions(name: str, in_use: InUse) -> int | None:
    return None if in_use is None else in_use.get(name, 0)


def _used_by(sessions: int | None) -> str:
    return "; by whom is not known" if sessions is None else f"; {count(sessions, 'session')}"


def _keyless(name: str, variable: str, *, who: str, sessions: int | None) -> Finding:
    if not sessions:
        asked = "who asks for it is not known" if sessions is None else "no session asks for it"
        return note(f"{name}: {variable} is not set at {who}; {asked}")
    return wrong(
        f"{name}: {count(sessions, 'session')}, and {variable} is not set at {who}",
        f"set {variable} in the worker's environment, and restart it",
        code="key_missing",
    )


def _of_here(examination: Examination, in_use: InUse) -> Findings:
    """Judge by this environment: no worker has told of its own."""
    from turnmill.domain.errors import ProviderError
    from turnmill_worker.providers.registry import ProviderRegistry

    registry = ProviderRegistry(examination.environ)
    for name in sorted({*registry.names(), *(in_use or ())}):
        sessions = _sessions(name, in_use)
        if name not in registry.names():
            what = f"{name}: {count(sessions or 0, 'session')}, and no installed package has it"
            yield wrong(what, _INSTALL, code="provider_unknown")
        elif variable := registry.missing_key(name):
            yield _keyless(name, variable, who="this place", sessions=sessions)
        else:
            try:
                registry.get(name)
            except ProviderError as error:
                what = f"{name}: {error.error_code}: {error.detail}"
                yield wrong(what, error.hint, code=error.error_code)
            else:
                yield ok(f"{name}: can be used{_used_by(sessions)}")


def _text(value: Any) -> str:
    return value[:80] if isinstance(value, str) else ""


def _texts(values: Any) -> frozenset[str]:
    is_some = isinstance(values, Iterable) and not isinstance(values, str | Mapping)
    return frozenset(map(_text, values)) if is_some else frozenset()


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
