"""Clients that send without end, repeat their keys, and remember every promise they were given."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

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

    system: System
    seed: str
    clients: int = 4
    pause: float = 0.15  #: seconds between two messages of a client, at the most
    accepted: dict[UUID, str] = field(default_factory=dict)  #: turn and key
    provider_faults: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    complaints: list[str] = field(default_factory=list)
    slowest_send: float = 0.0

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def start(self) -> None:
        with self.system.client() as client:
            sessions = [
                str(client.sessions.create(user_id=f"user-{number}").id)
                for number in range(_SESSIONS)
            ]
        for number in range(self.clients):
            thread = threading.Thread(target=self._run, args=(number, sessions), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Let the clients end what they have begun."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=60.0)

    def _run(self, number: int, sessions: list[str]) -> None:
        draw = random.Random(f"{self.seed}:client:{number}")
        with self.system.client() as client:
            for count in range(1_000_000):
                if self._stopped.wait(draw.uniform(0, self.pause)):
                    return
                self._send_one(client, draw, draw.choice(sessions), key=f"{number}-{count}")

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
            self.provider_faults[kind] += kind != "none"
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
