"""A session, or a user, in figures, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from turnmill.show.feedback_view import score_text
from turnmill.show.tables import print_facts, print_json, print_table
from turnmill.show.wording import dollars, duration, known_usd, moment_text, percent

if TYPE_CHECKING:
    from turnmill.domain.analytics.satisfaction import Satisfaction
    from turnmill.store.analytics.conversations import Latencies, ModelUsage, Spent, TurnCounts
    from turnmill.store.analytics.spans import Spread
    from turnmill.store.analytics.topics import SessionTopic
    from turnmill.verbs.analytics.conversations import SessionMetrics, UserInsights

_ENDED = ("succeeded", "failed", "dead", "cancelled", "expired", "unfinished")
_MODELS = ("provider", "model", "turns", "attempts", "retries", "in", "cached", "out", "USD")
#: Of a user, that are shown.
_TOPICS = 5
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def print_session(found: SessionMetrics, *, as_json: bool) -> None:
    """Print what a session came to."""
    if as_json:
        print_json(_document(found))
        return
    print_facts(
        [
            ("session", found.session_id),
            ("user", found.user_id),
            ("status", found.status),
            *_common(found.counts, found.spent, found.latencies, messages=found.messages),
            ("duration", _span(found.duration)),
            ("active", _span(found.active)),
            *_felt(found.satisfaction),
            *_made_of(found),
            *_about([found.topic] if found.topic else []),
        ]
    )
    _print_models(found.models)


def print_user(found: UserInsights, *, as_json: bool) -> None:
    """Print what a user's turns came to."""
    if as_json:
        print_json(_document(found))
        return
    window = f"{moment_text(found.window.since)} to {moment_text(found.window.until)}"
    lengths = found.lengths
    print_facts(
        [
            ("user", found.user_id),
            ("window", window),
            ("sessions", lengths.sessions),
            ("length", _in_turns(lengths.turns)),
            ("duration", _in_time(lengths.duration_ms)),
            ("active", _in_time(lengths.active_ms)),
            *_common(found.counts, found.spent, found.latencies, messages=found.messages),
            ("hours", _busiest(found.hours, [f"{hour:02}:00" for hour in range(24)])),
            ("days", _busiest(found.weekdays, _DAYS)),
            ("zone", found.zone),
            *_felt(found.satisfaction),
            *_about(found.common_topics),
        ]
    )
    _print_models(found.models)


def _document(found: SessionMetrics | UserInsights) -> Mapping[str, Any]:
    return {**asdict(found), "messages": found.messages}


def _common(
    counts: TurnCounts, spent: Spent, latencies: Latencies, *, messages: int
) -> Iterator[tuple[str, object]]:
    ended = ", ".join(f"{getattr(counts, one)} {one}" for one in _ENDED if getattr(counts, one))
    yield "messages", f"{messages:,}"
    yield "turns", f"{counts.turns:,}" + (f" ({ended})" if ended else "")
    tokens = f"{spent.input_tokens:,} in, {spent.output_tokens:,} out"
    if spent.input_tokens:
        tokens += f", {percent(spent.cached_tokens / spent.input_tokens)} cached"
    yield "tokens", tokens
    is_known = spent.cost_usd or not spent.unpriced_attempts
    cost = dollars(spent.cost_usd) + ("+" if spent.unpriced_attempts else "")
    yield "cost", cost if is_known else "n/a"
    yield "attempts", f"{spent.attempts:,}, {spent.retries:,} of them again"
    yield "replies", _in_time(latencies.total)
    yield "queued", _in_time(latencies.queued)
    yield "provider", _in_time(latencies.provider)
    if latencies.first_token is not None:
        yield "1st token", _in_time(latencies.first_token)


def _felt(felt: Satisfaction) -> Iterator[tuple[str, object]]:
    given = felt.given
    if given.count:
        words = f"{score_text(given.mean)} of {given.count:,}"
        yield "feedback", f"{words}: {given.positive:,} good, {given.negative:,} bad"
    if felt.estimate is not None and felt.quality is not None:
        yield (
            "estimate",
            f"{score_text(felt.estimate)}, a guess by the conversation's shape"
            f" (coverage {percent(felt.coverage)}, AUC {felt.quality.auc:.2f} on English chats)",
        )
    if felt.score is None:
        yield "feedback", "none, and nothing to estimate it by"


def _made_of(found: SessionMetrics) -> Iterator[tuple[str, object]]:
    if found.estimate is not None:
        yield "made of", f"{found.estimate.basis} of {found.estimate.turns:,} turns"


def _about(topics: Sequence[SessionTopic]) -> Iterator[tuple[str, object]]:
    """Yield what is talked about; a topic of fewer than five users has no words."""
    for one in topics[:_TOPICS]:
        words = ", ".join(one.words) or "few talk about it"
        yield "topic", f"{one.id}: {words}" + (f" ({one.sessions})" if one.sessions > 1 else "")


def _print_models(models: Sequence[ModelUsage]) -> None:
    if models:
        print_table(_MODELS, map(_row, models), right=_MODELS[2:], spare=("provider", "retries"))


def _row(one: ModelUsage) -> tuple[object, ...]:
    spent = one.spent
    return (
        one.provider,
        one.model,
        one.turns,
        spent.attempts,
        spent.retries,
        f"{spent.input_tokens:,}",
        f"{spent.cached_tokens:,}",
        f"{spent.output_tokens:,}",
        known_usd(spent.cost_usd, unpriced=spent.unpriced_attempts),
    )


def _busiest(counts: Sequence[int], names: Sequence[str]) -> str:
    """Return where most turns are, at most three, the most first."""
    order = sorted(range(len(counts)), key=lambda at: (-counts[at], at))
    return ", ".join(f"{names[at]} {counts[at]:,}" for at in order[:3] if counts[at])


def _in_turns(spread: Spread | None) -> str:
    if spread is None:
        return "n/a"
    return f"{spread.median:.0f} turns (half), {spread.p95:.0f} (19 of 20), {spread.mean:.1f} mean"


def _in_time(spread: Spread | None) -> str:
    if spread is None:
        return "n/a"
    half, most, mean = (_ms(one) for one in (spread.median, spread.p95, spread.mean))
    return f"{half} (half), {most} (19 of 20), {mean} mean"


def _ms(value: float) -> str:
    return duration(timedelta(milliseconds=value))


def _span(span: timedelta | None) -> str:
    return "n/a" if span is None else duration(span)
