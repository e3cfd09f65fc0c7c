"""A trial for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from turnmill.domain.dollars import rounded
from turnmill.show.as_typed import as_typed
from turnmill.show.difference_view import (
    COLUMNS,
    agreement_in_words,
    count,
    document_of,
    dollars,
    milliseconds,
    row_of,
)
from turnmill.show.listing import Listing
from turnmill.show.tables import fields, print_json, print_table
from turnmill.show.terminal import on_one_line, say, tell

if TYPE_CHECKING:
    from turnmill.store.trial_records import (
        TrialEstimate,
        TrialRecord,
        TrialResult,
        TrialSide,
        TrialSummary,
    )

_RECORD = (
    *("id", "name", "state", "provider", "model", "judge", "template", "since", "sampled"),
    *("left_out", "max_cost_usd", "judge_usd", "batch_id", "judge_batch_id", "created_at"),
    "ended_at",
)
_SIDE = (
    *("turn_id", "session_id", "state", "text", "model", "cost_usd", "latency_ms"),
    *("input_tokens", "output_tokens", "error_code"),
)
_DIFFERENCES = ("cost_usd", "latency_ms", "output_tokens", "characters")
#: Why turns are left out, in words.
_LEFT_OUT: Mapping[str, str] = {
    "content_gone": "what was said is gone",
    "fallback": "another model had answered",
    "file_gone": "a file is gone",
    "kept_at_vendor": "a vendor keeps the history, or the prompt",
    "session_changed": "the session's options were changed",
    "shared": "several people talk there",
    "spoken": "heard or spoken",
    "tools": "tools would be called again",
}


def as_document(trial: TrialRecord) -> dict[str, Any]:
    """Return what its row says."""
    return dict(fields(trial, *_RECORD)) | {"settings": dict(trial.settings)}


def print_trial(trial: TrialRecord, summary: TrialSummary, *, as_json: bool) -> None:
    """Print what a trial shows."""
    if as_json:
        print_json(as_document(trial) | {"summary": _summary(summary)})
        return
    tell(f"trial {on_one_line(trial.name)}: {trial.state}")
    what = f"{trial.sampled} turns asked again of {on_one_line(f'{trial.provider}/{trial.model}')}"
    tell(f"{what}: {summary.answered} answered, {summary.failed} failed")
    for code, n in summary.failures.items():
        tell(f"  {n} failed: {on_one_line(code)}")
    _tell_left_out(trial.left_out)
    _print_differences(summary)
    _tell_judge(trial, summary)
    total = summary.spent_usd + summary.judge_usd
    tell(f"spent: {_usd(total)}, of that {_usd(summary.judge_usd)} on judging")
    if not trial.is_over:
        say(as_typed(f"it goes on: turnmill trials show {trial.id}"))


def _print_differences(summary: TrialSummary) -> None:
    less, faster = ("fewer", "more"), ("faster", "slower")
    rows = (
        row_of("cost of a turn", summary.cost_usd, dollars, words=("cheaper", "dearer")),
        row_of("time of its provider", summary.latency_ms, milliseconds, words=faster),
        row_of("tokens of a reply", summary.output_tokens, count, words=less),
        row_of("characters of a reply", summary.characters, count, words=("shorter", "longer")),
    )
    print_table(COLUMNS, rows, right=COLUMNS[1:5])


def _tell_judge(trial: TrialRecord, summary: TrialSummary) -> None:
    if not trial.judge:
        say("no judge has compared the replies: --judge names one")
        return
    tell(f"judge {on_one_line(trial.judge)}: {agreement_in_words(summary.agreement)}")
    if summary.preferred:
        of = {name: summary.preferred.get(name, 0) for name in ("before", "after", "neither")}
        tell(f"preferred: {of['before']} before, {of['after']} after, {of['neither']} neither")
    if summary.swayed:
        tell(f"{summary.swayed} opinions depend on which reply stood first")
    for code, n in summary.unjudged.items():
        tell(f"  {n} not judged: {on_one_line(code)}")


def _tell_left_out(left_out: Mapping[str, int]) -> None:
    for reason, n in left_out.items():
        tell(f"  {n} drawn and left out: {_LEFT_OUT.get(reason, on_one_line(reason))}")


def _summary(summary: TrialSummary) -> dict[str, Any]:
    names = ("asked", "answered", "failed", "failures", "judged", "unjudged", "preferred")
    agreement = fields(summary.agreement, "n", "clusters", "mean", "low", "high")
    return {
        **fields(summary, *names, "swayed", "spent_usd", "judge_usd"),
        **{name: document_of(getattr(summary, name)) for name in _DIFFERENCES},
        "agreement": dict(agreement),
    }


def print_trial_estimate(found: TrialEstimate, *, as_json: bool) -> None:
    """Print what a trial would ask and cost."""
    if as_json:
        names = ("turns", "users", "left_out", "input_tokens", "output_tokens", "before_usd")
        modes = {mode.value: cost for mode, cost in found.modes.items()}
        print_json({**fields(found, *names, "judge_usd"), "modes": modes})
        return
    tell(f"{found.turns} turns of {found.users} users would be asked again")
    _tell_left_out(found.left_out)
    tell(f"they have taken {found.input_tokens} tokens in, {found.output_tokens} out")
    tell(f"they have cost {_usd(found.before_usd)}")
    for mode, cost in found.modes.items():
        tell(f"they would cost about {_usd(cost)} in mode {mode.value}")
    tell(f"a judge would cost about {_usd(found.judge_usd)} besides")


def _usd(amount: Any) -> str:
    return "what nobody knows" if amount is None else f"${rounded(amount, digits=4):f}"


def result_document(one: TrialResult) -> dict[str, Any]:
    """Return a turn of a trial, both sides of it, for a line of JSON."""
    names = ("line", "verdict", "agreement", "preferred", "swayed", "error_code", "judge_error")
    sides = {"before": _side(one.before), "after": _side(one.after)}
    return {**fields(one, *names), **sides}


def _side(side: TrialSide | None) -> dict[str, Any] | None:
    return None if side is None else dict(fields(side, *_SIDE))


def _row(one: TrialRecord) -> tuple[object, ...]:
    model, made = f"{one.provider}/{one.model}", f"{one.created_at:%Y-%m-%d %H:%M}"
    return (one.id, one.name, one.state, model, one.judge or None, one.sampled, made)


TRIALS: Listing[TrialRecord] = Listing(
    columns=("id", "name", "state", "model", "judge", "turns", "created"),
    row=_row,
    document=as_document,
    numbers=("turns",),
    spare=("judge", "created"),
)
