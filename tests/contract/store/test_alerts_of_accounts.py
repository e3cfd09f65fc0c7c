"""What is closed at a provider for long, or for good, is an alert, on every store."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import update

from turnmill.domain.analytics.alert_bounds import AlertBounds, Rule
from turnmill.domain.analytics.alert_words import sentence
from turnmill.domain.analytics.alerting import RuleVerdict
from turnmill.store.analytics import alerts
from turnmill.store.analytics.watching import judged
from turnmill.store.database import Database
from turnmill.store.nouns.accounts import AccountKey, close, open_again
from turnmill.store.schema.limit_tables import accounts

MINUTE = timedelta(minutes=1)
OPENAI = AccountKey(kind="account", provider="openai", account="a1")
ONLY = AlertBounds(off=frozenset(Rule) - {Rule.ACCOUNT})


def shut(
    store: Database,
    key: AccountKey,
    *,
    since: timedelta,
    until: timedelta = MINUTE,
    permanent: bool = False,
) -> None:
    """Let something have been closed for so long; it is tried again in a minute."""
    now = datetime.now(UTC)
    with store.begin() as conn:
        close(conn, key, wait=lambda _: MINUTE, code="no", permanent=permanent)
        conn.execute(
            update(accounts)
            .where(accounts.c.id == key.id)
            .values(closed_at=now - since, closed_until=now + until)
        )


def look(store: Database) -> dict[str, RuleVerdict]:
    with store.begin() as conn:
        found = judged(conn, ONLY).judged
        alerts.look(conn, found)
    return {one.subject: one.verdict for one in found}


def said(store: Database) -> list[str]:
    with store.begin() as conn:
        found = alerts.find(conn, limit=10)
    return [sentence(one.rule, one.subject, value=one.worst, usual=None) for one in found]


def test_what_is_closed_is_judged_by_how_long_and_of_several_keys_the_worst_off(
    store: Database,
) -> None:
    shut(store, OPENAI, since=2 * MINUTE, permanent=True)
    shut(store, replace(OPENAI, account="b2"), since=10 * MINUTE)  # of another key
    shut(store, replace(OPENAI, model="large", tier="flex"), since=20 * MINUTE)
    shut(store, AccountKey(kind="breaker", provider="mock", model="slow"), since=MINUTE)
    assert look(store) == {
        "openai": RuleVerdict.BAD,
        "openai/large (tier flex)": RuleVerdict.BAD,
        "mock/slow": RuleVerdict.CALM,
    }
    assert sorted(said(store)) == [
        "openai has been closed to calls for 2 min",
        "openai/large (tier flex) has been closed to calls for 20 min",
    ]


def test_what_nobody_comes_to_try_is_closed_for_nobody(store: Database) -> None:
    shut(store, OPENAI, since=600 * MINUTE, until=-11 * MINUTE, permanent=True)
    assert look(store) == {}
    shut(store, replace(OPENAI, account="b2"), since=600 * MINUTE, until=-9 * MINUTE)
    assert look(store) == {"openai": RuleVerdict.BAD}


def test_it_is_calm_as_soon_as_it_is_open(store: Database) -> None:
    shut(store, OPENAI, since=20 * MINUTE)
    look(store)
    with store.begin() as conn:
        open_again(conn, OPENAI)
    assert look(store) == {}
    assert len(said(store)) == 1  # half an hour of calm closes it, as any other
