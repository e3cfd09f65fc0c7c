"""Limits, and what is closed, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnmill.show.listing import Listing, print_listing
from turnmill.show.tables import fields, print_json

if TYPE_CHECKING:
    from turnmill.store.nouns.accounts import AccountRecord
    from turnmill.store.nouns.limits import LimitRecord

_ALL = "(all)"


def _limit(one: LimitRecord) -> tuple[object, ...]:
    return (
        one.provider,
        one.model or _ALL,
        one.requests_per_minute,
        one.tokens_per_minute,
        one.concurrent,
        "learned" if one.learned else "set",
    )


LIMITS: Listing[LimitRecord] = Listing(
    columns=("provider", "model", "requests/min", "tokens/min", "at once", ""),
    row=_limit,
    document=lambda one: fields(one, *one.__dataclass_fields__),
    numbers=("requests/min", "tokens/min", "at once"),
)


def print_limit(limit: LimitRecord, *, as_json: bool) -> None:
    """Print one limit."""
    if as_json:
        print_json(LIMITS.document(limit))
    else:
        print_listing([limit], LIMITS, as_json=False)


def _account(one: AccountRecord) -> tuple[object, ...]:
    return (
        one.kind,
        one.provider,
        " ".join(filter(None, (one.model or _ALL, one.tier))),
        one.account,
        one.code,
        "until it is set right" if one.permanent else "",
        one.closed_until,
        one.times,
    )


def _document(one: AccountRecord) -> dict[str, Any]:
    return dict(fields(one, *one.__dataclass_fields__))


ACCOUNTS: Listing[AccountRecord] = Listing(
    columns=("kind", "provider", "model", "account", "why", "", "tried at", "times"),
    row=_account,
    document=_document,
    numbers=("times",),
    spare=("kind", "times", "account"),
)
