"""A turn for people and for programs: what happened to it, attempt by attempt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from turnmill.domain.content import Part
from turnmill.domain.states import FINAL, TurnState
from turnmill.domain.voice import SPEAK, TRANSCRIBE
from turnmill.show.as_typed import as_typed
from turnmill.show.call_listing import OF_TURN, answers, call_document, row_of_turn
from turnmill.show.tables import (
    fields,
    print_facts,
    print_json,
    print_table,
    stdout_console,
)
from turnmill.show.terminal import print_said
from turnmill.show.turn_listing import hint_of, summary
from turnmill.show.why_view import next_steps, obstacles, waiting
from turnmill.show.wording import (
    cached_share,
    clock_text,
    dollars,
    duration,
    moment_text,
    percent,
    relative,
    said,
    styled,
    times,
    tokens,
    total_tokens,
)

if TYPE_CHECKING:
    from rich.console import Console

    from turnmill.store.message_records import MessageRecord
    from turnmill.store.nouns.tool_calls import ToolCallRecord
    from turnmill.store.nouns.why import Why
    from turnmill.store.records import SessionRecord
    from turnmill.store.turn_records import AttemptRecord, TurnRecord
    from turnmill.sync.client import Client
    from turnmill.sync.turns import Turn

#: What an outcome that is not plain to everybody means.
MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "lost": "the worker vanished and its lease ran out; this spends no attempt",
        "released": "given back unsent: a worker stopped or could not ask; this spends no attempt",
        "not_now": "put off unsent, by a layer that waits for something; this spends no attempt",
        "abandoned": "cut by a worker that stopped; the provider is asked what became of it",
        "maybe_sent": "broken off half-way; the provider is asked what became of it",
        "absent": "the provider never executed it, so it is sent again",
        "unknowable": "the provider cannot tell what became of it, so it is sent again",
        "unanswered": "the provider did not say what became of it; it is asked again",
        "waiting": "the provider works on it in the background",
    }
)

#: Why a turn was asked without its vendor's thread.
WITHOUT_THREAD: Mapping[str, str] = MappingProxyType(
    {
        "lost": "the vendor has lost its thread",
        "locked": "its thread at the vendor was locked for long",
        "unavailable": "its thread at the vendor could not be used",
    }
)

#: What `~` before a number of tokens says.
ESTIMATED = "our estimate, of a call that was cut before anybody counted"

_ATTEMPT_COLUMNS = ("#", "began", "after", "took", "outcome", "reason", "worker", "kind", "tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnView:
    """A turn with all that is known of it."""

    turn: TurnRecord
    session: SessionRecord
    attempts: Sequence[AttemptRecord]
    messages: Sequence[MessageRecord] | None  #: None: nobody asked for content
    calls: Sequence[ToolCallRecord]  #: of tools, in the order in which the model made them
    why: Why = field(repr=False)  #: it does not run

    @property
    def reply(self) -> Sequence[Part] | None:
        """Return what the reply says, if there is one and it was asked for."""
        if self.turn.state is not TurnState.SUCCEEDED or not self.messages:
            return None
        return self.messages[-1].parts

    @property
    def partial(self) -> Sequence[Part] | None:
        """Return what had come of the reply of a cancelled turn, if that was kept and asked for."""
        return next((one.parts for one in self.messages or () if one.partial), None)

    @property
    def queued(self) -> timedelta | None:
        """Return how long it took until the first attempt began, or None before that."""
        if not self.attempts:
            return None
        return max(self.attempts[0].started_at - self.turn.created_at, timedelta(0))

    @property
    def provider(self) -> timedelta:
        """Return the time spent in calls to the provider."""
        return timedelta(milliseconds=sum(one.provider_ms or 0 for one in self.attempts))

    @property
    def total(self) -> timedelta | None:
        """Return the time from acceptance to the end, or None before that."""
        ended = self.turn.finished_at
        return None if ended is None else ended - self.turn.created_at


def look_at(client: Client, turn: Turn, *, text: bool) -> TurnView:
    """Read the turn as it stands now. Raises TurnNotFound."""
    record = turn.refresh().record
    session = client.sessions.get(record.session_id)
    calls = turn.tool_calls() if record.step > 1 else []
    return TurnView(
        turn=record,
        session=session,
        attempts=turn.attempts(),
        messages=turn.messages() if text else None,
        calls=calls,
        why=turn.why(),
    )


def as_document(view: TurnView) -> dict[str, Any]:
    """Return what programs read; content only where it was asked for."""
    turn, with_text = view.turn, view.messages is not None
    return {
        **summary(turn),
        **(_said(view.reply) if with_text else {}),
        **({} if view.partial is None else {"partial": _said(view.partial)}),
        "timing": {
            "queued_ms": _ms(view.queued),
            "provider_ms": _ms(view.provider),
            "total_ms": _ms(view.total),
        },
        **waiting(view.why),
        "attempts": [_attempt(one, with_text=with_text) for one in view.attempts],
        "tool_calls": [call_document(one, text=with_text) for one in view.calls],
    }


def print_turn(view: TurnView, *, as_json: bool) -> None:
    """Print it for programs, or for people."""
    if as_json:
        print_json(as_document(view))
    else:
        print_view(view)


def _said(reply: Sequence[Part] | None) -> dict[str, Any]:
    from turnmill.store.codec import exported

    return {"text": None} if reply is None else exported(reply)


def print_view(view: TurnView, *, console: Console | None = None) -> None:
    """Print it on one screen."""
    console = console or stdout_console()
    print_facts(_facts(view), console=console)
    console.print()
    print_attempts(view, console)
    for outcome in dict.fromkeys(one.outcome or "" for one in view.attempts):
        if outcome in MEANINGS:
            console.print(f"{outcome}: {MEANINGS[outcome]}", style="dim", markup=False)
    if hint := hint_of(view.turn):
        console.print(f"{view.turn.error_code}: {as_typed(hint)}", style="dim", markup=False)
    if any(one.estimated for one in view.attempts):
        console.print(f"~: {ESTIMATED}", style="dim", markup=False)
    print_calls(view, console)
    for message in view.messages or ():
        part = " (partial: the turn was cancelled)" if message.partial else ""
        console.print(f"\n{message.role}{part}:", style="bold")
        print_said(said(message.parts), to=console)
    for step in [*answers(view.turn, view.calls), *next_steps(view.turn)]:
        console.print(f"\nnext: {as_typed(step)}", style="dim", markup=False)


def print_attempts(view: TurnView, console: Console) -> None:
    """Print one line for each attempt: when, how long, what came of it and why."""
    if not view.attempts:
        console.print("no attempt so far", style="dim")
        return
    plain = all(one.kind == "send" and not one.polls for one in view.attempts)
    spare = ("worker", "tokens", "kind") if plain else ("worker", "tokens")
    rows = _attempt_rows(view)
    columns: tuple[str, ...] = _ATTEMPT_COLUMNS
    voiced = any(one.kind in (TRANSCRIBE, SPEAK) for one in view.attempts)
    if voiced or view.turn.answered_because is not None:
        columns = (*columns, "asked")
        asked = [f"{one.provider} {one.model}" for one in view.attempts]
        rows = ((*row, who) for row, who in zip(rows, asked, strict=True))
    print_table(columns, rows, right=("#", "after", "took"), spare=spare, console=console)


def print_calls(view: TurnView, console: Console) -> None:
    """Print one line for each call of a tool, if there are any."""
    if view.calls:
        console.print()
        rows = map(row_of_turn, view.calls)
        print_table(OF_TURN, rows, right=("step", "runs"), spare=("runs", "took"), console=console)


def _facts(view: TurnView) -> Iterator[tuple[str, Any]]:
    turn, session, now = view.turn, view.session, datetime.now(UTC)
    yield "turn", str(turn.id)
    yield "state", _state_line(turn)
    name = session.key or str(session.id)
    yield "session", f"{name}, turn {turn.seq} of it, user {session.user_id}"
    yield from _asked(view)
    yield "accepted", f"{moment_text(turn.created_at)}, {relative(turn.created_at, now=now)}"
    if turn.retry_of is not None:
        yield "again", f"a second run of turn {turn.retry_of}"
    yield from _without_thread(turn)
    if turn.finished_at is not None and view.total is not None:
        yield "ended", f"{moment_text(turn.finished_at)}, {duration(view.total)} later"
    if turn.state is TurnState.RUNNING and turn.lease_until is not None:
        until = f"{clock_text(turn.lease_until)}, {relative(turn.lease_until, now=now)}"
        yield "held", f"by {turn.lease_owner}, lease until {until}"
    if turn.cancel_requested and turn.state not in FINAL:
        yield "cancel", "asked for: the worker closes the call within about a second"
    for obstacle in obstacles(view.why):
        yield "waits", as_typed(obstacle)
    if view.queued is not None:
        yield "time", f"{duration(view.queued)} queued, {duration(view.provider)} at the provider"
    if total_tokens(turn.input_tokens, turn.output_tokens) != 0:
        about = "~" if any(one.estimated for one in view.attempts) else ""
        yield "used", _used(turn, about=about)


def _used(turn: TurnRecord, *, about: str) -> str:
    share = cached_share(turn.cached_tokens, turn.input_tokens)
    cached = f" ({percent(share)} cached)" if share else ""
    counts = f"{tokens(turn.input_tokens)} tokens in{cached}, {tokens(turn.output_tokens)} out"
    return f"{about}{counts}, {about}{_cost(turn)}"


def _without_thread(turn: TurnRecord) -> Iterator[tuple[str, Any]]:
    if turn.own_history is not None:
        yield "history", f"ours: {WITHOUT_THREAD.get(turn.own_history, turn.own_history)}"


def _state_line(turn: TurnRecord) -> Any:
    line = styled(turn.state)
    line.append(f", {turn.attempt} of {turn.max_attempts} attempts spent", style="default")
    if turn.lost:
        line.append(f", lost {times(turn.lost)}", style="default")
    if turn.step > 1:
        line.append(f", step {turn.step}", style="default")
    if turn.error_code:
        line.append(f": {turn.error_code}", style="default")
    return line


def _asked(view: TurnView) -> Iterator[tuple[str, str]]:
    turn, session = view.turn, view.session
    yield "asks", f"{session.provider} {session.model}, lane {turn.lane}"
    if turn.answered_because is not None:
        who = "others are asked" if turn.answered_by is None else f"answered by {turn.answered_by}"
        yield "fallback", f"{who}, because of {turn.answered_because}"


def _cost(turn: TurnRecord) -> str:
    return "no known price" if turn.cost_usd is None else dollars(turn.cost_usd)


def _attempt_rows(view: TurnView) -> Iterator[tuple[object, ...]]:
    before = view.turn.created_at
    for one in view.attempts:
        ended = one.ended_at
        yield (
            one.n,
            clock_text(one.started_at),
            duration(one.started_at - before),
            duration((ended or datetime.now(UTC)) - one.started_at),
            styled(one.outcome or "running"),
            one.error_code,
            one.worker,
            f"{one.kind}, asked {one.polls} ×" if one.polls else one.kind,
            ("~" if one.estimated else "")
            + f"{tokens(one.input_tokens)}+{tokens(one.output_tokens)}",
        )
        before = ended or one.started_at


def _attempt(one: AttemptRecord, *, with_text: bool) -> dict[str, Any]:
    names = [name for name in one.__dataclass_fields__ if with_text or name != "error_detail"]
    return dict(fields(one, *names))


def _ms(span: timedelta | None) -> int | None:
    return None if span is None else round(span.total_seconds() * 1000)
