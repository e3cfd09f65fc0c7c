"""A whole system as a state machine: turns with tools, whatever happens to whom in the middle.

The store, what workers run, both providers and their bodies are the real ones. Vendors are
stand-ins that refuse what the vendors refuse, by rules that were written apart from what builds the
bodies. A process dies by doing nothing any more from a point on: no write, call or tool of its.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import update

from tests import rows, stepping, steps
from tests.doubles.modelled import Said
from tests.integration.bricking_stage import Died, Life, Stage
from turnmill.domain.errors import MoveRefused, TurnmillError
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, TurnState
from turnmill.store.nouns import sessions, tool_call_moves, tool_calls, turns
from turnmill.store.nouns.tool_calls import ToolCallRecord
from turnmill.store.schema.event_tables import metadata
from turnmill.store.schema.tables import sessions as session_rows
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.run import run_claim

ASKED = {
    "name": "ask_user",
    "description": "Ask.",
    "parameters": {"type": "object", "properties": {}},
    "expires": 3600,
}
TOOLS = ["look", "book", "strike", "breaks", "dawdles", {"name": "pays", "approval": True}, ASKED]
FORM = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FITS = Said(words='{"n": 1}')
#: How each line talks: vendor, model and settings.
TALKS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("openai", "gpt-5-mini", {}),
    ("openai", "gpt-5-mini", {"thread": "client"}),
    ("openai", "gpt-5-mini", {"api": "chat"}),
    ("anthropic", "claude-haiku-4-5", {}),
    (
        "anthropic",
        "claude-haiku-4-5",
        {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000},
    ),
    ("openai", "gpt-5-mini", {"background": True}),
    ("openai", "gpt-5-mini", {"thread": "conversation"}),
    (
        "openai",
        "gpt-5-mini",
        {"fallback": [{"provider": "anthropic", "model": "claude-haiku-4-5"}]},
    ),
    (
        "anthropic",
        "claude-haiku-4-5",
        {"fallback": [{"provider": "openai", "model": "gpt-5-mini"}]},
    ),
    ("openai", "gpt-5-mini", {"response_format": FORM}),
    ("anthropic", "claude-haiku-4-5", {"response_format": FORM}),
)
LINES = 2
FAULTS = (
    *("rate_limited", "overloaded", "server_error", "drop", "cut", "bad_json", "length"),
    *("locked", "context_full", "history_refused", "slow"),
)
_AT_OPENAI_ALONE = frozenset({"locked", "slow"})
_MOST_CLAIMS = 60
#: Work in the background of a vendor comes to its end when it was looked at so often.
_SEEN_OFTEN = 8

_calls = st.sampled_from(
    [
        ("look", "{}"),
        ("book", "{}"),
        ("strike", "{}"),
        ("breaks", "{}"),
        ("dawdles", "{}"),
        ("pays", "{}"),
        ("ask_user", "{}"),
        ("nothing_of_ours", "{}"),
        ("look", "{nonsense"),
        ("look", '{"unknown": 1}'),
        ("look", ""),
    ]
)
_words = st.sampled_from(["", "Let me see.", " \n", "é 🌞", FITS.words])
_answers = st.builds(Said, words=_words, thinks=st.booleans())
_rounds = st.builds(
    Said,
    words=_words,
    calls=st.lists(_calls, min_size=1, max_size=4).map(tuple),
    thinks=st.booleans(),
    one_id=st.sampled_from([False, False, False, True]),
)
_scripts = st.lists(_answers, max_size=1)
_scripts_of_tools = st.tuples(st.lists(_rounds, min_size=1, max_size=3), _scripts).map(
    lambda said: [*said[0], *said[1]]
)
_points = st.one_of(st.none(), st.integers(1, 50))
_faults = st.lists(st.sampled_from(FAULTS), max_size=2)
lines = st.integers(0, LINES - 1)


class NeverBricked(RuleBasedStateMachine):
    """A few sessions, and everything that may happen to them."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.store = stage.store
        self.lines: list[SessionId] = []
        self.scripts: dict[TurnId, list[Said]] = {}

    @initialize(talks=st.lists(st.integers(0, len(TALKS) - 1), min_size=LINES, max_size=LINES))
    def start(self, talks: list[int]) -> None:
        with self.store.begin() as conn:
            for table in reversed(metadata.sorted_tables):
                conn.execute(table.delete())
        self.stage.played["histories"] += 1
        self.stage.struck.clear()
        self.stage.model.answers.clear()
        self.stage.model.wrong.clear()
        for vendor in self.stage.vendors:
            vendor.window = 0
            vendor._script.clear()
        self.lines = [self._line(*TALKS[one], n=n) for n, one in enumerate(talks)]

    def _line(self, provider: str, model: str, settings: dict[str, Any], *, n: int) -> SessionId:
        return rows.start(
            self.store,
            provider=provider,
            model=model,
            settings={"tools": TOOLS, **settings},
            on_ambiguous=("reconcile", "retry")[n % 2],
            max_attempts=3,
        )

    # What happens.

    @rule(
        line=lines,
        script=_scripts,
        dies_at=_points,
        cancelled_at=_points,
        faults=_faults,
        stream=st.booleans(),
    )
    def a_turn(self, line: int, script: list[Said], *, stream: bool, **meanwhile: Any) -> None:
        self._say(line, script, stream=stream)
        self._meet(line, **meanwhile)

    @rule(
        line=lines,
        script=_scripts_of_tools,
        dies_at=_points,
        cancelled_at=_points,
        faults=_faults,
        stream=st.booleans(),
    )
    def a_turn_with_tools(
        self, line: int, script: list[Said], *, stream: bool, **meanwhile: Any
    ) -> None:
        self._say(line, script, stream=stream)
        self._meet(line, **meanwhile)

    @rule(line=lines, script=_scripts_of_tools)
    def a_worker_dies_again_and_again(self, line: int, script: list[Said]) -> None:
        self._say(line, script)
        for dies_at in (9, 15, 22):
            self._work(line, Life(dies_at))

    @rule(line=lines, dies_at=_points)
    def a_worker_comes(self, line: int, dies_at: int | None) -> None:
        self._work(line, Life(dies_at))

    @rule(line=lines, faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=3))
    def a_worker_meets_faults(self, line: int, faults: list[str]) -> None:
        self._work(line, Life(), faults=faults)

    @rule(line=lines)
    def somebody_cancels(self, line: int) -> None:
        if head := self._head(line):
            steps.cancel(self.store, head)

    @rule(line=lines, how=st.sampled_from(["answer", "fail", "agree", "refuse", "expire"]))
    def somebody_outside_acts(self, line: int, how: str) -> None:
        head = self._head(line)
        if head is None:
            return
        for call in self._waiting_calls(head):
            with suppress(TurnmillError), self.store.begin() as conn:
                self._act(conn, head, call.call_id, how)

    def _act(self, conn: Any, turn_id: TurnId, call_id: str, how: str) -> None:
        if how in ("answer", "fail"):
            given = tool_call_moves.Given("on Friday", is_error=how == "fail")
            tool_call_moves.submit(conn, turn_id, {call_id: given})
        elif how == "expire":
            stepping.set_receipt(self.store, turn_id, expires_at=stepping.ago())
        else:
            decision = tool_call_moves.Decision(agreed=how == "agree", why="no")
            tool_call_moves.decide(conn, turn_id, call_id, decision)

    @rule(line=lines)
    def a_failed_turn_is_retried(self, line: int) -> None:
        for turn_id in self._turns(line, TurnState.FAILED, TurnState.DEAD)[:1]:
            with suppress(MoveRefused):
                again = steps.retry(self.store, turn_id)
                self.scripts.setdefault(again.turn_id, self.scripts.get(turn_id, []))
                self._work(line, Life())

    @rule()
    def the_vendor_forgets_its_threads(self) -> None:
        self.stage.vendors[0].forget()

    @rule(line=lines, to=st.integers(0, len(TALKS) - 1))
    def a_line_moves_to_another_vendor(self, line: int, to: int) -> None:
        if self._head(line):
            return  # between turns
        provider, model, settings = TALKS[to]
        values = {"provider": provider, "model": model, "provider_ref": ""}
        values["settings"] = {"tools": TOOLS, **settings}  # type: ignore[assignment]
        with self.store.begin() as conn:
            conn.execute(
                update(session_rows).where(session_rows.c.id == self.lines[line]).values(**values)
            )

    @rule(
        line=lines,
        window=st.sampled_from([0, 900, 2_000]),
        kind=st.sampled_from(["error", "truncate", "summarise"]),
    )
    def the_window_changes(self, line: int, window: int, kind: str) -> None:
        for vendor in self.stage.vendors:
            vendor.window = window
        with self.store.begin() as conn:
            more = {"on_context_full": kind}
            sessions.change(conn, self.lines[line], {"more_settings": more})

    # What holds.

    @invariant()
    def no_vendor_was_sent_what_it_refuses(self) -> None:
        assert self.stage.model.wrong == []

    @invariant()
    def what_must_not_be_done_twice_was_not(self) -> None:
        assert max(self.stage.struck.values(), default=0) <= 1

    def teardown(self) -> None:
        """Whatever has happened: each session answers its next message."""
        for vendor in self.stage.vendors:
            vendor.window = 0
            vendor._script.clear()
        for line, session in enumerate(self.lines):
            self._finish(line)
            sent = steps.send(self.store, session, "still there?")
            self.scripts[sent.turn_id] = [FITS]
            self._work(line, Life())
            assert steps.state(self.store, sent.turn_id) is TurnState.SUCCEEDED
        if self.lines:
            steps.assert_sound(self.store, drained=True)
            self.no_vendor_was_sent_what_it_refuses()
            self.what_must_not_be_done_twice_was_not()

    def _finish(self, line: int) -> None:
        for _ in range(_MOST_CLAIMS):
            head = self._head(line)
            if head is None:
                return
            self._work(line, Life())
            if self._head(line) == head:
                self.somebody_outside_acts(line, "answer")
                self.somebody_outside_acts(line, "agree")
                if steps.state(self.store, head) is TurnState.UNKNOWN:
                    steps.cancel(self.store, head)  # nobody can say what became of it
        raise AssertionError("a turn never ends")

    # How it happens.

    def _say(self, line: int, script: list[Said], *, stream: bool = False) -> None:
        said = f"message {len(self.scripts)} " + "x" * 40
        sent = steps.send(self.store, self.lines[line], said, stream=stream)
        self.scripts[sent.turn_id] = script

    def _meet(self, line: int, *, dies_at: int | None, **meanwhile: Any) -> None:
        self._work(line, Life(dies_at), **meanwhile)

    def _work(
        self,
        line: int,
        life: Life,
        *,
        cancelled_at: int | None = None,
        faults: Sequence[str] = (),
    ) -> None:
        """Let a worker run what is due of the line, until it is done, waits, or dies."""
        for vendor in self.stage.vendors:
            vendor.meet(
                *(one for one in faults if vendor.name == "OpenAI" or one not in _AT_OPENAI_ALONE)
            )
        self.stage.do(self._worked(line, life, cancelled_at))
        for vendor in self.stage.vendors:
            vendor._script.clear()
        if life.is_dead:
            self.stage.played["deaths"] += 1
            for turn_id in self._turns(line, TurnState.RUNNING):
                steps.lose(self.store, turn_id)
            steps.assert_sound(self.store)

    async def _worked(self, line: int, life: Life, cancelled_at: int | None) -> None:
        in_hand = InHand()
        deps = self.stage.deps(life, in_hand)
        for _ in self._looks():
            head = self._head(line)
            if head is None:
                return
            if not self._waiting_calls(head):
                steps.due_now(self.store, head)
            claims = steps.take(self.store, head, lanes=list(Lane))
            if not claims:
                return
            if cancelled_at is not None:
                life.at[life.passed + cancelled_at] = lambda head=head: self._cancel(head, in_hand)  # type: ignore[misc]
                cancelled_at = None
            self.stage.model.answers = deque(self._left_of(head))
            try:
                await run_claim(claims[0], deps)
            except Died:
                return
            if steps.state(self.store, head) is TurnState.UNKNOWN:
                return
        raise AssertionError("a worker never ends with a turn")

    def _looks(self) -> Iterator[int]:
        """Count how often a worker looks; what a vendor does in the background ends meanwhile."""
        for n in range(_MOST_CLAIMS):
            if n % _SEEN_OFTEN == _SEEN_OFTEN - 1:
                self.stage.vendors[0].finish()
            yield n

    def _left_of(self, turn_id: TurnId) -> list[Said]:
        """Return what the model has not said yet: a step that stands is not asked for again."""
        made = steps.turn(self.store, turn_id).step - 1
        return self.scripts.get(turn_id, [])[made:]

    def _cancel(self, turn_id: TurnId, in_hand: InHand) -> None:
        steps.cancel(self.store, turn_id)
        in_hand.cancelled(in_hand.pairs())

    def _waiting_calls(self, turn_id: TurnId) -> list[ToolCallRecord]:
        with self.store.begin() as conn:
            return [one for one in tool_calls.calls_of(conn, turn_id) if one.waits_for]

    def _head(self, line: int) -> TurnId | None:
        return steps.line(self.store, self.lines[line]).head

    def _turns(self, line: int, *states: TurnState) -> list[TurnId]:
        with self.store.begin() as conn:
            found = turns.find(conn, session_id=self.lines[line], states=states, limit=1000)
        return [one.id for one in found]
