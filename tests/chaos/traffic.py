"""Clients that send without end, repeat their keys, and remember every promise they were given."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

from tests.chaos.books import Books
from tests.chaos.system import System
from turnmill import Client
from turnmill.domain.errors import IdempotencyConflict, StoreError
from turnmill.sync.turns import Turn

#: What the provider does to a turn, by how often; a script has one entry an attempt.
SCRIPTS: dict[str, tuple[int, list[str]]] = {
    "none": (80, []),
    "rate limited": (3, ["rate_limited"]),
    "overloaded": (3, ["overloaded", "overloaded"]),
    "unreachable": (3, ["unreachable"]),
    "cut stream": (3, ["cut"]),
    "bad JSON": (3, ["bad_json"]),
    "dropped": (2, ["maybe_sent", "maybe_sent"]),
    "hang": (2, ["hang"]),
    "background": (2, ["running"]),
    "rejected": (1, ["rejected"]),
}
_SESSIONS = 60
_PATIENCE_SECONDS = 0.1


@dataclass
class Traffic:
    """A few client threads on one system."""

    title: ClassVar[str] = "plain traffic"

    system: System
    seed: str
    clients: int = 4
    pause: float = 0.15  #: seconds between two messages of a client, at the most
    accepted: dict[UUID, str] = field(default_factory=dict)  #: turn and key
    done: Counter[str] = field(default_factory=Counter)  #: what was asked for, by kind
    repeats: int = 0
    complaints: list[str] = field(default_factory=list)
    slowest_send: float = 0.0

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    @classmethod
    def variables(cls, system: System) -> dict[str, str]:
        """Return what workers need besides, to do what is asked of them."""
        return {}

    def begin(self, client: Client) -> None:
        """Make the sessions that are sent to."""
        self._sessions = [
            str(client.sessions.create(user_id=f"user-{number}").id) for number in range(_SESSIONS)
        ]

    def start(self) -> None:
        with self.system.client() as client:
            self.begin(client)
        for number in range(self.clients):
            thread = threading.Thread(target=self._run, args=(number,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Let the clients end what they have begun."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=60.0)

    def let_end(self) -> None:
        """Take away what turns wait for by the clients' own wish."""

    def broken(self, books: Books) -> list[str]:
        """Return every promise that was broken, in words."""
        return books.complaints()

    def counted(self, books: Books) -> dict[str, int]:
        """Return how often each kind of promise was broken."""
        return {
            "doubled": len(books.doubled()),
            "out of order": len(list(books.out_of_order())),
            "overlapping calls": len(list(books.overlaps())),
            "calls after the end": len(list(books.called_after_final())),
        }

    def complain(self, complaint: str) -> None:
        """Note what a client was done wrong. From any thread."""
        with self._lock:
            self.complaints.append(complaint)

    def _run(self, number: int) -> None:
        draw = random.Random(f"{self.seed}:client:{number}")
        with self.system.client() as client:
            for count in range(1_000_000):
                if self._stopped.wait(draw.uniform(0, self.pause)):
                    return
                self.act(client, draw, f"{number}-{count}")

    def act(self, client: Client, draw: random.Random, key: str) -> None:
        """Do one thing, under this key."""
        self._send_one(client, draw, draw.choice(self._sessions), key=key)

    def _send_one(self, client: Client, draw: random.Random, session: str, *, key: str) -> None:
        kinds = list(SCRIPTS)
        kind = draw.choices(kinds, [SCRIPTS[one][0] for one in kinds])[0]
        script = {"faults": SCRIPTS[kind][1], "latency": draw.choice([0, 0.05, 0.2, 0.5, 1.0])}
        options = {
            "idempotency_key": key,
            "metadata": {"mock": script},
            "lane": draw.choice(["interactive", "interactive", "bulk"]),
        }
        turn = self._insist(client, session, "one", options)
        if turn is None:
            return
        with self._lock:
            self.accepted[turn.id] = key
            self.done[f"provider: {kind}"] += kind != "none"
        if draw.random() < 0.2:
            self._repeat(client, session, turn, options)
        if draw.random() < 0.02:
            self._cancel(turn)

    def _insist(
        self, client: Client, session: str, text: str, options: dict[str, Any]
    ) -> Turn | None:
        """Send until the store answers, as a client does that knows its key."""
        while True:
            began = time.monotonic()
            try:
                turn: Turn = client.send(session, text, **options)
            except StoreError:
                if self._stopped.wait(_PATIENCE_SECONDS):
                    return None  # nothing was promised
                continue
            self.slowest_send = max(self.slowest_send, time.monotonic() - began)
            return turn

    def _repeat(self, client: Client, session: str, turn: Turn, options: dict[str, Any]) -> None:
        again = self._insist(client, session, "one", options)
        if again is None:
            return
        with self._lock:
            self.repeats += 1
            if again.id != turn.id or again.created:
                self.complaints.append(f"the key of {turn.id} made {again.id}")
        try:
            client.send(session, "another", **options)
        except (IdempotencyConflict, StoreError):
            return
        self.complaints.append(f"the key of {turn.id} took other content")

    def _cancel(self, turn: Turn) -> None:
        try:
            turn.cancel()
        except StoreError:
            return
