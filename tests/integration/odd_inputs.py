"""What callers may hand in: a verb, one of its arguments, and values that nobody expects."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from turnmill import Client, File, Image, NewPrice, PaidCall, Text
from turnmill.domain.ids import SessionId, TurnId
from turnmill.new_ids import new_id

_WEST, _EAST = timezone(-timedelta(hours=12)), timezone(timedelta(hours=14))


class Place(NamedTuple):
    """Where values are tried."""

    client: Client
    session: SessionId  #: paused, so that nothing runs
    final: TurnId  #: a turn that has ended
    file: Path  #: a batch of one line


class Verb(NamedTuple):
    """A call with one argument left open, and what shows it of what came of it, if anything."""

    call: Callable[[Place, Any], Any]
    shows: Callable[[Place, Any], Any] | None = None


def _sent(name: str, column: str | None = None) -> Verb:
    shown: Any = None
    if column is not None:
        shown = lambda at, turn: getattr(at.client.turns.get(turn.id).record, column)  # noqa: E731
    return Verb(lambda at, value: at.client.send(at.session, "x", **{name: value}), shown)


def _created(name: str) -> Verb:
    def call(at: Place, value: Any) -> Any:
        return at.client.sessions.create(**{"user_id": "eve", name: value})

    return Verb(call, lambda at, made: getattr(at.client.sessions.get(made), name))


def _updated(name: str) -> Verb:
    def call(at: Place, value: Any) -> Any:
        return at.client.sessions.update(at.session, **{name: value})

    return Verb(call, lambda at, made: getattr(at.client.sessions.get(made), name))


def _text_of(at: Place, turn: Any) -> str:
    return at.client.turns.get(turn.id).messages()[0].text


def _of_users(name: str, at: Any, value: Any) -> Any:
    return getattr(at.client.users, name)(value)


def _all_sent(at: Place, value: Any) -> Any:
    with suppress(RuntimeError):  # of an iterable's own: whoever made it is told
        return at.client.send_many(value)


def _given(verb: Callable[[Place], Callable[..., Any]], name: str) -> Verb:
    return Verb(lambda at, value: verb(at)(**{name: value}))


def _batched(field: str, at: Place, value: Any) -> Any:
    try:
        line = {"user_id": "eve", "text": "x"} | {field: as_stored(value)}
        at.file.write_text(json.dumps(line))
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError):
        return None
    return at.client.batches.create(at.file, name=str(uuid4()))


_SESSION = ("settings", "metadata", "on_failure", "on_ambiguous", "max_attempts", "idle_ttl")
_FIELDS = ("user_id", "session", "text", "custom_id", "metadata", "provider", "model", "x")


_DAY = date(2026, 1, 1)


def _free(call: PaidCall) -> NewPrice:
    return NewPrice(Decimal(0))


def _as_it_was(call: PaidCall) -> NewPrice:
    """Know no price, so that none is changed: whoever names no provider means all calls."""
    return NewPrice(None)


_TEMPLATE = (
    *("provider", "model", "system_prompt", "settings", "metadata", "on_failure", "max_attempts"),
    *("max_cost_usd", "idle_ttl", "opening", "variables", "layers", "note"),
    *("observers", "keep_content"),
)
_SCHEDULE = ("cron", "at", "timezone", "until", "missed", "key", "lane", "metadata")


def _scheduled(name: str) -> Verb:
    def call(at: Place, value: Any) -> Any:
        given = {"cron": "@yearly", "key": str(uuid4())} | {name: value}
        if name == "at":
            given["cron"] = None
        made = at.client.schedules.create(at.session, "x", **given)
        at.client.schedules.delete(made)

    return Verb(call)


_SPOKEN = ("tools", "max_tool_rounds", "response_format", "on_context_full", "observers")


#: One argument of `webhooks.create`, and what stands beside it.
_OF_WEBHOOK: Mapping[str, Mapping[str, Any]] = {
    "url": {"events": ["turn.settled"]},
    "events": {"url": "https://a.example/"},
    "secret": {"url": "https://a.example/", "events": ["turn.settled"]},
    "include_content": {"url": "https://a.example/", "events": ["turn.settled"]},
}


def _hooked(name: str) -> Verb:
    def call(at: Place, value: Any) -> Any:
        made = at.client.webhooks.create(**{**_OF_WEBHOOK[name], name: value})
        at.client.webhooks.delete(made)  # there may be so many

    return Verb(call)


def _of_webhooks(verb: str) -> Verb:
    return Verb(lambda at, value: getattr(at.client.webhooks, verb)(value))


def _of_call(verb: str) -> Verb:
    """Something said to a call of a turn that has made none."""
    return Verb(lambda at, value: getattr(at.client.turns.get(at.final), verb)(value))


def _of_file(name: str) -> Verb:
    return Verb(lambda at, value: at.client.send(at.session, [Text("x"), File(**{name: value})]))


VERBS: Mapping[str, Verb] = {
    "send(text)": Verb(lambda at, value: at.client.send(at.session, value), _text_of),
    "send(session)": Verb(lambda at, value: at.client.send(value, "x")),
    "send(metadata)": _sent("metadata", "metadata"),
    "send(deliver_at)": _sent("deliver_at", "available_at"),
    "send(expires)": _sent("expires", "expires_at"),
    "send(max_attempts)": _sent("max_attempts", "max_attempts"),
    "send(lane)": _sent("lane", "lane"),
    "send(idempotency_key)": _sent("idempotency_key"),
    "send(attachments)": _sent("attachments"),
    "send(attachment)": Verb(
        lambda at, value: at.client.send(at.session, "x", attachments=[value])
    ),
    "send(part)": Verb(lambda at, value: at.client.send(at.session, [Text("x"), Image(value)])),
    **{f"send(part's {name})": _of_file(name) for name in ("id", "url", "name", "media_type")},
    "attachments.put(source)": Verb(
        lambda at, value: at.client.attachments.put(value, user_id="ada")
    ),
    "attachments.put(name)": Verb(
        # Of the same bytes the first name stays.
        lambda at, value: at.client.attachments.put(
            new_id().hex.encode(), user_id="ada", name=value
        ),
        lambda at, kept: at.client.attachments.get(kept).name,
    ),
    "attachments.put(user_id)": Verb(
        lambda at, value: at.client.attachments.put(b"x", user_id=value),
        lambda at, kept: at.client.attachments.get(kept).user_id,
    ),
    "attachments.put(media_type)": Verb(
        lambda at, value: at.client.attachments.put(b"x", user_id="ada", media_type=value)
    ),
    "attachments.get": Verb(lambda at, value: at.client.attachments.get(value)),
    "attachments.open": Verb(lambda at, value: list(at.client.attachments.open(value))),
    "attachments.list(user_id)": Verb(lambda at, value: at.client.attachments.list(user_id=value)),
    "attachments.usage": Verb(lambda at, value: at.client.attachments.usage(value)),
    "attachments.delete": Verb(lambda at, value: at.client.attachments.delete(value)),
    "send_many(messages)": Verb(_all_sent),
    "send_many(pair)": Verb(lambda at, value: at.client.send_many([(at.session, "x"), value])),
    "send_many(text)": Verb(
        lambda at, value: at.client.send_many([(at.session, "x"), (at.session, value)])
    ),
    "send_many(session)": Verb(
        lambda at, value: at.client.send_many([(at.session, "x"), (value, "x")])
    ),
    "send_many(metadata)": Verb(
        lambda at, value: at.client.send_many([(at.session, "x")], metadata=value)
    ),
    **{
        f"create({name})": _created(name)
        for name in ("user_id", "provider", "model", "key", "system_prompt", *_SESSION)
    },
    **{f"update({name})": _updated(name) for name in ("model", "system_prompt", *_SESSION)},
    **{
        f"create({name})": _given(lambda at: partial(at.client.sessions.create, user_id="e"), name)
        for name in _SPOKEN
    },
    **{
        f"update({name})": _given(lambda at: partial(at.client.sessions.update, at.session), name)
        for name in _SPOKEN
    },
    **{verb: _of_call(verb) for verb in ("submit_tool_outputs", "approve", "reject")},
    "submit_tool_outputs(output)": Verb(
        lambda at, value: at.client.turns.get(at.final).submit_tool_outputs({"call_1": value})
    ),
    "reject(why)": Verb(lambda at, value: at.client.turns.get(at.final).reject("call_1", value)),
    **{
        f"templates.put({name})": _given(lambda at: partial(at.client.templates.put, "t"), name)
        for name in _TEMPLATE
    },
    "templates.put": Verb(lambda at, value: at.client.templates.put(value)),
    "templates.get": Verb(lambda at, value: at.client.templates.get(value)),
    "templates.diff": Verb(lambda at, value: at.client.templates.diff("t@1", value)),
    "templates.roll_back": Verb(lambda at, value: at.client.templates.roll_back("t", to=value)),
    "templates.sync": Verb(lambda at, value: at.client.templates.sync(value)),
    "create(template)": Verb(
        lambda at, value: at.client.sessions.create(user_id="eve", template=value)
    ),
    "create(variables)": Verb(
        lambda at, value: at.client.sessions.create(user_id="e", template="t", variables=value)
    ),
    **{f"schedules.create({name})": _scheduled(name) for name in _SCHEDULE},
    "schedules.create(text)": Verb(
        lambda at, value: at.client.schedules.create(at.session, value, cron="@daily", key="k")
    ),
    "schedules.get": Verb(lambda at, value: at.client.schedules.get(value)),
    "schedules.list(after)": Verb(lambda at, value: at.client.schedules.list(after=value)),
    "sessions.get": Verb(lambda at, value: at.client.sessions.get(value)),
    "sessions.archive": Verb(lambda at, value: at.client.sessions.archive(value)),
    "sessions.restore": Verb(lambda at, value: at.client.sessions.restore(value)),
    "sessions.fork": Verb(lambda at, value: at.client.sessions.fork(value)),
    "sessions.fork(at)": Verb(lambda at, value: at.client.sessions.fork(at.session, at=value)),
    "sessions.fork(key)": Verb(lambda at, value: at.client.sessions.fork(at.session, key=value)),
    "sessions.archive(running)": Verb(
        lambda at, value: at.client.sessions.archive(at.session, running=value)
    ),
    "sessions.move(model)": Verb(
        lambda at, value: at.client.sessions.move(at.session, model=value, running="cancel")
    ),
    "sessions.create(history)": Verb(
        lambda at, value: at.client.sessions.create(user_id="eve", history=value)
    ),
    "sessions.create(history of one)": Verb(
        lambda at, value: at.client.sessions.create(user_id="eve", history=[value])
    ),
    "sessions.create(history said)": Verb(
        lambda at, value: at.client.sessions.create(
            user_id="eve",
            history=[{"role": "user", "content": value}, {"role": "assistant", "content": "x"}],
        )
    ),
    "sessions.update(if_version)": Verb(
        lambda at, value: at.client.sessions.update(at.session, model="mock", if_version=value)
    ),
    "sessions.deletion": Verb(lambda at, value: at.client.sessions.deletion(value)),
    "sessions.keep_content(user)": Verb(
        lambda at, value: at.client.sessions.keep_content(value, None)
    ),
    "sessions.keep_content(keep)": Verb(
        lambda at, value: at.client.sessions.keep_content("eve", value)
    ),
    "users.export(user)": Verb(lambda at, value: at.client.users.export(value, "/dev/null")),
    "users.erase(grace)": Verb(lambda at, value: at.client.users.erase("nobody", grace=value)),
    "users.hold(user)": Verb(lambda at, value: at.client.users.hold(value, reason="x")),
    "users.hold(reason)": Verb(lambda at, value: at.client.users.hold("eve", reason=value)),
    "users.verify_erasure(words)": Verb(
        lambda at, value: at.client.users.verify_erasure("eve", words=value)
    ),
    **{
        f"users.{name}": Verb(partial(_of_users, name))
        for name in ("erasure", "withdraw", "admit", "release", "verify_erasure")
    },
    "users.replay_erasures": Verb(lambda at, value: at.client.users.replay_erasures(value)),
    "sessions.history": Verb(lambda at, value: list(at.client.sessions.history(value))),
    **{
        f"sessions.list({name})": _given(lambda at: at.client.sessions.list, name)
        for name in ("user_id", "status", "after", "limit")
    },
    "turns.get": Verb(lambda at, value: at.client.turns.get(value)),
    "result(timeout)": Verb(lambda at, value: at.client.turns.get(at.final).result(value)),
    **{
        f"turns.list({name})": _given(lambda at: at.client.turns.list, name)
        for name in ("session", "states", "error_code", "waits_for", "after", "limit")
    },
    **{
        f"waiting_calls({name})": _given(lambda at: at.client.turns.waiting_calls, name)
        for name in ("waits_for", "session", "user_id", "after", "limit")
    },
    "batches.get": Verb(lambda at, value: at.client.batches.get(value)),
    "batches.list(limit)": Verb(lambda at, value: at.client.batches.list(limit=value)),
    "batches.list(after)": Verb(lambda at, value: at.client.batches.list(after=value)),
    "batches.create(path)": Verb(lambda at, value: at.client.batches.create(value)),
    **{
        f"batches.create({name})": _given(
            lambda at: partial(at.client.batches.create, at.file), name
        )
        for name in (
            *("name", "provider", "model", "mode", "user_id", "settings", "format", "columns"),
            *("reuse", "max_cost_usd", "deadline"),
        )
    },
    **{f"batch line {name}": Verb(partial(_batched, name)) for name in _FIELDS},
    **{f"webhooks.create({name})": _hooked(name) for name in _OF_WEBHOOK},
    **{
        f"webhooks.{verb}": _of_webhooks(verb)
        for verb in ("get", "delete", "rotate", "release", "deliveries")
    },
    "lanes.pause(lane)": Verb(lambda at, value: at.client.lanes.pause(lane=value)),
    "lanes.pause(provider)": Verb(lambda at, value: at.client.lanes.pause(provider=value)),
    "lanes.resume(lane)": Verb(lambda at, value: at.client.lanes.resume(lane=value)),
    "lanes.resume(provider)": Verb(lambda at, value: at.client.lanes.resume(provider=value)),
    "analytics.report(days)": Verb(lambda at, value: at.client.analytics.report(days=value)),
    **{
        f"analytics.overview({name})": _given(lambda at: at.client.analytics.overview, name)
        for name in ("since", "until", "zone", "thorough")
    },
    **{
        f"analytics.lines({name})": _given(lambda at: at.client.analytics.lines, name)
        for name in ("since", "until", "zone")
    },
    **{
        f"analytics.alerts({name})": _given(lambda at: at.client.analytics.alerts, name)
        for name in ("since", "limit")
    },
    "analytics.reconcile(bill)": Verb(lambda at, value: at.client.analytics.reconcile(value)),
    **{
        f"analytics.reconcile({name})": _given(
            lambda at: partial(at.client.analytics.reconcile, at.file), name
        )
        for name in ("provider", "tolerance")
    },
    "analytics.reprice(first)": Verb(
        lambda at, value: at.client.analytics.reprice(_free, first=value, provider="nobody")
    ),
    **{
        f"analytics.reprice({name})": _given(
            lambda at: partial(
                at.client.analytics.reprice, _free, first=date(2026, 1, 1), provider="nobody"
            ),
            name,
        )
        for name in ("last",)
    },
    "analytics.reprice(provider)": Verb(
        lambda at, value: at.client.analytics.reprice(_as_it_was, first=_DAY, provider=value)
    ),
}


def as_stored(value: Any) -> Any:
    """Return what an accepted value is equal to when it comes back: JSON knows no tuples."""
    for kind, plain in _PLAIN.items():
        if isinstance(value, kind):
            return plain(value)
    return value


#: What a value is without the rest of a subclass, which may fail at whatever is asked of it.
_PLAIN: Mapping[type, Callable[[Any], Any]] = {
    dict: lambda value: {str.__str__(key): as_stored(one) for key, one in dict.items(value)},
    list: lambda value: [*map(as_stored, list.__iter__(value))],
    tuple: lambda value: [*map(as_stored, tuple.__iter__(value))],
    str: str.__str__,
    bool: bool,
    int: int.__int__,
    float: float.__float__,
    datetime: lambda value: datetime.fromisoformat(datetime.isoformat(value)),
    timedelta: lambda value: timedelta.__add__(timedelta(0), value),
}
