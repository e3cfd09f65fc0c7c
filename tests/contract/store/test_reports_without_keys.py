"""A report is of figures: who has no key to what is encrypted has it all the same, and is told."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import insert

from tests import rows
from tests.folded import fold_all
from tests.keyed import at_hand, encrypted
from tests.trying import OTHER, asked, executor_of, experiments_of, had, stepped, trials_of
from turnmill.domain.analytics.report_data import ReportData, Section
from turnmill.domain.analytics.windows import Window
from turnmill.store.analytics import reporting, topics, tried_models
from turnmill.store.analytics.topics import Run
from turnmill.store.database import Database
from turnmill.store.schema.topic_tables import session_topics
from turnmill.sync.templates import Templates

NOW = datetime.now(UTC)
DAYS = Window(NOW - timedelta(days=7), NOW + timedelta(hours=1))
SAID = {"stop": ["CANARY-77aa"]}


def report(store: Database) -> ReportData:
    fold_all(store)
    return store.run_single(reporting.read, DAYS, zone="UTC")


def talked_of(store: Database) -> None:
    """Have five users talk of one thing."""
    run = Run(
        n=1,
        at=NOW,
        since=NOW,
        sessions=5,
        sampled=5,
        unreadable=0,
        users=5,
        components=1,
        last_topic=1,
    )
    with store.begin() as conn:
        topics.begin_run(conn, run, [1])
    for n in range(5):
        about = {"session_id": rows.start(store, user_id=f"user-{n}"), "topic_id": 1}
        with store.begin() as conn:
            conn.execute(insert(session_topics).values(**about, share=1.0, run=1))
    with store.begin() as conn:
        topics.end_run(conn, {1: [("parcel", 1.0)]})


def test_who_has_not_the_key_of_the_house_has_a_report_that_says_what_is_missing(
    store: Database,
) -> None:
    keys = at_hand()
    keys.seals_settings = True
    with encrypted(store, keys):
        had(store, "one")
        tried = trials_of(store).start(OTHER, sample=1, settings=SAID, name="tried")
        asked(store)
        stepped(store, tried)
        Templates(executor_of(store)).put("t", provider="mock", model="mock")
        experiments_of(store).start("t", settings=SAID, name="shared")
        talked_of(store)
        whole = report(store)
        assert [one.terms for one in whole.topics or ()] == [("parcel",)]
        assert ["CANARY" in one.after for one in (*whole.trials, *whole.experiments)] == [True] * 2
        assert [one.name for one in store.run_single(tried_models.read, DAYS)] == ["tried"]
    with encrypted(store, at_hand()):
        found = report(store)
        assert found.now == whole.now
        assert found.topics is None and "encrypted" in found.missing[Section.TOPICS]
        for one in (*found.trials, *found.experiments):
            assert one.after.endswith("settings that cannot be opened here")
        assert [one.name for one in (*found.trials, *found.experiments)] == ["tried", "shared"]
        assert store.run_single(tried_models.read, DAYS) == []
        (theirs,) = store.run_single(topics.of_user, "user-0")
        assert (theirs.id, theirs.words) == (1, ())
