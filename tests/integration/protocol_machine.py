"""The protocol as a state machine: everybody does anything, in any order, at any time."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import func, select, text, update

from tests import rows, steps
from turnmill.domain.content import Message
from turnmill.domain.errors import IdempotencyConflict
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import FINAL, MOVES, UNFINISHED, Lane, TurnState
from turnmill.store.database import Database
from turnmill.store.line import leases
from turnmill.store.line.accept_many import accept_many
from turnmill.store.line.due import purge_deleted
from turnmill.store.line.history import succeeded_history
from turnmill.store.nouns import sessions, turns
from turnmill.store.records import Claim, Fenced, Settled
from turnmill.store.schema.event_tables import metadata
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.schema.tables import turns as turn_rows

#: Each line is of another kind: what is done with what may have been sent, and after a failure.
KINDS: tuple[dict[str, Any], ...] = (
    {"on_ambiguous": "reconcile", "on_failure": "continue", "max_attempts": 2},
    {"on_ambiguous": "retry", "on_failure": "pause", "max_attempts": 3},
    {"on_ambiguous": "hold", "on_failure": "continue", "max_attempts": 1},
)
VERDICTS = sorted(MOVES[TurnState.RUNNING] - {TurnState.CANCELLED})
GIVEN_BACK = {
    "send": TurnState.QUEUED,
    "check": TurnState.UNKNOWN,
    "resume": TurnState.WAITING,
}
A_LEASE = 60

some = st.integers(min_value=0, max_value=1_000_000)
lines = st.integers(min_value=0, max_value=len(KINDS) - 1)
words = st.sampled_from(["same", "other"])
seconds = st.one_of(st.none(), st.integers(min_value=-5, max_value=40))


@dataclass(slots=True)
class Seen:
    """What the machine remembers of a turn."""

    line: SessionId
    text: str
    state: TurnState = TurnState.QUEUED
    finals: list[TurnState] = field(default_factory=list)


class Protocol(RuleBasedStateMachine):
    """One store, a few lines, and everybody who may touch them."""

    def __init__(self, store: Database) -> None:
        super().__init__()
        self.store = store
        self.lines: list[SessionId] = []
        self.seen: dict[TurnId, Seen] = {}
        self.keys: dict[tuple[SessionId, int], tuple[TurnId, str]] = {}
        self.held: list[Claim] = []

    @initialize()
    def start(self) -> None:
        with self.store.begin() as conn:
            for table in reversed(metadata.sorted_tables):
                conn.execute(table.delete())
        self.lines = [rows.start(self.store, **kind) for kind in KINDS]
        self.send_many(order=[*range(len(KINDS))] * 2)

    # What clients do.

    @rule(line=lines, lane=st.sampled_from(["interactive", "bulk"]), due=seconds, expires=seconds)
    def send(self, line: int, lane: str, due: int | None, expires: int | None) -> None:
        said = f"message {len(self.seen)}"
        if due is not None and expires is not None:
            expires = max(expires, due + 1)  # what could never run is not accepted
        sent = steps.send(
            self.store,
            self.lines[line],
            said,
            lane=lane,
            deliver_at=_moment(due),
            expires=_moment(expires),
        )
        self.seen[sent.turn_id] = Seen(self.lines[line], said)

    @rule(line=lines, key=st.integers(0, 1), words=st.lists(words, min_size=1, max_size=3))
    def send_with_key(self, line: int, key: int, words: list[str]) -> None:
        for word in words:
            self._send_with_key(line, key, word)

    def _send_with_key(self, line: int, key: int, word: str) -> None:
        session = self.lines[line]
        known = self.keys.get((session, key))
        try:
            sent = steps.send(self.store, session, word, idempotency_key=f"key {key}")
        except IdempotencyConflict:
            assert known is not None
            assert known[1] != word
            return
        assert sent.created == (known is None)
        assert known in (None, (sent.turn_id, word))
        self.keys[session, key] = (sent.turn_id, word)
        self.seen.setdefault(sent.turn_id, Seen(session, word))

    @rule(order=st.lists(lines, min_size=1, max_size=5))
    def send_many(self, order: list[int]) -> None:
        items = [(self.lines[line], rows.say(f"one of {len(order)}")) for line in order]
        with self.store.begin() as conn:
            accept_many(conn, items)
        self.seen |= {new.id: Seen(session, new.text) for session, new in items}

    @rule(which=some, states=st.sampled_from([UNFINISHED, frozenset({TurnState.RUNNING}), FINAL]))
    def cancel(self, which: int, states: frozenset[TurnState]) -> None:
        if turn_id := self._some_turn(which, states):
            state = steps.cancel(self.store, turn_id)
            assert state in FINAL | {TurnState.RUNNING}

    @rule(which=some)
    def retry(self, which: int) -> None:
        turn_id = self._some_turn(which, {TurnState.FAILED, TurnState.DEAD})
        if turn_id is None:
            return
        again = steps.retry(self.store, turn_id)
        old = self.seen[turn_id]
        if again.turn_id == turn_id:
            old.finals.clear()
        else:
            self.seen[again.turn_id] = Seen(old.line, old.text)

    @rule(line=lines, verb=st.sampled_from([sessions.pause, sessions.resume, sessions.resume]))
    def pause_or_resume(self, line: int, verb: Callable[..., object]) -> None:
        with self.store.begin() as conn:
            verb(conn, self.lines[line])
            sessions.head_of(conn, self.lines[line])

    @rule(line=lines)
    def delete(self, line: int) -> None:
        gone = self.lines[line]
        with self.store.begin() as conn:
            sessions.remove(conn, gone)
        self.lines[line] = rows.start(self.store, **KINDS[line])
        self.seen = {key: one for key, one in self.seen.items() if one.line != gone}

    # What workers do.

    @rule(which=some, leaves=st.booleans())
    def deliver(self, which: int, *, leaves: bool) -> None:
        if turn_id := self._some_turn(which, UNFINISHED):
            self._took(steps.take(self.store, turn_id))
        if leaves:
            for claim in self.held:
                assert steps.mark_sent(self.store, claim) == self._is_current(claim)

    @rule(lane=st.sampled_from(Lane), limit=st.integers(1, 4))
    def deliver_lane(self, lane: Lane, limit: int) -> None:
        self._took(steps.take_due(self.store, lane, limit=limit))

    @rule()
    def deliver_everything_twice(self) -> None:
        for _ in range(2):
            self._took(steps.take(self.store, *self.seen))

    @rule(state=st.sampled_from(VERDICTS))
    def zombies_write(self, state: TurnState) -> None:
        self.deliver_everything_twice()
        zombies = {claim.session_id: claim for claim in self.held}
        self.everybody_is_lost()
        self.deliver_everything_twice()
        self.beat()
        if zombies:
            self._settle(list(zombies.values()), state, 0)

    @rule(which=some, state=st.sampled_from(VERDICTS), delay=st.integers(0, 40))
    def settle(self, which: int, state: TurnState, delay: int) -> None:
        if self.held:
            self._settle([self.held[which % len(self.held)]], state, delay)

    @rule(state=st.sampled_from(VERDICTS))
    def settle_everything(self, state: TurnState) -> None:
        group = {claim.session_id: claim for claim in self.held}
        if group:
            self._settle(list(group.values()), state, 0)

    @rule()
    def beat(self) -> None:
        found = steps.beat(self.store, *self.held)
        current = {claim.turn_id for claim in self.held if self._is_current(claim)}
        assert found.extended == current
        assert found.gone == {claim.turn_id for claim in self.held} - current
        assert found.cancelled <= found.extended

    # What dispatchers, operators and time do.

    @rule(by=st.integers(0, 50), dies=st.booleans())
    def time_passes_and_a_dispatcher_looks(self, by: int, *, dies: bool) -> None:
        self._move_time(by)
        if dies:
            self._dispatcher_dies_half_way()
        else:
            self._dispatch()

    @rule()
    def everybody_is_lost(self) -> None:
        before = self._losses()
        self._move_time(A_LEASE)
        steps.look_for_lost(self.store)
        after = self._losses()
        assert all(after[turn_id] == lost + 1 for turn_id, lost in before.items())

    def _losses(self) -> dict[TurnId, int]:
        """Return how often each turn was lost that ran after the last step."""
        running = [key for key, one in self.seen.items() if one.state is TurnState.RUNNING]
        return {turn_id: steps.turn(self.store, turn_id).lost for turn_id in running}

    def _dispatch(self) -> None:
        steps.look_for_lost(self.store)
        steps.expire(self.store)
        with self.store.begin() as conn:
            purge_deleted(conn)

    def _dispatcher_dies_half_way(self) -> None:
        class Killed(Exception):
            pass

        try:
            with self.store.begin() as conn:
                leases.take_lost(conn, lease=timedelta(0))
                raise Killed
        except Killed:
            pass

    @rule(which=some)
    def release_held(self, which: int) -> None:
        if turn_id := self._some_turn(which, {TurnState.UNKNOWN}):
            with self.store.begin() as conn:
                turns.release_held(conn, turn_id)

    @rule(line=lines, policy=st.sampled_from(["reconcile", "retry", "hold"]))
    def change_policy(self, line: int, policy: str) -> None:
        with self.store.begin() as conn:
            sessions.change(conn, self.lines[line], {"on_ambiguous": policy})

    # What holds at every moment.

    @invariant()
    def the_store_is_sound(self) -> None:
        steps.assert_sound(self.store)

    @invariant()
    def nothing_is_lost_and_final_is_final(self) -> None:
        with self.store.begin() as conn:
            found = {one.id: one.state for one in turns.find(conn, limit=10_000)}
        assert set(found) == set(self.seen)
        for turn_id, one in self.seen.items():
            one.state = found[turn_id]
            if one.state in FINAL and one.state not in one.finals:
                one.finals.append(one.state)
            assert len(one.finals) <= 1
            assert not one.finals or one.state in FINAL

    def teardown(self) -> None:
        """Let time pass and everybody work: all that was accepted comes to an end."""
        for session in self.lines:
            with self.store.begin() as conn:
                sessions.change(conn, session, {"on_ambiguous": "reconcile"})
                sessions.resume(conn, session)
        for _ in range(10 * len(self.seen) + 10):
            self._work_for_a_while()
            if all(one.state in FINAL for one in self.seen.values()):
                break
        steps.assert_sound(self.store, drained=bool(self.lines))

    def _work_for_a_while(self) -> None:
        self._move_time(A_LEASE)
        self._dispatch()
        for session in self.lines:
            with self.store.begin() as conn:
                sessions.resume(conn, session)
        for lane in Lane:
            for claim in steps.take_due(self.store, lane, limit=10):
                self._check_history(claim)
                steps.end(self.store, claim)
        self.nothing_is_lost_and_final_is_final()

    def _some_turn(self, which: int, states: Collection[TurnState]) -> TurnId | None:
        fitting = [key for key, one in self.seen.items() if one.state in states]
        return fitting[which % len(fitting)] if fitting else None

    def _took(self, taken: list[Claim]) -> None:
        for claim in taken:
            assert self.seen[claim.turn_id].text == claim.text
            assert claim.attempt <= claim.max_attempts
            self._check_history(claim)
        self.held += taken

    def _check_history(self, claim: Claim) -> None:
        with self.store.begin() as conn:
            told = sessions.history(conn, claim.session_id)
        answered = [
            Message(one.role, one.parts) for one in told if one.state is TurnState.SUCCEEDED
        ]
        assert list(claim.history or ()) == answered
        with self.store.begin() as conn:
            assert succeeded_history(conn, claim.session_id) == answered

    def _is_current(self, claim: Claim) -> bool:
        columns = turn_rows.c
        query = turn_rows.select().where(
            columns.id == claim.turn_id,
            columns.state == TurnState.RUNNING,
            columns.lease_fence == claim.fence,
        )
        with self.store.begin() as conn:
            return conn.execute(query).first() is not None

    def _shall_end(self, claim: Claim) -> bool:
        """Tell whether its end was asked for. Asks the row: a deleted session's is not shown."""
        query = select(turn_rows.c.cancel_requested).where(turn_rows.c.id == claim.turn_id)
        with self.store.begin() as conn:
            return bool(conn.execute(query).scalar_one())

    def _settle(self, group: list[Claim], state: TurnState, delay: int) -> None:
        expected = [self._should_become(claim, _verdict(claim, state)) for claim in group]
        results = steps.end_all(
            self.store,
            *(
                steps.verdict(claim, _verdict(claim, state), delay=timedelta(seconds=delay))
                for claim in group
            ),
        )
        assert expected == [one.state if isinstance(one, Settled) else None for one in results]
        assert all(isinstance(one, Settled | Fenced) for one in results)

    def _should_become(self, claim: Claim, state: TurnState) -> TurnState | None:
        """Return what the verdict is to make of the turn; None: it comes from a zombie."""
        if not self._is_current(claim):
            return None
        if self._shall_end(claim):
            return TurnState.CANCELLED
        return GIVEN_BACK[claim.kind] if state is TurnState.QUEUED else state

    def _move_time(self, by: int) -> None:
        """Let `by` seconds pass, by moving all that is due later so much nearer."""
        moved = {
            turn_rows: ("lease_until", "available_at", "expires_at"),
            session_rows: ("head_due_at",),
        }
        with self.store.begin() as conn:
            for table, names in moved.items():
                values = {name: _earlier(self.store, table.c[name], by) for name in names}
                conn.execute(update(table).values(values))


def _verdict(claim: Claim, state: TurnState) -> TurnState:
    """Return what a worker would say: it does not retry what has no attempt left."""
    if state is TurnState.RETRYING and claim.attempt >= claim.max_attempts:
        return TurnState.DEAD
    return state


def _moment(after: int | None) -> datetime | None:
    return None if after is None else datetime.now(UTC) + timedelta(seconds=after)


def _earlier(store: Database, column: Any, by: int) -> Any:
    if store.is_postgres:
        return column - text(f"interval '{by} seconds'")
    return func.strftime("%Y-%m-%d %H:%M:%f", column, f"-{by} seconds")
