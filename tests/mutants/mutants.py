"""Broken versions of the protocol, each with the test that tells it from the real one."""

from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from tests.mutants.breaking import Mutant, instead, settling_without, without
from turnmill.store import database, kept, postgres
from turnmill.store.line import endings, estimates, leases
from turnmill.store.nouns import event_log, events, reading, turns
from turnmill.store.postgres import accepting, claiming, settling
from turnmill.store.postgres.looking import NAMED_IS_DUE
from turnmill.store.rules import accepting as accepting_rules
from turnmill.store.schema.event_tables import event_readers as readers
from turnmill.store.schema.event_tables import events as event_rows
from turnmill.store.schema.tables import turns as turn_rows
from turnmill_worker.layers.holding import Holding
from turnmill_worker.observers.calling import Calling
from turnmill_worker.observers.reader import Reader
from turnmill_worker.process.poller import Poller

_CLAIMING = "tests/contract/store/test_claiming.py"
_CONTENT = "tests/contract/store/test_content.py"
_ENDINGS = "tests/contract/store/test_endings.py"
_EVENTS = "tests/contract/store/test_events.py"
_KEPT = "tests/contract/store/test_kept.py"
_LOSSES = "tests/contract/store/test_losses.py"
_MOVES = "tests/contract/store/test_moves.py"
_PARTIAL = "tests/contract/store/test_partial.py"
_SENDING = "tests/contract/store/test_sending.py"
_SETTLING = "tests/contract/store/test_settling.py"
_READING = "tests/contract/store/test_reading.py"
_RACES = "tests/integration/test_store_races.py"
_CONSTRAINTS = "tests/integration/test_store_constraints.py"
_OBSERVERS = "tests/unit/test_observers.py"
_POLLER = "tests/unit/test_poller.py"


def _losses_uncounted(patch: pytest.MonkeyPatch) -> None:
    real = leases._lost_values
    patch.setattr(leases, "_lost_values", lambda: real() | {"lost": turn_rows.c.lost})


def _pruned_unread(patch: pytest.MonkeyPatch) -> None:
    real = event_log.prune
    patch.setattr(
        event_log, "prune", lambda conn, **bounds: real(conn, **bounds | {"most_kept": 0})
    )


def _passed_before_told(patch: pytest.MonkeyPatch) -> None:
    real = Reader._tell_one

    async def tell_one(self: Reader, event: Any) -> bool:
        self._told = event
        return await self._pass() and await real(self, event)

    patch.setattr(Reader, "_tell_one", tell_one)


def _failure_is_final(patch: pytest.MonkeyPatch) -> None:
    real = Calling.tell

    async def tell(self: Calling, event: Any) -> None:
        await real(self, event)

    patch.setattr(Calling, "tell", tell)


def _by_name_alone(hold: reading.Hold) -> Any:
    return update(readers).where(readers.c.name == hold.name)


def _newest_first() -> Any:
    rows = event_rows.c
    unplaced = select(rows.session_id, rows.n).where(rows.place.is_(None))
    return unplaced.order_by(rows.session_id, rows.n.desc())


def _no_unique_running(patch: pytest.MonkeyPatch) -> None:
    real = database._open

    def open_without(*args: Any, **options: Any) -> Engine:
        engine = real(*args, **options)
        with engine.begin() as conn:
            conn.exec_driver_sql("DROP INDEX IF EXISTS turnmill.uq_turns_one_running")
        return engine

    patch.setattr(database, "_open", open_without)


MUTANTS = {
    "no_fence": Mutant(
        rule="a verdict counts only under the fence of the last claim",
        breaks=settling_without((" AND t.lease_fence = v.fence", "")),
        killed_by=f"{_SETTLING}::test_a_zombie_writes_nothing_while_its_successor_runs[postgres]",
    ),
    "no_dispatcher": Mutant(
        rule="somebody looks for leases that ran out",
        breaks=instead(leases, "_expired_leases", lambda *_, **__: []),
        killed_by=f"{_LOSSES}::test_a_lost_turn_is_asked_about_before_it_is_sent_again[postgres]",
    ),
    "head_not_checked": Mutant(
        rule="only the head of a line is claimed",
        breaks=without(
            claiming,
            "_CLAIM_BY_IDS",
            ("ON s.id = t.session_id AND s.head_turn_id = t.id", "ON s.id = t.session_id"),
            ("SELECT s.id, s.head_turn_id FROM", "SELECT s.id, t.id AS head_turn_id FROM"),
            ("RETURNING s.id, s.head_turn_id,", "RETURNING s.id, line.head_turn_id,"),
        ),
        killed_by=f"{_CLAIMING}::test_only_the_head_of_a_line_is_claimed[postgres]",
    ),
    "due_time_not_checked": Mutant(
        rule="a turn runs when it is due, and not before",
        breaks=without(claiming, "_CLAIM_BY_IDS", (f"AND {NAMED_IS_DUE}", "")),
        killed_by=f"{_SETTLING}::test_a_temporary_error_comes_back_when_it_is_due[postgres]",
    ),
    "lost_not_counted": Mutant(
        rule="losses are counted, and kill in the end",
        breaks=_losses_uncounted,
        killed_by=f"{_LOSSES}::test_a_turn_dies_of_three_losses_in_quarantine"
        "_and_the_line_goes_on[postgres]",
    ),
    "no_unique_running": Mutant(
        rule="the database itself refuses a second running turn",
        breaks=_no_unique_running,
        killed_by=f"{_CONSTRAINTS}::test_the_database_refuses[a second running turn in a session]",
    ),
    "key_not_checked": Mutant(
        rule="a key that is known names its turn",
        breaks=without(accepting, "_ACCEPT", ("idempotency_key = %(idempotency_key)s", "false")),
        killed_by=f"{_SENDING}::test_the_same_key_and_content_is_the_same_turn[postgres]",
    ),
    "key_checked_before_the_lock": Mutant(
        rule="a key is looked up after the session is locked",
        breaks=instead(accepting, "lock_session", lambda *_: None),
        killed_by=f"{_RACES}::test_a_key_that_another_client_is_using_is_waited_for",
    ),
    "only_first_message_asked": Mutant(
        rule="a turn asks all that is said in it",
        breaks=without(
            claiming,
            "_CLAIM_BY_IDS",
            ("m WHERE m.turn_id = turn.id)", "m WHERE m.turn_id = turn.id AND m.position = 0)"),
        ),
        killed_by=f"{_CONTENT}::test_every_kind_of_part_is_stored_and_shown[postgres]",
    ),
    "only_first_message_kept": Mutant(
        rule="each of many turns is written whole",
        breaks=without(accepting, "_INSERT", ("WHERE i.more IS NOT NULL", "WHERE false")),
        killed_by=f"{_CONTENT}::test_many_turns_of_several_messages_are_each_whole"
        "[postgres-accept_many]",
    ),
    "content_not_compared": Mutant(
        rule="a key stands for its content",
        breaks=instead(accepting_rules, "content_hash", lambda _: b"same"),
        killed_by=f"{_SENDING}::test_the_same_key_for_other_content_is_a_conflict"
        "_and_leaves_no_gap[postgres]",
    ),
    "settle_without_lock": Mutant(
        rule="a verdict looks for the next head while it holds the session",
        breaks=settling_without(("FOR NO KEY UPDATE SKIP LOCKED", "")),
        killed_by=f"{_RACES}::test_an_answer_does_not_wait_for_a_send_that_is_being_written",
    ),
    "settle_by_an_old_snapshot": Mutant(
        rule="a verdict names no next head by a snapshot that is older than its lock",
        breaks=settling_without((" AND s.xmin = line.version", "")),
        killed_by=f"{_RACES}::test_a_send_is_seen_by_an_answer_that_began_before_it_was_written",
    ),
    "heartbeat_without_fence": Mutant(
        rule="a heartbeat extends only what is really held",
        breaks=without(claiming, "_EXTEND", (" AND t.lease_fence = held.fence", "")),
        killed_by=f"{_LOSSES}::test_a_heartbeat_under_an_old_fence_extends_nothing[postgres]",
    ),
    "cancel_forgotten": Mutant(
        rule="a verdict after a cancel is cancelled",
        breaks=settling_without(
            ("state = CASE WHEN t.cancel_requested", "state = CASE WHEN false")
        ),
        killed_by=f"{_SETTLING}::test_a_cancelled_call_ends_cancelled_keeps_its_cost"
        "_and_no_reply[postgres]",
    ),
    "resume_spends_an_attempt": Mutant(
        rule="a question about a turn spends no attempt",
        breaks=without(
            claiming,
            "_CLAIM_BY_IDS",
            ("CASE WHEN t.state IN ('queued', 'retrying') THEN 1", "CASE WHEN true THEN 1"),
        ),
        killed_by=f"{_SETTLING}::test_background_work_is_resumed"
        "_without_spending_an_attempt[postgres]",
    ),
    "released_question_is_sent": Mutant(
        rule="a question that is given back stays a question",
        breaks=settling_without(
            ("WHEN (v.state = 'queued' AND t.claimed_for = 'check') THEN 'unknown'", ""),
        ),
        killed_by=f"{_SETTLING}::test_a_question_that_is_given_back_stays"
        "_a_question[postgres-unknown-check]",
    ),
    "failed_turns_in_the_history": Mutant(
        rule="a provider is told of turns that succeeded",
        breaks=without(claiming, "_CLAIM_BY_IDS", ("AND t.state = 'succeeded'", "")),
        killed_by=f"{_CLAIMING}::test_the_history_is_that_of_succeeded_turns_in_order[postgres]",
    ),
    "retry_overtakes": Mutant(
        rule="a retry in place never runs after a later turn",
        breaks=instead(turns, "_is_overtaken", lambda *_: False),
        killed_by=f"{_MOVES}::test_a_retry_after_a_later_turn_has_started"
        "_is_a_new_turn_at_the_end[postgres-succeeded]",
    ),
    "kept_ids_forgotten": Mutant(
        rule="what a vendor keeps is written down with the verdict",
        breaks=lambda patch: patch.setattr(settling, "_SETTLE_ALL", settling._SETTLE),
        killed_by=f"{_KEPT}::test_a_chain_of_nine_turns_is_known_by_nine_ids[postgres]",
    ),
    "ended_but_kept": Mutant(
        rule="all that vendors keep of a session is given up when it ends",
        breaks=instead(kept, "_mark", lambda *_: None),
        killed_by=f"{_KEPT}::test_every_id_is_to_be_given_up_when_the_session_ends"
        "[postgres-archive]",
    ),
    "work_goes_on_after_a_cancel": Mutant(
        rule="work for a turn that was cancelled is stopped",
        breaks=instead(endings, "give_up_work", lambda *_: None),
        killed_by=f"{_KEPT}::test_work_for_a_turn_that_ends_without_it_is_to_be_stopped"
        "[postgres-_cancel]",
    ),
    "verdict_without_event": Mutant(
        rule="a verdict that ends a turn writes its event",
        breaks=settling_without(
            ("FROM session WHERE is_final\n), told", "FROM session WHERE false\n), told")
        ),
        killed_by=f"{_ENDINGS}::test_an_ending_has_one_event_with_the_next_number"
        "[postgres-_answered]",
    ),
    "event_for_what_goes_on": Mutant(
        rule="only an ending is an event",
        breaks=settling_without(
            ("FROM session WHERE is_final\n), told", "FROM session\n), told"),
        ),
        killed_by=f"{_ENDINGS}::test_what_is_no_ending_has_no_event[postgres]",
    ),
    "events_not_counted": Mutant(
        rule="an event takes the next number of its session",
        breaks=settling_without(
            (
                "events = s.events + CASE WHEN turn.is_final THEN 1 ELSE 0 END",
                "events = s.events + 0",
            )
        ),
        killed_by=f"{_ENDINGS}::test_a_group_of_verdicts_numbers_each_session_by_itself[postgres]",
    ),
    "moves_without_event": Mutant(
        rule="a turn that is cancelled, overdue or lost has its event, too",
        breaks=instead(endings, "write_events", lambda *_: None),
        killed_by=f"{_ENDINGS}::test_an_ending_has_one_event_with_the_next_number"
        "[postgres-_expired]",
    ),
    "moves_without_a_word": Mutant(
        rule="those who wait are told of every ending",
        breaks=instead(endings, "tell_ended", lambda *_: None),
        killed_by=f"{_ENDINGS}::test_those_who_wait_are_told_of_every_ending[postgres-_cancelled]",
    ),
    "gap_not_told": Mutant(
        rule="a reader is told of what it has missed",
        breaks=instead(events, "GAP", "turn.succeeded"),
        killed_by=f"{_EVENTS}::test_a_reader_that_is_too_far_behind_is_told_how_many_it_missed"
        "[postgres]",
    ),
    "pruned_unread": Mutant(
        rule="what is kept for readers has no other end than its bound",
        breaks=_pruned_unread,
        killed_by=f"{_EVENTS}::test_events_are_kept_until_every_reader_has_passed[postgres]",
    ),
    "place_by_time": Mutant(
        rule="events have their place in the order of their session",
        breaks=instead(event_log, "_unplaced", _newest_first),
        killed_by=f"{_EVENTS}::test_each_reader_reads_all_in_the_order_of_each_session[postgres]",
    ),
    "passed_before_told": Mutant(
        rule="an event is passed after its observer was told, never before",
        breaks=_passed_before_told,
        killed_by=f"{_OBSERVERS}::test_nothing_is_passed_before_it_was_told[asyncio]",
    ),
    "late_reader": Mutant(
        rule="who has lost a reader to another process moves nothing",
        breaks=instead(
            reading, "_of", lambda hold: update(readers).where(readers.c.name == hold.name)
        ),
        killed_by=f"{_READING}::test_who_was_late_reads_and_moves_nothing[postgres]",
    ),
    "failure_is_final": Mutant(
        rule="an observer that fails is told again",
        breaks=_failure_is_final,
        killed_by=f"{_OBSERVERS}::test_an_observer_that_fails_is_told_again_before_anything_later"
        "[asyncio-RuntimeError-Notes]",
    ),
    "each_look_is_an_attempt": Mutant(
        rule="a look at work in the background is no attempt of its own",
        breaks=without(
            claiming,
            "_CLAIM_BY_IDS",
            ("FROM turn WHERE turn.goes_on", "FROM turn WHERE false"),
        ),
        killed_by=f"{_KEPT}::test_polls_are_counted_on_the_attempt_that_they_are_about[postgres]",
    ),
    "young_server_trusted": Mutant(
        rule="no lease is taken before the server has been up for one",
        breaks=instead(postgres, "has_been_up", lambda *_: True),
        killed_by=f"{_LOSSES}::test_nothing_is_taken_before_the_server"
        "_has_been_up_for_a_lease[postgres]",
    ),
    "partial_unasked": Mutant(
        rule="what had come of a reply is kept only where somebody asked for it",
        breaks=settling_without((" AND turn.keep_partial", "")),
        killed_by=f"{_PARTIAL}::test_what_had_come_is_kept_with_the_verdict"
        "_if_it_was_asked_for[postgres-False]",
    ),
    "partial_of_the_failed": Mutant(
        rule="what had come of a reply is kept of cancelled turns only",
        breaks=settling_without(("turn.state = 'cancelled' AND turn.keep_partial", "true")),
        killed_by=f"{_PARTIAL}::test_no_other_end_of_a_call_leaves_a_part_behind[postgres-failed]",
    ),
    "estimate_beside_the_count": Mutant(
        rule="what is counted takes the place of its estimate",
        breaks=instead(estimates, "_withdraw", lambda *_: None),
        killed_by=f"{_PARTIAL}::test_a_reply_that_is_found_counts_instead_of_the_estimate"
        "[postgres-cost0]",
    ),
    "no_poller": Mutant(
        rule="what nobody was told of is taken all the same",
        breaks=instead(Poller, "_is_deaf", lambda *_: False),
        killed_by=f"{_POLLER}::test_what_has_been_left_lying_is_taken_when_no_hints_come[asyncio]",
    ),
    "hints_not_heard": Mutant(
        rule="where hints come, they are waited for",
        breaks=instead(Poller, "listen", lambda _: None),
        killed_by=f"{_POLLER}::test_where_hints_come_nothing_is_taken_and_nothing_asked[asyncio]",
    ),
    "lost_while_it_is_written": Mutant(
        rule="while a step is written, its turn is lost under neither of its fences",
        breaks=instead(Holding, "stop_claim", lambda self, fence, why: self.close_call(why)),
        killed_by="tests/unit/test_held.py::test_while_a_step_is_written_its_turn_counts_as_lost"
        "_under_neither_of_its_fences",
    ),
}
