"""The chapters of the demo: one capability after the other, each of them really used."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen
from uuid import uuid4

from turnmill.domain.content import Text
from turnmill.domain.errors import TurnCancelled, TurnFailed
from turnmill.domain.states import TurnState
from turnmill.domain.streaming import StreamKind
from turnmill.show.why_view import in_a_line
from turnmill.show.wording import duration
from turnmill.sync.client import Client
from turnmill_worker.providers.registry import ProviderRegistry
from turnmill_worker.stack import demo_duties, logfile
from turnmill_worker.stack.home import Home
from turnmill_worker.stack.process import wait_until
from turnmill_worker.stack.throwaway import LAYER, System

#: Everything in a chapter is answered by the mock, and soon.
_SOON = timedelta(seconds=60)
_USER = "margaret"
#: Lines of a worker's log that are looked through for those of the layer.
_LINES = 200


@dataclass(frozen=True, slots=True)
class Chapter:
    """A capability, and what was seen of it."""

    title: str
    facts: Sequence[str] = field(repr=False)


Tell = Callable[[Client, System], Iterator[str]]


def tell_all(client: Client, system: System) -> Iterator[Chapter]:
    """Go through what stands, chapter by chapter; raises what was not as it should be."""
    for title, tell in _CHAPTERS:
        yield Chapter(title, list(tell(client, system)))


def _sessions(client: Client, _: System) -> Iterator[str]:
    first = client.sessions.create(user_id=_USER, key=f"{_USER}/{uuid4()}")
    again = client.sessions.create(user_id=_USER, key=first.key)
    yield f"the same key leads to the same session: {first.id == again.id}"
    turns = [client.send(first, f"Question {n}") for n in (1, 2, 3)]
    for turn in turns:
        turn.result(timeout=_SOON)
    ends = [turn.refresh().record.finished_at for turn in turns]
    in_order = all(one is not None and one < other for one, other in pairwise(ends) if other)
    yield f"three messages sent at once, answered one after the other, in their order: {in_order}"
    client.sessions.pause(first)
    waits = client.send(first, "And while you are paused?")
    yield f"paused, a turn waits: {in_a_line(waits.why()).partition(':')[0]}"
    client.sessions.resume(first)
    waits.result(timeout=_SOON)
    yield "resumed, it was answered"


def _messages(client: Client, _: System) -> Iterator[str]:
    session = client.sessions.create(user_id=_USER)
    key = str(uuid4())
    turns = {client.send(session, "Only once, please", idempotency_key=key).id for _ in range(3)}
    yield f"sent three times with one idempotency key: {len(turns)} turn"
    parts = client.send(session, [Text("In parts, "), Text("too.")])
    parts.result(timeout=_SOON)
    yield f"a message of two parts: {', '.join(one.kind for one in parts.messages()[0].parts)}"
    later = client.send(session, "Later", deliver_at=datetime.now(UTC) + timedelta(seconds=1))
    yield f"sent for later: {in_a_line(later.why())}"
    later.result(timeout=_SOON)
    many = client.send_many([(client.sessions.create(user_id=_USER), "Many") for _ in range(50)])
    for turn in many:
        turn.result(timeout=_SOON)
    yield f"{len(many)} messages in one transaction, all answered in the bulk lane"


def _storage(client: Client, _: System) -> Iterator[str]:
    session = client.sessions.create(user_id=_USER)
    turn = client.send(session, "What is kept?")
    turn.result(timeout=_SOON)
    said = list(client.sessions.history(session))
    yield f"Postgres has both messages of the turn: {', '.join(one.role for one in said)}"
    (attempt,) = turn.attempts()
    yield f"and its attempt: {attempt.outcome}, by {attempt.worker}, in {attempt.provider_ms} ms"
    kinds = [event.kind for event in client.events.read(session=session)]
    yield f"and what happened, for whoever reads on: {', '.join(kinds)}"


def _providers(client: Client, _: System) -> Iterator[str]:
    registry = ProviderRegistry()
    for name in registry.names():
        missing = registry.missing_key(name)
        yield f"{name}: {'can be asked' if missing is None else f'{missing} is not set here'}"
    session = client.sessions.create(user_id=_USER)
    turn = client.send(session, "Hello?", metadata={"mock": {"faults": ["rate_limited"]}})
    turn.result(timeout=_SOON)
    codes = [one.error_code or "answered" for one in turn.attempts()]
    yield f"a rate limit is waited for: {', '.join(codes)}"


def _lifecycle(client: Client, _: System) -> Iterator[str]:
    session = client.sessions.create(user_id=_USER)
    slow = client.send(session, "Take your time", metadata={"mock": {"latency": 600}})
    began = datetime.now(UTC)
    slow.cancel(wait=True)
    yield f"cancelled in the middle of its call, after {duration(datetime.now(UTC) - began)}"
    try:
        slow.result(timeout=_SOON)
    except TurnCancelled:
        yield "and its result says so"
    refused = client.send(
        session, "Once in vain", metadata={"mock": {"faults": ["overloaded"]}}, max_attempts=1
    )
    try:
        refused.result(timeout=_SOON)
    except TurnFailed as error:
        yield f"without a reply: {error.error_code}"
    client.sessions.archive(session)
    yield f"archived: {client.sessions.get(session).status}, its history stays"


def _middleware(client: Client, system: System) -> Iterator[str]:
    turn = client.send(client.sessions.create(user_id=_USER), "Who looks on?")
    turn.result(timeout=_SOON)
    lines = logfile.tail(Home(system.home).log("worker1"), lines=_LINES).splitlines()
    mine = [line for line in lines if str(turn.id) in line and "turnmill.calls" in line]
    yield f"a layer of this worker, {LAYER!r}, stood around the call:"
    yield from (line.partition("] ")[2] for line in mine[-1:])


def _streams(client: Client, _: System) -> Iterator[str]:
    session = client.sessions.create(user_id=_USER)
    slowly = {"mock": {"tokens_per_second": 20}}
    turn = client.send(session, "Tell it as you think of it", metadata=slowly, stream=True)
    deltas = [one.text for one in turn.stream(timeout=_SOON) if one.kind is StreamKind.DELTA]
    same = "".join(deltas) == turn.result(timeout=_SOON).text
    pieces = f"{len(deltas)} of them"
    yield f"watched while it came, piece by piece ({pieces}); together they are the reply: {same}"


def _tools(client: Client, _: System) -> Iterator[str]:
    weather = {
        "name": "weather",
        "description": "Tell the weather of today.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    session = client.sessions.create(user_id=_USER, tools=[weather])
    calls = {"mock": {"calls": [["weather", {"city": "Rome"}]]}}
    turn = client.send(session, "Do I need an umbrella in Rome?", metadata=calls)
    wait_until(lambda: turn.refresh().state is TurnState.WAITING, timeout=_SOON)
    (asked,) = turn.tool_calls()
    yield f"the model calls a tool of ours, {asked.tool}: the turn waits {in_a_line(turn.why())}"
    turn.submit_tool_outputs({asked.call_id: "sunny"})
    turn.result(timeout=_SOON)
    yield f"answered in {turn.refresh().record.step} steps of one turn"


def _flower(_: Client, system: System) -> Iterator[str]:
    told = _of_tab(system)
    ended = [f"{one['turns']} {one['state']} of {one['code']}" for one in told["ended"]["value"]]
    yield f"the tab shows turns without a reply: {', '.join(ended)}"
    for worker in told["workers"]["value"] or ():
        can_ask = ", ".join(worker["providers"])
        yield f"{worker['name']}, {worker['slots']} slots, version {worker['version']}: {can_ask}"
    yield f"what waits and why, what it costs, retry and cancel: {urlsplit(system.tab_url).path}"


def _of_tab(system: System) -> dict[str, Any]:
    """Return what Flower's tab says, as programs read it."""
    parts = urlsplit(f"{system.tab_url}/api/overview")
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
    request = Request(
        f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}",
        headers={"Authorization": f"Basic {b64encode(login).decode()}"},
    )
    with urlopen(request, timeout=_SOON.total_seconds()) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


_CHAPTERS: Sequence[tuple[str, Tell]] = (
    ("Sessions", _sessions),
    ("Messages", _messages),
    ("Storage", _storage),
    ("Providers", _providers),
    ("Lifecycle", _lifecycle),
    ("Middleware", _middleware),
    ("Streams", _streams),
    ("Tools", _tools),
    ("Money", demo_duties.money),
    ("Batches", demo_duties.batches),
    ("Figures", demo_duties.figures),
    ("Privacy", demo_duties.privacy),
    ("Flower", _flower),
)
