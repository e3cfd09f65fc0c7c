"""A vendor's bill beside what was written down, and prices that are put in anew."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from tests import rows
from turnmill.domain.errors import InvalidBill
from turnmill.domain.ids import SessionId, TurnId
from turnmill.store.analytics import usage
from turnmill.store.database import Database
from turnmill.store.line.removing import remove_sessions
from turnmill.store.nouns import sessions
from turnmill.store.schema.tables import attempts, turns
from turnmill.verbs.analytics.usage import reconcile
from turnmill.verbs.bills import read_bill
from turnmill.verbs.reconciling import Compared, Reconciliation
from turnmill.verbs.repricing import Job, Repricing
from turnmill_worker.providers.repricing import price_again

TODAY = datetime.now(UTC).date()
FLAT = Decimal("0.01")


def used(
    store: Database,
    session: SessionId,
    *,
    model: str,
    told: int = 1000,
    cached: int = 0,
    said: int = 100,
    cost: str | None = "0.001",
    **said_of: Any,
) -> TurnId:
    """Let a turn succeed that has used so much."""
    turn = rows.send(store, session)
    rows.run(
        store,
        turn,
        tokens=(told, said, cached),
        cost=None if cost is None else Decimal(cost),
        model=model,
        **said_of,
    )
    return turn


def reconciled(
    store: Database, tmp_path: Path, *lines: str, provider: str | None = None
) -> Reconciliation:
    path = tmp_path / "bill.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    verb = reconcile(read_bill(path, provider=provider), tolerance=FLAT)
    with store.begin() as conn:
        return verb.on(conn).result


def told(lines: Sequence[Compared]) -> list[tuple[str | None, str | None, bool]]:
    return [(one.model, one.tier, one.agrees) for one in lines]


OPENAI_USAGE = (
    "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,model,batch,"
    "service_tier,input_tokens,output_tokens,input_cached_tokens"
)
OPENAI_COST = (
    "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,"
    "project_id,organization_id"
)
ANTHROPIC_USAGE = (
    "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,"
    "usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,"
    "usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,"
    "web_search_count,inference_geo,speed"
)
ANTHROPIC_COST = (
    "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,"
    "list_price_usd,cost_type,inference_geo,speed"
)


def bucket(day: date = TODAY) -> str:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = start + timedelta(days=1)
    return f"{start.timestamp():.0f},{end.timestamp():.0f},{start.isoformat()},{end.isoformat()}"


def test_openai_s_usage_is_compared_by_model_and_tier(store: Database, tmp_path: Path) -> None:
    session = rows.start(store, provider="openai", model="gpt-5-mini")
    used(store, session, model="gpt-5-mini-2025-08-07", cached=512)
    used(store, session, model="gpt-5-mini-2025-08-07", service_tier="default")
    used(store, session, model="gpt-5-mini-2025-08-07", service_tier="flex", told=70)
    used(store, rows.start(store, provider="anthropic", model="other"), model="other")
    found = reconciled(
        store,
        tmp_path,
        OPENAI_USAGE,
        f"{bucket()},proj_1,1.0,gpt-5-mini-2025-08-07,False,default,1000,100,512.0",
        f"{bucket()},proj_2,1,gpt-5-mini-2025-08-07,False,default,1000,100,0",
        f"{bucket()},proj_1,1,gpt-5-mini-2025-08-07,False,flex,71,100,0",
        f"{bucket(TODAY - timedelta(days=1))},,,,,,,,",
    )
    model = "gpt-5-mini-2025-08-07"
    assert found.provider == "openai"
    assert told(found.lines) == [(model, "flex", False), (model, "standard", True)]
    (flex, _) = found.lines
    assert flex.here is not None
    assert flex.bill is not None
    assert (flex.here.input_tokens, flex.bill.input_tokens) == (70, 71)
    assert not found.agrees


def test_openai_s_costs_are_compared_by_what_they_are_for(store: Database, tmp_path: Path) -> None:
    session = rows.start(store, provider="openai", model="gpt-4o-mini")
    used(store, session, model="gpt-4o-mini-2024-07-18", cost="0.3")
    used(store, session, model="gpt-4o-mini-2024-07-18", cost=None)
    found = reconciled(
        store,
        tmp_path,
        OPENAI_COST,
        f'{bucket()},0.1000000000000000,usd,"gpt-4o-mini-2024-07-18, input",p,o',
        f'{bucket()},0.2000000000000000,usd,"gpt-4o-mini-2024-07-18, output",p,o',
        f"{bucket()},,,,,",
    )
    (line,) = found.lines
    assert (line.model, line.tier, line.agrees) == ("gpt-4o-mini-2024-07-18", None, True)
    assert (line.difference_usd, line.unpriced) == (Decimal(0), 1)
    assert (found.here_usd, found.bill_usd) == (Decimal("0.3"), Decimal("0.3"))
    whole = reconciled(store, tmp_path, OPENAI_COST, f"{bucket()},0.5,usd,,,o")
    assert told(whole.lines) == [(None, None, False)]
    assert whole.lines[0].difference_usd == Decimal("0.2")


def test_what_is_paid_by_the_minute_is_on_our_side_too_also_when_its_session_is_gone(
    store: Database, tmp_path: Path
) -> None:
    session = rows.start(store, provider="openai", model="gpt-5-mini")
    turn = used(store, session, model="whisper-1", told=0, said=0, cost="0.006")
    with store.begin() as conn:
        heard = update(attempts).where(attempts.c.turn_id == turn)
        conn.execute(heard.values(kind="transcribe", asked_model="whisper-1"))
    bill = (OPENAI_COST, f"{bucket()},0.006,usd,whisper-1,p,o")
    assert reconciled(store, tmp_path, *bill).agrees
    with store.begin() as conn:
        remove_sessions(conn, [session])
    assert reconciled(store, tmp_path, *bill).agrees


def test_anthropic_s_usage_is_summed_as_ours_is(store: Database, tmp_path: Path) -> None:
    session = rows.start(store, provider="anthropic", model="claude-sonnet-4-5")
    model = "claude-sonnet-4-5-20250929"
    used(store, session, model=model, told=130_213, cached=128_955, said=700)
    used(store, session, model=model, told=50, said=5, service_tier="batch")
    found = reconciled(
        store,
        tmp_path,
        ANTHROPIC_USAGE,
        f"{TODAY},{model},key,Default,standard,≤ 200k,5,1000,253,128955,700,0,not_available,",
        f"{TODAY},{model},key,Default,batch,≤ 200k,50,0,0,0,5,0,not_available,",
    )
    assert told(found.lines) == [(model, "batch", True), (model, "standard", True)]
    assert found.agrees


def test_anthropic_s_costs_are_known_by_a_model_s_name_for_people(
    store: Database, tmp_path: Path
) -> None:
    session = rows.start(store, provider="anthropic", model="claude-haiku-4-5")
    used(store, session, model="claude-haiku-4-5-20251001", cost="0.0683")
    line = "Default,key,message,≤ 200k"
    found = reconciled(
        store,
        tmp_path,
        ANTHROPIC_COST,
        f"{TODAY},Claude Haiku 4.5,{line},input_no_cache,0.05,0.05,token,not_available,",
        f"{TODAY},Claude Haiku 4.5,{line},output,0.02,0.02,token,not_available,",
    )
    assert told(found.lines) == [("claude-haiku-4-5-20251001", "standard", True)]  # to the cent
    assert found.lines[0].difference_usd == Decimal("0.0017")


def test_what_only_one_side_has_differs(store: Database, tmp_path: Path) -> None:
    used(store, rows.start(store, provider="openai", model="gpt-5"), model="gpt-5")
    found = reconciled(store, tmp_path, "day;model;cost", f"{TODAY};o3;0.5", provider="openai")
    here = [(one.model, one.here is None, one.bill is None) for one in found.lines]
    assert here == [("gpt-5", False, True), ("o3", True, False)]
    assert not found.agrees


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"\xff\xfe\x00", "no UTF-8"),
        (b"date,model,cost_usd\n2026-11-26,\0,1\n", "no text"),
        (b"hello\nworld\n", "no column of days"),
        (b"date,model\n2026-11-26,gpt-5\n", "none of costs or tokens"),
        (b"date,cost_usd,cost_usd\n", "two columns have one name"),
        (b"date,model,cost_usd\n", "no lines"),
        (b"date,model,cost_usd\n2026-11-26,gpt-5\n", "line 2: has 2 fields"),
        (b"date,model,cost_usd\n2026-11-26,gpt-5,much\n", "line 2: cost is no number"),
        (b"date,model,cost_usd\n2026-11-26,gpt-5,NaN\n", "line 2: cost is no number"),
        (b"date,model,cost_usd\nyesterday,gpt-5,1\n", "line 2: its day is none"),
        (b"date,model,cost_usd\n2026-11-26,gpt-5,1E9999999\n", "line 2: cost is no number"),
        (b"date,model,cost_usd\n2026-11-26,gpt-5,0E-9999999\n", "line 2: cost is no number"),
        (b"date,model,cost_usd\n0001-01-01T00:00:00+05:00,gpt-5,1\n", "line 2: its day is none"),
        (b"date,model,cost_usd\n9999-12-31T23:00:00-05:00,gpt-5,1\n", "line 2: its day is none"),
        (b"date,model,input_tokens\n2026-11-26,gpt-5,-1\n", "line 2: input is no whole"),
        (b"date,model,input_tokens\n2026-11-26,gpt-5,1.5\n", "line 2: input is no whole"),
        (b"date,cost_usd,currency\n2026-11-26,1,eur\n", "line 2: the currency is not usd"),
        (b'date,model,cost_usd\n2026-11-26,"gpt"5,1\n', "line 2: no CSV"),
        (b"date;model;cost\n2026-11-26;gpt-5;0,5\n", "line 2: cost is no number"),
        (b'\n\ndate,cost,of\n\n2026-11-26,1,"a\nb"\nno,1,""\n', "line 7: its day is none"),
        (b"provider,date,cost_usd\na,2026-11-26,1\nb,2026-11-26,1\n", "of several providers"),
    ],
)
def test_a_file_that_is_no_bill_is_refused_by_what_is_wrong(
    tmp_path: Path, text: bytes, why: str
) -> None:
    path = tmp_path / "bill.csv"
    path.write_bytes(text)
    provider = None if b"provider" in text else "openai"
    with pytest.raises(InvalidBill, match=why) as refused:
        read_bill(path, provider=provider)
    assert refused.value.hint


def test_whose_bill_it_is_has_to_be_known__and_a_file_that_cannot_be_read_is_named(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bill.csv"
    for model, whose in (("gpt-5", "openai"), ("Claude Opus 4.5", "anthropic")):
        path.write_text(f"date,model,cost\n2026-11-26,{model},1\n", encoding="utf-8")
        assert read_bill(path, provider=None).provider == whose
    path.write_text("date,model,cost\n2026-11-26,llama,1\n", encoding="utf-8")
    with pytest.raises(InvalidBill, match="whose bill"):
        read_bill(path, provider=None)
    for nothing in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(InvalidBill, match="cannot read"):
            read_bill(nothing, provider="openai")


def test_the_last_day_of_all_calendars_is_compared_and_priced_as_any_other(
    store: Database, tmp_path: Path
) -> None:
    last = date.max.isoformat()
    found = reconciled(store, tmp_path, "date,model,cost_usd", f"{last},gpt-5,1", provider="openai")
    assert told(found.lines) == [("gpt-5", None, False)]
    job = Job(price_again(None), first=TODAY, last=date.max, provider=None, dry_run=True)
    with store.begin() as conn:
        assert job.next().on(conn).result == []
        assert job.close().on(conn).result.changed == 0


def test_all_lines_that_are_wrong_are_told_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "bill.csv"
    path.write_text("date,cost\n" + "no,1\n" * 100, encoding="utf-8")
    with pytest.raises(InvalidBill, match="and 17 more") as refused:
        read_bill(path, provider="openai")
    assert [number for number, _ in refused.value.problems] == [*range(2, 22)]


def repriced(store: Database, file: Path | None = None, **options: Any) -> Repricing:
    job = a_job(file, **options)
    with store.begin() as conn:
        while calls := job.next().on(conn).result:
            if priced := job.priced(calls):
                job.add(priced, job.put(priced).on(conn).result)
        return job.close().on(conn).result


def a_job(file: Path | None = None, *, dry_run: bool = False) -> Job:
    first = TODAY - timedelta(days=400)
    return Job(price_again(file), first=first, last=None, provider=None, dry_run=dry_run)


def priced(store: Database, turn: TurnId) -> list[tuple[Decimal | None, str | None]]:
    with store.begin() as conn:
        rows_ = conn.execute(
            select(attempts.c.cost_usd, attempts.c.priced_by).where(attempts.c.turn_id == turn)
        )
        return [(None if cost is None else Decimal(cost), by) for cost, by in rows_]


def own(tmp_path: Path, **prices: float) -> Path:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"openai/ours": prices}))
    return file


def test_calls_without_a_price_get_one_when_it_is_known__and_so_do_all_sums(
    store: Database, tmp_path: Path
) -> None:
    session = rows.start(store, provider="openai", model="ours")
    turn = used(store, session, model="ours", told=1_000_000, said=0, cost=None)
    rich = used(store, session, model="gpt-5-mini", told=1_000_000, said=0, cost="9")
    file = own(tmp_path, input=2, output=8)
    tried = repriced(store, file, dry_run=True)
    assert (tried.seen, tried.changed, tried.written) == (2, 2, False)
    assert priced(store, turn) == [(None, None)]
    found = repriced(store, file)
    assert (found.seen, found.changed, found.unknown, found.uncounted) == (2, 2, 0, 0)
    assert (found.before_usd, found.after_usd) == (Decimal(9), Decimal("2.25"))
    assert priced(store, turn) == [(Decimal(2), "TURNMILL_PRICES openai/ours")]
    with store.begin() as conn:
        record = sessions.get(conn, session)
        costs = conn.scalars(select(turns.c.cost_usd).where(turns.c.id.in_([turn, rich])))
        assert sorted(map(Decimal, costs)) == [Decimal("0.25"), Decimal(2)]
        (line,) = usage.report(conn, first=TODAY, last=TODAY)
    assert (record.cost_usd, record.unpriced_attempts) == (Decimal("2.25"), 0)
    assert (line.cost_usd, line.unpriced_attempts) == (Decimal("2.25"), 0)
    again = repriced(store, file)
    assert (again.seen, again.changed) == (2, 0)


def test_what_could_not_be_reached_is_counted_and_keeps_what_it_had(store: Database) -> None:
    session = rows.start(store, provider="openai", model="ours")
    kept = used(store, session, model="ours", cost="7")
    used(store, session, model="gpt-5", cost=None, told=10)
    unknown = rows.send(store, session)
    rows.run(store, unknown, tokens=(None, None, None), cost=None, model="gpt-5")
    found = repriced(store)
    assert (found.seen, found.changed, found.unknown, found.uncounted) == (3, 1, 1, 1)
    assert [cost for cost, _ in priced(store, kept)] == [Decimal(7)]


def test_days_long_past_are_brought_along_and_those_of_calls_that_are_gone_are_named(
    store: Database, tmp_path: Path
) -> None:
    session = rows.start(store, provider="openai", model="ours")
    long_ago = datetime.now(UTC) - timedelta(days=30)
    removed = rows.start(store, provider="openai", model="ours")
    first, second, third = (
        used(store, of, model="ours", told=1_000_000, said=0, cost=None)
        for of in (session, session, removed)
    )
    day_before = long_ago - timedelta(days=1)
    with store.begin() as conn:
        for turn, ago in ((first, long_ago), (second, day_before), (third, long_ago)):
            conn.execute(update(turns).where(turns.c.id == turn).values(finished_at=ago))
            conn.execute(update(attempts).where(attempts.c.turn_id == turn).values(started_at=ago))
        usage.roll_up(conn)
        remove_sessions(conn, [removed])
    day = long_ago.date()
    found = repriced(store, own(tmp_path, input=2, output=8))
    assert (found.changed, found.unadjusted, found.unreached) == (2, 0, (day,))
    with store.begin() as conn:
        lines = usage.report(conn, first=day - timedelta(days=1), last=day)
    # One of those of the day is gone: what it came to stays, and its price unknown.
    assert [(line.turns, line.cost_usd, line.unpriced_attempts) for line in lines] == [
        (2, Decimal(2), 1),
        (1, Decimal(2), 0),
    ]


def test_a_call_is_priced_by_what_its_vendor_said_each_of_its_parts_at_its_own_price(
    store: Database,
) -> None:
    session = rows.start(store, provider="anthropic", model="claude-sonnet-4-5")
    inner = {"input_tokens": 5, "cache_creation_input_tokens": 1000, "output_tokens": 10}
    lives = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1000}
    said = [
        {"model": "claude-sonnet-4-5", "usage": {**inner, "cache_creation": lives}},
        {"model": "claude-haiku-4-5", "usage": {"input_tokens": 100, "output_tokens": 1}},
    ]
    turn = used(
        store,
        session,
        model="claude-sonnet-4-5",
        told=1105,
        said=11,
        cost=None,
        usage=json.dumps(said),
    )
    assert repriced(store).changed == 1
    # (5 × 3 + 1,000 × 6 + 10 × 15) and (100 × 1 + 1 × 5), for a million
    assert [cost for cost, _ in priced(store, turn)] == [Decimal("0.00627")]


def test_a_call_that_somebody_has_changed_meanwhile_is_left_alone(store: Database) -> None:
    session = rows.start(store, provider="openai", model="gpt-5")
    turn = used(store, session, model="gpt-5", cost=None)
    job = a_job()
    with store.begin() as conn:
        found = job.priced(job.next().on(conn).result)
        conn.execute(update(attempts).values(cost_usd=Decimal(3)))
        job.add(found, job.put(found).on(conn).result)
        done = job.close().on(conn).result
    assert (done.changed, done.busy) == (0, 1)
    assert [cost for cost, _ in priced(store, turn)] == [Decimal(3)]
