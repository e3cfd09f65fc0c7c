"""An experiment for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnmill.show.as_typed import as_typed
from turnmill.show.difference_view import (
    COLUMNS,
    count,
    document_of,
    dollars,
    percent,
    row_of,
    score,
    seconds,
)
from turnmill.show.listing import Listing
from turnmill.show.tables import fields, print_json, print_table
from turnmill.show.terminal import on_one_line, say, tell

if TYPE_CHECKING:
    from turnmill.store.trial_records import ArmFigures, ExperimentRecord, ExperimentResult

_RECORD = (
    *("id", "name", "template", "version", "provider", "model", "share", "created_at"),
    "stopped_at",
)
_ARM = ("users", "sessions", "turns", "failed", "cost_usd", "versions")
_DIFFERENCES = ("cost_usd", "latency_seconds", "failures", "turns", "feedback")


def as_document(one: ExperimentRecord) -> dict[str, Any]:
    """Return what its row says."""
    return dict(fields(one, *_RECORD)) | {"settings": dict(one.settings)}


def print_experiment(one: ExperimentRecord, *, as_json: bool) -> None:
    """Print what an experiment is."""
    if as_json:
        print_json(as_document(one))
        return
    goes = "runs" if one.is_running else "is over"
    tell(f"experiment {on_one_line(one.name)} {goes}: {_other(one)}")
    say(as_typed(f"next: turnmill experiments result {one.id}"))


def _other(one: ExperimentRecord) -> str:
    """Return what the other set-up is, without what its settings say."""
    named = {"provider": one.provider, "model": one.model, "version": one.version}
    said = [f"{name} {on_one_line(str(value))}" for name, value in named.items() if value]
    said += [f"setting {on_one_line(name)}" for name in one.settings]
    share = f"{100 * one.share:g} % of users"
    return f"{share} of template {on_one_line(one.template)} get {', '.join(said)}"


def print_result(found: ExperimentResult, *, as_json: bool) -> None:
    """Print how the two set-ups compare."""
    if as_json:
        arms = {name: _arm(getattr(found, name)) for name in ("usual", "other")}
        differences = {name: document_of(getattr(found, name)) for name in _DIFFERENCES}
        print_json(as_document(found.experiment) | arms | {"differences": differences})
        return
    one = found.experiment
    goes = "runs" if one.is_running else "is over"
    tell(f"experiment {on_one_line(one.name)} {goes}: {_other(one)}")
    for name, arm in (("usual", found.usual), ("other", found.other)):
        tell(f"{name}: {arm.users} users, {arm.sessions} sessions, {arm.turns} turns")
    _print_differences(found)
    say("the intervals hold however often you look")


def _print_differences(found: ExperimentResult) -> None:
    slower = ("faster", "slower")
    rows = (
        row_of("cost of a turn", found.cost_usd, dollars, words=("cheaper", "dearer")),
        row_of("time to its reply", found.latency_seconds, seconds, words=slower),
        row_of("turns that fail", found.failures, percent, words=("fewer", "more")),
        row_of("turns of a session", found.turns, count, words=("fewer", "more")),
        row_of("feedback", found.feedback, score, words=("worse", "better")),
    )
    columns = ("", "usual", "other", *COLUMNS[3:])
    print_table(columns, rows, right=columns[1:5])


def _arm(arm: ArmFigures) -> dict[str, Any]:
    return dict(fields(arm, *_ARM))


def _row(one: ExperimentRecord) -> tuple[object, ...]:
    state = "running" if one.is_running else "stopped"
    made = f"{one.created_at:%Y-%m-%d %H:%M}"
    return (one.id, one.name, state, one.template, f"{100 * one.share:g} %", made)


EXPERIMENTS: Listing[ExperimentRecord] = Listing(
    columns=("id", "name", "state", "template", "share", "created"),
    row=_row,
    document=as_document,
    numbers=("share",),
    spare=("created",),
)
