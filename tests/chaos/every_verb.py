"""Clients that use every verb at random, so that everything happens while turns run.

Sessions are moved, forked, paused, archived, purged and deleted, users erased and held, batches and
schedules made and taken back. Of such a crowd less can be told than of plain traffic: whether
everything ends that can, all rows are sound, no reply stands twice, no tool did twice what it must
not, no money is left reserved, the audit log is whole and each batch has a result for every line.
"""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from celery import Celery
from kombu.exceptions import OperationalError

from tests import world
from tests.chaos.books import Books
from tests.chaos.system import ROOT, System
from tests.chaos.traffic import Traffic
from turnmill import Client, TurnmillError
from turnmill.domain.errors import StoreError
from turnmill.sync.turns import Turn

_TOOLS = ("look", "book", "strike")
_USERS = 30
_LINES = 12
_LATELY = 300
_FAULTS = ("rate_limited", "overloaded", "unreachable", "cut", "bad_json", "running", "rejected")
_JOBS = ("archive_idle_sessions", "purge", "roll_up_usage", "look_for_alerts", "self_check")
_SECOND = timedelta(seconds=1)


class EveryVerb(Traffic):
    """A few client threads on one system, which do whatever a client can."""

    title = "every verb"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sessions: list[str] = []
        self.turns: list[UUID] = []
        self.batches: list[UUID] = []

    @classmethod
    def variables(cls, system: System) -> dict[str, str]:
        prices = system.folder / "prices.json"
        prices.write_text(json.dumps({"*": {"input": 1, "output": 1, "call": 0.01}}))
        return {
            "PYTHONPATH": str(ROOT),
            "TURNMILL_TOOLS": "tests.worldly_tools",
            "TURNMILL_TAGS": "team",
            "TURNMILL_PRICES": str(prices),
            "TURNMILL_KEEP_ARCHIVED_DAYS": "0.0001",  # nine seconds
            world.VARIABLE: str(system.folder / "world"),
        }

    def begin(self, client: Client) -> None:
        draw = random.Random(f"{self.seed}:sessions")
        self.sessions += [new_session(client, draw) for _ in range(60)]

    def act(self, client: Client, draw: random.Random, key: str) -> None:
        """Do one thing. A refusal is an answer; what the database itself does not take is none."""
        name = draw.choices(list(VERBS), [often for often, _ in VERBS.values()])[0]
        hand = Hand(self, client, draw, key, draw.randrange(len(self.sessions)))
        try:
            VERBS[name][1](hand)
        except TurnmillError as error:
            if error.code == StoreError.code:
                self.complain(f"{name}: {error}")
        except Exception as error:  # noqa: BLE001
            # A client raises its own errors, whatever it meets.
            self.complain(f"{name} raised {error!r}")
        else:
            with self._lock:
                self.done[name] += 1

    def let_end(self) -> None:
        """Take away all that turns wait for by somebody's wish."""
        with self.system.client() as client:
            for (session,) in self.system.rows(
                "SELECT id FROM turnmill.sessions WHERE status = 'paused'"
            ):
                client.sessions.resume(session)
            for one in client.budgets.list():
                client.budgets.remove(
                    session=one.session_id, user_id=one.user_id, tag=one.tag, period=one.period
                )
            for turn in client.turns.list(states=["unknown"], limit=500):
                client.turns.get(turn.id).release()

    def counted(self, books: Books) -> dict[str, int]:
        return {"two replies": sum(len(one.replies or ()) > 1 for one in books.turns)}

    def broken(self, books: Books) -> list[str]:
        struck = Counter(
            one["key"] for one in world.of(self.system.folder / "world") if one["done"] == "strike"
        )
        [(reserved,)] = self.system.rows(
            "SELECT count(*) FROM turnmill.charges WHERE reserved_usd > 0"
        )
        with self.system.client() as client:
            return [
                *(f"invariant: {one}" for one in books.violations),
                *(f"two replies: {one.id}" for one in books.turns if len(one.replies or ()) > 1),
                *(f"struck twice: {key}" for key, number in struck.items() if number > 1),
                *(f"audit: {one}" for one in client.audit.verify().broken),
                *([f"{reserved} reservations are left"] if reserved else []),
                *(one for batch in self.batches if (one := _unsound(client, batch))),
            ]


def _unsound(client: Client, batch_id: UUID) -> str:
    """Return what is wrong with a batch that has ended, or nothing."""
    batch = client.batches.get(batch_id)
    told, gone = len(list(batch.iter_results())), batch.counts.gone
    if batch.counts.is_done and told + gone == _LINES:
        return ""
    return f"batch {batch_id}: {told} results, {gone} gone, {batch.counts}"


@dataclass
class Hand:
    """One thing that a client is about to do."""

    traffic: EveryVerb
    client: Client
    draw: random.Random
    key: str
    place: int  #: of the session among those that stand

    @property
    def session(self) -> str:
        return self.traffic.sessions[self.place]

    @property
    def user(self) -> str:
        return f"user-{self.draw.randrange(_USERS)}"

    def turn(self) -> Turn:
        """Return one that was sent lately."""
        return self.client.turns.get(self.draw.choice(self.traffic.turns[-_LATELY:]))

    def options(self, **script: Any) -> dict[str, Any]:
        faults = [self.draw.choice(_FAULTS)] if self.draw.random() < 0.3 else []
        latency = self.draw.choice([0, 0.05, 0.2, 0.5])
        return {
            "idempotency_key": self.key,
            "metadata": {
                "mock": {"faults": faults, "latency": latency, **script},
                "team": self.draw.choice("ab"),
            },
            "lane": self.draw.choice(["interactive", "bulk"]),
        }

    def send(self, options: dict[str, Any], **more: Any) -> None:
        turn = self.client.send(self.session, f"hello {self.key}", **options, **more)
        self.traffic.turns.append(turn.id)

    def replace(self) -> None:
        """Let a new session take the place of this one."""
        self.traffic.sessions[self.place] = new_session(self.client, self.draw)


def new_session(client: Client, draw: random.Random) -> str:
    """Return one of somebody's, with a will of its own."""
    made = client.sessions.create(
        user_id=f"user-{draw.randrange(_USERS)}",
        tools=list(_TOOLS),
        on_failure=draw.choice(["continue", "pause"]),
        on_ambiguous=draw.choice(["retry", "hold"]),
        fallback=draw.choice([None, ["mock/another"]]),
        idle_ttl=draw.choice([None, 2 * _SECOND]),
    )
    return str(made.id)


def _stream(hand: Hand) -> None:
    hand.send(hand.options(tokens_per_second=40), stream=True)


def _use_tools(hand: Hand) -> None:
    rounds = hand.draw.choice([1, 2])
    hand.send(hand.options(calls=[[name, {}] for name in _TOOLS], rounds=rounds))


def _send_later(hand: Hand) -> None:
    hand.send(hand.options(), deliver_at=datetime.now(UTC) + hand.draw.uniform(0, 4) * _SECOND)


def _send_in_vain(hand: Hand) -> None:
    hand.send(hand.options(), expires=datetime.now(UTC) + hand.draw.uniform(0, 2) * _SECOND)


def _send_many(hand: Hand) -> None:
    chosen = hand.draw.sample(hand.traffic.sessions, 5)
    sent = hand.client.send_many([(one, "to many") for one in chosen], **hand.options())
    hand.traffic.turns += [one.id for one in sent]


def _cancel(hand: Hand) -> None:
    hand.turn().cancel(keep_partial=hand.draw.random() < 0.5)


def _retry(hand: Hand) -> None:
    failed = hand.client.turns.list(states=["failed"], limit=20)
    if failed:
        again = hand.client.turns.get(hand.draw.choice(failed).id).retry()
        hand.traffic.turns.append(again.id)


def _release_turns(hand: Hand) -> None:
    for one in hand.client.turns.list(states=["unknown"], limit=5):
        hand.client.turns.get(one.id).release()


def _resume(hand: Hand) -> None:
    for one in hand.client.sessions.list(status="paused", limit=10):
        hand.client.sessions.resume(one)


def _archive(hand: Hand) -> None:
    hand.client.sessions.archive(hand.session, running=hand.draw.choice(["refuse", "cancel"]))


def _restore(hand: Hand) -> None:
    for one in hand.client.sessions.list(status="archived", limit=5):
        hand.client.sessions.restore(one)


def _move(hand: Hand) -> None:
    model, running = hand.draw.choice(["mock", "other"]), hand.draw.choice(["refuse", "cancel"])
    hand.client.sessions.move(hand.session, model=model, running=running)


def _fork(hand: Hand) -> None:
    hand.traffic.sessions[hand.place] = str(hand.client.sessions.fork(hand.session).id)


def _delete(hand: Hand) -> None:
    hand.client.sessions.delete(hand.session, running=hand.draw.choice(["wait", "cancel"]))
    hand.replace()


def _erase(hand: Hand) -> None:
    user = hand.user
    hand.client.users.erase(user, grace=timedelta(0))
    hand.client.users.admit(user)


def _hold(hand: Hand) -> None:
    hand.client.users.hold(hand.user, reason="a case")


def _end_holds(hand: Hand) -> None:
    for one in hand.client.users.holds():
        hand.client.users.release(one.user_id)


def _submit(hand: Hand) -> None:
    lines = [{"custom_id": f"{number}", "text": f"line {number}"} for number in range(_LINES)]
    path = hand.traffic.system.folder / f"{hand.key}.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    batch = hand.client.batches.create(path, provider="mock", model="mock", user_id=hand.user)
    hand.traffic.batches.append(batch.id)


def _cancel_batch(hand: Hand) -> None:
    if hand.traffic.batches:
        hand.client.batches.get(hand.draw.choice(hand.traffic.batches)).cancel()


def _retry_batch(hand: Hand) -> None:
    if hand.traffic.batches:
        hand.client.batches.get(hand.draw.choice(hand.traffic.batches)).retry_failed()


def _schedule(hand: Hand) -> None:
    soon = datetime.now(UTC) + hand.draw.uniform(0.5, 5) * _SECOND
    hand.client.schedules.create(hand.session, "as planned", at=soon)


def _end_schedules(hand: Hand) -> None:
    for one in hand.client.schedules.list(limit=5):
        hand.client.schedules.delete(one)


def _set_budget(hand: Hand) -> None:
    whose: dict[str, Any] = hand.draw.choice(
        [
            {"user_id": hand.user},
            {"tag": ("team", hand.draw.choice("ab"))},
            {"session": hand.session},
        ]
    )
    if hand.draw.random() < 0.4:
        hand.client.budgets.remove(**whose)
        return
    limit, period = hand.draw.choice(["0.05", "1", "50"]), hand.draw.choice(["day", "total"])
    exceeded = hand.draw.choice(["fail", "wait"])
    hand.client.budgets.set(limit_usd=limit, period=period, on_exceeded=exceeded, **whose)


def _run_a_job(hand: Hand) -> None:
    app = Celery(broker=hand.traffic.system.broker_url)
    app.conf.broker_transport_options = {"socket_timeout": 2, "socket_connect_timeout": 2}
    try:
        name = f"turnmill.{hand.draw.choice(_JOBS)}"
        app.send_task(name, queue="turnmill.upkeep", retry=False)
    except OperationalError:
        return  # the broker is hurt: a beat would say so, too
    finally:
        app.close()


def _rate(hand: Hand) -> None:
    hand.turn().feedback(hand.draw.random())


def _look(hand: Hand) -> None:
    turn = hand.turn()
    turn.why()
    turn.messages()
    list(hand.client.sessions.history(hand.session))


def _export(hand: Hand) -> None:
    hand.client.users.export(hand.user, hand.traffic.system.folder / f"{hand.key}.zip")


#: By name: how often, and what is done.
VERBS: dict[str, tuple[float, Callable[[Hand], object]]] = {
    "send": (40, lambda hand: hand.send(hand.options())),
    "stream": (8, _stream),
    "use tools": (12, _use_tools),
    "send later": (5, _send_later),
    "send what expires": (4, _send_in_vain),
    "send many": (5, _send_many),
    "cancel": (8, _cancel),
    "retry": (5, _retry),
    "release": (3, _release_turns),
    "pause": (2, lambda hand: hand.client.sessions.pause(hand.session)),
    "resume": (3, _resume),
    "archive": (3, _archive),
    "restore": (3, _restore),
    "move": (3, _move),
    "fork": (3, _fork),
    "delete": (2, _delete),
    "start anew": (4, lambda hand: hand.replace()),
    "erase": (1, _erase),
    "hold": (0.3, _hold),
    "end holds": (1, _end_holds),
    "submit": (2, _submit),
    "cancel a batch": (0.5, _cancel_batch),
    "retry a batch": (0.5, _retry_batch),
    "schedule": (1.5, _schedule),
    "end schedules": (0.5, _end_schedules),
    "budget": (2, _set_budget),
    "rate": (2, _rate),
    "look": (5, _look),
    "run a job": (4, _run_a_job),
    "export": (0.5, _export),
}
