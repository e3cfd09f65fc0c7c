"""Odd values for each argument of the verbs that have no table of their own: see `odd_inputs`."""

from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from importlib import import_module
from inspect import isfunction, isgenerator, signature
from operator import attrgetter
from typing import Any

from tests.integration.odd_inputs import Place, Verb
from turnmill import Client, Turn
from turnmill.sync.nouns import Nouns

#: Not tried here: transactions, waits (some values are long ones), and what is elsewhere.
_OURS = frozenset({"self", "connection", "timeout", "messages"})

#: What stands beside the argument that is tried. `$session`, `$turn` and `$file` are the place's.
_BESIDE: Mapping[str, Mapping[str, Any]] = {
    "accounts.open": {"provider": "mock"},
    "analytics.report": {},
    "analytics.session": {"session": "$session"},
    "analytics.user": {"user_id": "eve"},
    "attachments.list": {},
    "audit.list": {},
    "audit.verify": {},
    "batches.estimate": {"path": "$file"},
    "batches.list": {},
    "budgets.get": {"user_id": "eve"},
    "budgets.list": {},
    "budgets.remove": {"user_id": "eve"},
    "budgets.set": {"limit_usd": 1000, "user_id": "eve"},
    "count_tokens": {"session": "$session", "text": "x"},
    "events.add_reader": {},
    "events.follow": {"timeout": 0},
    "events.park_reader": {"reader": "nobody", "parked": True},
    "events.passed": {"reader": "nobody", "event": 1},
    "events.read": {},
    "events.remove_reader": {"reader": "nobody"},
    "experiments.arm_of": {"session": "$session"},
    "experiments.get": {"experiment": "none"},
    "experiments.list": {},
    "experiments.result": {"experiment": "none"},
    "experiments.start": {"template": "none"},
    "experiments.stop": {"experiment": "none"},
    "lanes.pause": {"lane": "bulk"},
    "limits.get": {"provider": "mock", "model": "m"},
    "limits.remove": {"provider": "mock", "model": "m"},
    "limits.set": {"provider": "mock", "model": "m", "requests_per_minute": 1000},
    "schedules.create": {"session": "$session", "text": "x", "cron": "@yearly", "key": "others"},
    "schedules.delete": {"schedule": "$turn"},
    "schedules.pause": {"schedule": "$turn"},
    "schedules.resume": {"schedule": "$turn"},
    "schedules.list": {},
    "schedules.update": {"schedule": "$turn"},
    "send": {"session": "$session", "text": "x"},
    "send_many": {"messages": [("nobody", "x")]},
    "sessions.compactions": {"session": "$session"},
    "sessions.content_kept": {"user_id": "eve"},
    "sessions.create": {"user_id": "eve"},
    "sessions.delete": {"session": "nobody"},
    "sessions.fork": {"session": "$session"},
    "sessions.kept": {"session": "$session"},
    "sessions.list": {},
    "sessions.move": {"session": "$session", "running": "cancel"},
    "sessions.participants.remove": {"session": "$session", "name": "nobody"},
    "sessions.pause": {"session": "$session"},
    "sessions.resume": {"session": "nobody"},
    "sessions.update": {"session": "$session"},
    "templates.list": {},
    "templates.put": {"name": "others"},
    "templates.remove": {"template": "none"},
    "templates.sessions": {"template": "others"},
    "templates.sync": {"folder": "/nowhere"},
    "templates.uses": {"template": "others"},
    "templates.versions": {"template": "others"},
    "trials.cancel": {"trial": "none"},
    "trials.estimate": {"model": "mock", "provider": "mock"},
    "trials.get": {"trial": "none"},
    "trials.list": {},
    "trials.results": {"trial": "none"},
    # Of no template that there is: what one begins goes on behind our back.
    "trials.start": {"model": "mock", "provider": "mock", "template": "none"},
    "trials.summary": {"trial": "none"},
    "trials.wait": {"trial": "none", "timeout": 0},
    "turns.list": {},
    "turns.why": {"of": "$turn"},
    "users.admit": {"user_id": "nobody"},
    "users.erase": {"user_id": "nobody"},
    "users.erasures": {},
    "users.export": {"user_id": "nobody", "path": "/dev/null"},
    "users.holds": {},
    "webhooks.deliveries": {"webhook": "$turn"},
    "webhooks.replay": {"webhook": "$turn"},
    "webhooks.rotate": {"webhook": "$turn"},
    "webhooks.update": {"webhook": "$turn"},
}
_OF_TURN: Mapping[str, Mapping[str, Any]] = {
    "approve": {"call_id": "call_1"},
    "cancel": {},
    "reject": {"call_id": "call_1", "why": "x"},
    "stream": {"timeout": 0},
    "submit_tool_outputs": {},
}

#: Verbs whose arguments stand in other tables.
ELSEWHERE = frozenset(
    {
        *("attachments.delete", "attachments.get", "attachments.open", "attachments.put"),
        *("attachments.usage", "batches.create", "batches.get", "analytics.alerts"),
        *("analytics.behaviours", "analytics.feedback", "analytics.lines"),
        *("analytics.overview", "analytics.reconcile", "analytics.reprice"),
        *("analytics.suggest", "lanes.resume", "templates.diff", "templates.get"),
        *("templates.roll_back", "schedules.get", "users.erasure", "users.hold"),
        *("users.release", "users.replay_erasures", "users.verify_erasure", "users.withdraw"),
        *("webhooks.create", "webhooks.delete", "webhooks.get", "webhooks.release"),
        *("sessions.archive", "sessions.deletion", "sessions.get", "sessions.history"),
        *("sessions.keep_content", "sessions.restore", "sessions.participants.add"),
        *("sessions.participants.list", "sessions.participants.mark_read", "turns.feedback"),
        *("turns.get", "turns.waiting_calls"),
    }
)


def not_tried() -> list[str]:
    """Return the verbs of nouns that take arguments, and stand in no table."""
    nouns = ["sessions", "turns", "sessions.participants"]
    nouns += [name for name, one in vars(Nouns).items() if isinstance(one, cached_property)]
    return [
        path
        for noun in nouns
        for name, verb in vars(_kind(noun)).items()
        if isfunction(verb) and not name.startswith("_") and len(signature(verb).parameters) > 1
        if (path := f"{noun}.{name}") not in ELSEWHERE | _BESIDE.keys()
    ]


def _kind(noun: str) -> type:
    name = noun.rpartition(".")[2]
    kind: type = getattr(import_module(f"turnmill.sync.{name}"), name.capitalize())
    return kind


def _standing(at: Place, beside: Mapping[str, Any]) -> dict[str, Any]:
    places = {"$session": at.session, "$turn": at.final, "$file": at.file}
    return {
        name: places.get(one, one) if isinstance(one, str) else one for name, one in beside.items()
    }


def _tried(path: str, beside: Mapping[str, Any], name: str, at: Place, value: Any) -> Any:
    made = attrgetter(path)(at.client)(**{**_standing(at, beside), name: value})
    return list(made) if isgenerator(made) else made


def _of_turn(verb: str, beside: Mapping[str, Any], name: str, at: Place, value: Any) -> Any:
    made = getattr(at.client.turns.get(at.final), verb)(**{**beside, name: value})
    return list(made) if isgenerator(made) else made


def _arguments(path: str) -> Iterator[str]:
    noun, _, verb = path.rpartition(".")
    kind = _kind(noun) if noun else Client
    return (name for name in signature(getattr(kind, verb)).parameters if name not in _OURS)


OF_OTHERS: Mapping[str, Verb] = {
    **{
        f"{path}({name}) beside": Verb(partial(_tried, path, beside, name))
        for path, beside in _BESIDE.items()
        for name in _arguments(path)
    },
    **{
        f"turn.{verb}({name})": Verb(partial(_of_turn, verb, beside, name))
        for verb, beside in _OF_TURN.items()
        for name in signature(getattr(Turn, verb)).parameters
        if name not in _OURS
    },
}
