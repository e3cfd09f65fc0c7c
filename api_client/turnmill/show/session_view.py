"""A session for people and for programs: what it is, and what was said in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from turnmill.domain.targets import targets_in
from turnmill.show.as_typed import as_typed
from turnmill.show.listing import Listing
from turnmill.show.tables import fields, print_facts, print_json, print_table, stdout_console
from turnmill.show.terminal import print_said, tell
from turnmill.show.wording import dollars, duration, moment_text, relative, said, styled

if TYPE_CHECKING:
    from turnmill.store.compaction_records import CompactionRecord
    from turnmill.store.kept import Keeping
    from turnmill.store.records import MessageRecord, SessionRecord
    from turnmill.sync.turns import Turn


_COLUMNS = (
    "id",
    "user",
    "status",
    "open",
    "active",
    "key",
    "asks",
    "replies",
    "failed",
    "tokens",
    "cost",
)
_NUMBERS = ("open", "replies", "failed", "tokens", "cost")
_COMPACTION = ("n", "kind", "turn_id", "up_to_seq", "turns", "input_tokens", "output_tokens")
_TURN_COLUMNS = ("turn", "id", "state", "accepted", "attempts", "error")


def as_document(session: SessionRecord) -> dict[str, Any]:
    """Return what programs read; what was said is not in it."""
    names = [name for name in session.__dataclass_fields__ if name != "system_prompt"]
    return dict(fields(session, *names))


def print_session(
    session: SessionRecord,
    kept: Keeping,
    *,
    left_out: Sequence[CompactionRecord] = (),
    history: Iterable[MessageRecord] | None,
    as_json: bool,
) -> None:
    """Print what is known of it; with the conversation where `history` is given."""
    if as_json:
        document = as_document(session) | {
            "kept": fields(kept, "count", "unwanted_at"),
            "compactions": [fields(one, *_COMPACTION) for one in left_out],
        }
        print_json(document | ({} if history is None else _content(session, history, left_out)))
        return
    print_facts((*_facts(session), *_left_out(left_out), *_at_vendors(kept)))
    tell("")
    if history is not None:
        _print_conversation(session, history, left_out)


def print_status(session: SessionRecord, *, as_json: bool) -> None:
    """Print what a command has made of its status."""
    if as_json:
        print_json(as_document(session))
    else:
        tell(f"{session.id}  {session.status}")


def print_latest(turns: Iterable[Turn]) -> None:
    """Print its latest turns, which are given the newest first, in the order of the session."""
    rows = [_turn_row(turn) for turn in turns][::-1]
    if rows:
        print_table(_TURN_COLUMNS, rows, right=("turn",), spare=("attempts", "accepted"))


def _turn_row(turn: Turn) -> tuple[object, ...]:
    record, now = turn.record, datetime.now(UTC)
    accepted = relative(record.created_at, now=now)
    attempts = f"{record.attempt}/{record.max_attempts}"
    return (record.seq, record.id, styled(record.state), accepted, attempts, record.error_code)


def _content(
    session: SessionRecord,
    history: Iterable[MessageRecord],
    left_out: Sequence[CompactionRecord],
) -> dict[str, Any]:
    from turnmill.store.codec import exported

    names = ("turn_id", "seq", "position", "role", "state", "created_at")
    messages = [
        {**fields(one, *names), **exported(one.parts), "partial": one.partial} for one in history
    ]
    summary = left_out[-1].summary if left_out else None
    return {"system_prompt": session.system_prompt, "summary": summary, "messages": messages}


def _print_conversation(
    session: SessionRecord,
    history: Iterable[MessageRecord],
    left_out: Sequence[CompactionRecord],
) -> None:
    console = stdout_console()
    if session.system_prompt is not None:
        console.print("system", style="bold")
        print_said(session.system_prompt + "\n", to=console)
    last = left_out[-1] if left_out else None
    for message in history:
        if last is not None and message.seq > last.up_to_seq:
            _print_mark(last)
            last = None
        console.print(message.role, style="bold", end=" ")
        part = ", partial" if message.partial else ""
        console.print(f"turn {message.seq}, {message.state}{part}", style="dim")
        print_said(said(message.parts) + "\n", to=console)


def _print_mark(last: CompactionRecord) -> None:
    """Print where a model begins to read, and what it reads instead of all above."""
    console = stdout_console()
    console.print("the model is shown none of the above", style="dim")
    if last.summary is not None:
        console.print("summary", style="bold")
        print_said(last.summary, to=console)
    tell("")


def _row(session: SessionRecord) -> tuple[object, ...]:
    return (
        session.id,
        session.user_id,
        styled(session.status),
        session.unfinished,
        relative(session.last_active_at, now=datetime.now(UTC)),
        session.key,
        f"{session.provider} {session.model}",
        session.turns_succeeded,
        session.turns_failed,
        f"{session.input_tokens + session.output_tokens:,}",
        _cost(session),
    )


def _cost(session: SessionRecord) -> str:
    """Return the cost; `+` says that some attempts have no known price."""
    if session.unpriced_attempts and not session.cost_usd:
        return "n/a"
    return dollars(session.cost_usd) + ("+" if session.unpriced_attempts else "")


def _facts(session: SessionRecord) -> Iterator[tuple[str, object]]:
    now = datetime.now(UTC)
    yield "session", str(session.id)
    if session.key is not None:
        yield "key", session.key
    yield "user", session.user_id
    yield "status", styled(session.status)
    yield "asks", f"{session.provider} {session.model}"
    if session.template is not None:
        yield "template", f"{session.template}@{session.template_version}"
    if session.adopted is not None:
        yield "adopted", session.adopted
    if targets := targets_in(session.settings):
        yield "else", ", ".join(f"{one.provider} {one.model}" for one in targets)
    yield "created", moment_text(session.created_at)
    yield "active", relative(session.last_active_at, now=now)
    if session.idle_ttl is not None:
        yield "archived", f"after {duration(session.idle_ttl)} without a message"
    yield from _content_of(session)
    done = f"{session.turns_succeeded} replies, {session.turns_failed} failed"
    yield "turns", f"{done}, {session.unfinished} unfinished"
    if session.head_turn_id is not None:
        head = session.head_turn_id
        yield "next", as_typed(f"turn {head}: turnmill turns show {head}")
    tokens = f"{session.input_tokens:,} tokens in, {session.output_tokens:,} out"
    yield "used", f"{tokens}, {_cost(session)}"


def _content_of(session: SessionRecord) -> Iterator[tuple[str, object]]:
    if session.forked_from is not None:
        yield "forked", f"from {session.forked_from}"
    if session.key_id is not None:
        yield "key", f"encrypted by {session.key_id}"
    if session.keep_content is not None:
        yield "content", f"goes {duration(session.keep_content)} after its turn has ended"
    if session.content_gone_until is not None:
        yield (
            "gone",
            f"what was said in turns that ended by {moment_text(session.content_gone_until)}",
        )


def _left_out(compactions: Sequence[CompactionRecord]) -> Iterator[tuple[str, object]]:
    if compactions:
        last = compactions[-1]
        instead = "" if last.summary is None else "; a summary stands for them"
        yield "left out", f"the first {last.turns} replies are not sent any more{instead}"


def _at_vendors(kept: Keeping) -> Iterator[tuple[str, object]]:
    if kept.unwanted_at is not None:
        since = relative(kept.unwanted_at, now=datetime.now(UTC))
        yield "vendor", f"keeps {kept.count} answers or threads, to be deleted since {since}"
    elif kept.count:
        yield "vendor", f"keeps {kept.count} answers or threads until the session ends"


SESSIONS: Listing[SessionRecord] = Listing(
    columns=_COLUMNS, row=_row, document=as_document, numbers=_NUMBERS, spare=_COLUMNS[4:]
)
