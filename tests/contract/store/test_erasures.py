"""Users who are erased: whatever is theirs goes, and nothing of it comes back; figures stay."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from tests import rows, steps
from tests.batch_clients import batches_of
from tests.contract.store.test_schedules import plan
from turnmill.domain.budgets import OnExceeded, Period, Scope
from turnmill.domain.errors import UserErased, UserNotFound, UserOnHold
from turnmill.domain.ids import SessionId, hash_of_user
from turnmill.domain.states import BackupState, TurnState
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store import kept
from turnmill.store.analytics import usage
from turnmill.store.budget_records import Holder, NewBudget
from turnmill.store.database import Database
from turnmill.store.deletion_records import ErasureReport, Gone
from turnmill.store.file_records import AttachmentId
from turnmill.store.nouns import attachments, budgets, erasures, holds, schedules, sessions
from turnmill.store.nouns import user_retention as keeping
from turnmill.store.records import Fenced
from turnmill.store.schema.belongings import BELONGINGS, Goes
from turnmill.store.schema.erasure_tables import erasures as erasure_rows
from turnmill.store.schema.life_tables import tombstones
from turnmill.store.schema.tables import batches as batch_rows
from turnmill.store.upkeep import content_retention
from turnmill.store.upkeep import retention as upkeep
from turnmill.verbs.users.erasing import Erasing, Replayed

pytestmark = pytest.mark.usefixtures("sound")

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).date()


@pytest.fixture
def erasing(store: Database, tmp_path: Path) -> Erasing:
    return Erasing(store, Settings(home=tmp_path))


def said(store: Database, session: SessionId, text: str, **options: Any) -> None:
    """Have a turn answered."""
    steps.end(store, steps.take_one(store, steps.send(store, session, text).turn_id), **options)


def erase(erasing: Erasing, user: str = "ada", *, grace: timedelta = timedelta(0)) -> ErasureReport:
    return erasing.erase(user, reason="asked", grace=grace)


def left_of(store: Database, user: str) -> dict[str, int]:
    """Return how many rows of each table are of the user."""
    with store.begin() as conn:
        counts = {
            one.table.name: conn.scalar(
                select(func.count()).select_from(one.table).where(one.of_user(user))
            )
            for one in BELONGINGS
            if one.table is not erasure_rows and one.goes is not Goes.ELSEWHERE
            if one.table is not tombstones
        }
    return {name: count for name, count in counts.items() if count}


def figures(store: Database) -> list[usage.UsageRow]:
    with store.begin() as conn:
        usage.roll_up(conn)
        return usage.report(conn, first=TODAY, last=TODAY)


def a_file(store: Database, user: str = "ada") -> AttachmentId:
    with store.begin() as conn:
        made = AttachmentId(new_id())
        attachments.reserve(conn, made, user, most=9, least=1, quota=99)
        return made


def a_budget(store: Database, name: str = "ada", *, scope: Scope = Scope.USER) -> None:
    new = NewBudget(
        holder=Holder(scope, name, "ada" if scope is Scope.TAG else ""),
        period=Period.DAY,
        timezone="UTC",
        limit_usd=Decimal(5),
        on_exceeded=OnExceeded.FAIL,
        warn_at=(),
    )
    with store.begin() as conn:
        budgets.set_budget(conn, new, budget_id=new_id())


def use_all(store: Database, user: str) -> None:
    """Let there be something of the user everywhere."""
    session = rows.start(store, user_id=user)
    said(store, session, "one", provider_ref=f"resp_{user}")
    rows.run(store, rows.send(store, session, "fails"), TurnState.FAILED)
    rows.send(store, session, "waits")
    a_file(store, user)
    a_budget(store, user)
    with store.begin() as conn:
        keeping.keep_content_of(conn, user, DAY)
        budgets.bound_session(conn, session, Decimal(9), budget_id=new_id())


def test_whatever_is_of_the_user_goes_and_nobody_elses(store: Database, erasing: Erasing) -> None:
    for user in ("ada", "bob"):
        use_all(store, user)
    before = left_of(store, "bob")
    report = erase(erasing)
    assert left_of(store, "ada") == {}
    assert left_of(store, "bob") == before
    wanted = {"sessions": 1, "turns": 3, "messages": 4, "attempts": 2, "attachments": 1}
    assert {name: report.rows[name] for name in wanted} == wanted
    assert (report.rows["budgets"], report.rows["user_retention"]) == (2, 1)
    assert (report.how, report.user_id) == (Gone.ERASED, "ada")
    (left,) = report.pending
    assert (left.what, left.provider, left.count) == ("kept_refs", "mock", 1)
    assert not report.done
    with store.begin() as conn:
        due = kept.take_due(conn, again_after=DAY)
        assert [one.ref for one in due] == ["resp_ada"]
        kept.forget(conn, due)
    assert erasing.report("ada").done
    assert erase(erasing) == erasing.report("ada"), "once more is the same"


def test_a_batch_with_a_line_of_an_erased_user_leaves_nothing(
    store: Database, erasing: Erasing, tmp_path: Path
) -> None:
    rows.start(store, user_id="ada")
    erase(erasing)
    lines = tmp_path / "jobs.jsonl"
    lines.write_text('{"text": "hi", "user_id": "bob"}\n{"text": "hi", "user_id": "ada"}\n')
    with pytest.raises(UserErased):
        batches_of(store).create(lines)
    assert batches_of(store).list() == []


def test_figures_are_the_same_to_the_bit_before_and_after(
    store: Database, erasing: Erasing
) -> None:
    for user in ("ada", "bob"):
        session = rows.start(store, user_id=user)
        rows.run(store, rows.send(store, session), cost=Decimal("0.0000000007"))
        turn = rows.send(store, session)
        rows.run(store, turn, TurnState.RETRYING, tokens=(7, 0, 0), cost=Decimal("0.3"))
        rows.run(store, turn, TurnState.FAILED, tokens=(None, None, None), cost=None)
    before = figures(store)
    erase(erasing)
    assert figures(store) == before
    erase(erasing, "bob")
    assert figures(store) == before
    assert (before[0].turns, before[0].retries) == (4, 2)


def test_an_id_that_never_was_is_said_to_be_unknown(store: Database, erasing: Erasing) -> None:
    rows.start(store)
    with pytest.raises(UserNotFound):
        erase(erasing, "nobody")
    with pytest.raises(UserNotFound):
        erasing.report("nobody")
    assert left_of(store, "ada")


def test_a_turn_that_runs_is_cut_and_its_worker_fenced_off(
    store: Database, erasing: Erasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnmill.verbs.users.erasing._ENDS_WITHIN", 0.0)
    session = rows.start(store)
    claim = steps.take_one(store, steps.send(store, session, "hello").turn_id)
    report = erase(erasing)
    assert left_of(store, "ada") == {}
    assert report.rows["turns"] == 1
    late = steps.verdict(claim, TurnState.SUCCEEDED, provider_ref="resp_late")
    assert isinstance(steps.end_all(store, late)[0], Fenced)
    with store.begin() as conn:
        kept.keep_late(conn, late)
    assert left_of(store, "ada") == {}
    (left,) = erasing.report("ada").pending
    assert (left.what, left.count) == ("kept_refs", 1), "what came late goes there, too"


def test_nothing_new_is_written_for_who_was_erased_until_he_is_let_in(
    store: Database, erasing: Erasing
) -> None:
    rows.start(store)
    erase(erasing)
    with pytest.raises(UserErased) as caught:
        rows.start(store)
    assert "ada" not in str(caught.value)
    with pytest.raises(UserErased):
        a_file(store)
    rows.start(store, user_id="bob")
    with store.begin() as conn:
        assert erasures.admit(conn, "ada")
        assert not erasures.admit(conn, "ada")
    rows.start(store)
    assert erase(erasing).rows["sessions"] == 1


def test_who_was_erased_gets_no_budget_retention_or_batch_of_his_own(
    store: Database, erasing: Erasing, tmp_path: Path
) -> None:
    rows.start(store)
    erase(erasing)
    with pytest.raises(UserErased):
        a_budget(store)
    with pytest.raises(UserErased), store.begin() as conn:
        keeping.keep_content_of(conn, "ada", DAY)
    lines = tmp_path / "jobs.jsonl"
    lines.write_text('{"text": "hi", "user_id": "bob"}\n')
    with pytest.raises(UserErased):
        batches_of(store).create(lines, user_id="ada", reuse=True)
    assert batches_of(store).list() == []
    assert left_of(store, "ada") == {}
    assert erasing.report("ada").backups.state is BackupState.READABLE
    a_budget(store, "bob")
    a_budget(store, "ada", scope=Scope.TAG)


def test_a_batch_that_the_user_owned_is_nameless_and_others_stay(
    store: Database, erasing: Erasing, tmp_path: Path
) -> None:
    for name, users, owner in (
        ("owned", (None, None), "ada"),
        ("mixed", ("ada", "bob"), None),
    ):
        path = tmp_path / f"{name} of ada.jsonl"
        lines = ({"text": "hi", "user_id": user or "ada"} for user in users)
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        batches_of(store).create(path, name=name, user_id=owner)
    erase(erasing)
    row = batch_rows.c
    with store.begin() as conn:
        found = conn.execute(select(row.id, row.name, row.metadata, row.content_hash)).all()
    (kept,) = (one for one in found if one.name == "mixed")
    assert kept.metadata["file"] == "mixed of ada.jsonl" and kept.content_hash
    (owned,) = (one for one in found if one is not kept)
    assert (UUID(owned.name), owned.metadata, owned.content_hash) == (owned.id, {}, b"")


def test_nothing_but_a_hash_is_left_of_his_name(store: Database, erasing: Erasing) -> None:
    rows.start(store)
    erase(erasing)
    with store.begin() as conn:
        row = conn.execute(select(erasure_rows)).one()
        assert (row.user_hash, row.user_id, row.state) == (hash_of_user("ada"), None, "erased")
        (found,) = erasures.find(conn)
    assert "ada" not in repr(found)


def test_an_erasure_waits_for_its_time_and_can_be_taken_back(
    store: Database, erasing: Erasing
) -> None:
    session = rows.start(store)
    report = erase(erasing, grace=30 * DAY)
    (left,) = report.pending
    assert (left.what, report.done, report.rows) == ("grace period", False, {})
    assert left.due_at is not None and left.due_at > datetime.now(UTC) + 29 * DAY
    said(store, session, "I am still here")
    assert erasing.go_on_with_all() == 0
    with store.begin() as conn:
        assert erasures.withdraw(conn, "ada")
        assert not erasures.withdraw(conn, "ada")
    with pytest.raises(UserNotFound):
        erasing.report("ada")
    erase(erasing, grace=30 * DAY)
    assert erase(erasing).done, "who asks again without a grace has it done"


def test_upkeep_goes_on_where_somebody_died_over_it(store: Database, erasing: Erasing) -> None:
    rows.start(store)
    with store.begin() as conn:
        erasures.request(conn, "ada", reason="", grace=timedelta(0))
        assert erasures.begin(conn, "ada")
    assert not erasing.report("ada").done
    assert erasing.go_on_with_all() == 1
    assert erasing.report("ada").done
    assert erasing.go_on_with_all() == 0


def test_nothing_of_a_user_on_hold_is_deleted_by_anybody(store: Database, erasing: Erasing) -> None:
    session = rows.start(store)
    said(store, session, "evidence")
    erase(erasing, grace=timedelta(microseconds=1))
    with store.begin() as conn:
        assert holds.hold(conn, "ada", "case 7").user_id == "ada"
    assert erasing.go_on_with_all() == 0, "what waits, waits"
    with pytest.raises(UserOnHold):
        erase(erasing)
    with store.begin() as conn, pytest.raises(UserOnHold):
        sessions.remove(conn, session)
    with store.begin() as conn:
        sessions.archive(conn, session)
        assert upkeep.purge_archived(conn, older_than=timedelta(0)) == 0
        old = content_retention.sessions_with_old_content(conn, default=timedelta(seconds=-1))
        assert old == []
        assert [one.user_id for one in holds.find(conn)] == ["ada"]
        assert holds.release(conn, "ada")
        assert not holds.release(conn, "ada")
    assert erase(erasing).done


def test_a_schedule_of_somebody_on_hold_is_paused_and_not_deleted(store: Database) -> None:
    made = store.run(schedules.create, rows.start(store), plan())
    store.run(holds.hold, "ada", "case 7")
    with pytest.raises(UserOnHold):
        store.run(schedules.remove, made.id)
    assert store.run(schedules.pause, made.id).paused
    store.run(holds.release, "ada")
    store.run(schedules.remove, made.id)


def test_a_hold_that_comes_when_an_erasure_has_begun_is_refused_and_not_promised(
    store: Database, erasing: Erasing
) -> None:
    said(store, rows.start(store), "evidence")
    with store.begin() as conn:
        erasures.request(conn, "ada", reason="asked", grace=timedelta(0))
        assert erasures.begin(conn, "ada")  # and whoever began it has died
    with store.begin() as conn, pytest.raises(UserErased):
        holds.hold(conn, "ada", "case 7")
    assert erasing.go_on("ada")


def test_who_came_back_with_an_older_store_is_erased_again(
    store: Database, erasing: Erasing
) -> None:
    for user in ("ada", "bob", "eve"):
        rows.start(store, user_id=user)
    erase(erasing, "eve")
    noted = [hash_of_user("ada"), hash_of_user("gone before")]
    assert erasing.replay(noted) == Replayed(known=3, erased=1)
    assert left_of(store, "ada") == {}
    assert left_of(store, "bob")
    assert erasing.report("ada").done


def test_a_report_says_what_backups_tell(store: Database, tmp_path: Path) -> None:
    rows.start(store)
    rows.start(store, user_id="bob")
    report = erase(Erasing(store, Settings(home=tmp_path)))
    assert (report.backups.state, report.backups.until) == (BackupState.READABLE, None)
    kept_for = Settings(home=tmp_path, backups_kept=35 * DAY)
    until = erase(Erasing(store, kept_for), "bob").backups.until
    assert until is not None and until > datetime.now(UTC) + 34 * DAY
