"""Vendors whose batches go wrong: no line is lost or paid twice, and no shard stays for ever."""

import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from tests.doubles.batch_desk import Fate
from tests.doubles.hostile_batches import HostileAnthropic, HostileOpenAI, Lines
from tests.native import Stage, shard_states, spent, states
from turnmill import Client
from turnmill.domain.ids import BatchId
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.upkeep.invariants import violations

pytestmark = [pytest.mark.anyio, pytest.mark.long]

_WITHIN = timedelta(seconds=6)
#: What a vendor is asked for again in vain for three seconds, at the pace of these tests.
_LONG = timedelta(seconds=5)


_DOUBLES = {"openai": HostileOpenAI, "anthropic": HostileAnthropic}


@pytest.fixture(params=_DOUBLES)
async def stage(
    request: pytest.FixtureRequest, database: Database, database_url: str
) -> AsyncIterator[Stage]:
    async with _DOUBLES[request.param]() as double:
        yield Stage(database, double, request.param, database_url)


def check_once(stage: Stage, batch: BatchId, lines: int) -> None:
    """Fail unless each line has its reply, and was asked and paid once."""
    assert states(stage.database, batch) == {"succeeded": lines}, shard_states(
        stage.database, batch
    )
    assert (len(stage.double.desk.paid), set(stage.double.desk.paid.values())) == (lines, {1})
    assert spent(stage.database, batch)[1] == lines
    with stage.database.single() as conn:
        assert violations(conn) == []


_CUTS: dict[str, Callable[[Lines], Lines | None]] = {
    "one half": lambda lines: lines[: len(lines) // 2],
    "within a line": lambda lines: [b"".join(lines)[:-50]],
    "nothing": lambda _: [],
    "not there": lambda _: None,
}


@pytest.mark.parametrize("cut", _CUTS)
async def test_results_that_are_not_all_there_yet_are_waited_for(stage: Stage, cut: str) -> None:
    stage.double.served = lambda lines, n: _CUTS[cut](lines) if n < 3 else lines
    batch = stage.submit(20)
    await stage.polled(within=_WITHIN)
    check_once(stage, batch, 20)


async def test_a_batch_that_has_ended_and_names_no_results_yet_is_looked_at_again(
    stage: Stage,
) -> None:
    stage.double.unnamed = 3
    batch = stage.submit(20)
    await stage.polled(within=_WITHIN)
    check_once(stage, batch, 20)


@pytest.mark.parametrize("cut", ["one half", "not there"])
async def test_lines_whose_results_never_come_run_by_themselves_in_the_end(
    stage: Stage, cut: str
) -> None:
    stage.double.served = lambda lines, _: _CUTS[cut](lines)
    batch = stage.submit(4)
    await stage.polled(within=_LONG)
    had = {"succeeded": 2} if cut == "one half" else {}
    assert states(stage.database, batch) == had | {"retrying": 4 - len(had) * 2}
    # What it ran after all is looked for a while yet: see test_results_told_late.
    assert {one[:2] for one in shard_states(stage.database, batch)} == {("taken", "unread")}


async def test_rows_that_come_twice_or_are_nobodys_change_nothing(stage: Stage) -> None:
    ids = ("nobody", str(new_id()), "", 7, None, "x" * 5_000, "\ud800")
    junk = [b"null\n", b"[]\n", b"\n", b"{\n", b"\xff\n", b'{"custom_id": []}\n']

    def served(lines: Lines, _: int) -> Lines:
        some = json.loads(lines[0])
        odd = [json.dumps(some | {"custom_id": one}).encode() + b"\n" for one in ids]
        return [*junk, *lines, *odd, *lines, *junk]

    stage.double.served = served
    batch = stage.submit(20)
    await stage.polled(within=_WITHIN)
    check_once(stage, batch, 20)


async def test_a_row_longer_than_any_reply_is_left_out_and_the_others_are_taken(
    stage: Stage,
) -> None:
    long = b'{"custom_id": "' + b"x" * (17 * 2**20) + b'"}\n'
    stage.double.served = lambda lines, _: [long, *lines]
    batch = stage.submit(3)
    await stage.polled(within=_WITHIN)
    check_once(stage, batch, 3)


#: What is in a row beside its id: OpenAI's, and Anthropic's.
_ODD: list[dict[str, Any]] = [
    {"response": None, "error": None, "result": None},
    {"response": {"status_code": "200"}, "error": [], "result": {"type": "errored", "error": None}},
    {"response": {"status_code": 200, "body": "hi"}, "error": "x", "result": {"type": ["x"]}},
    {"response": {"status_code": 200, "body": None}, "result": {"type": "succeeded"}},
    {"response": {"status_code": 400, "body": None}, "result": {"type": "a canary\u2028"}},
    {"error": {"code": "a canary", "message": "canary"}, "result": {"type": "a canary"}},
]


async def test_a_row_that_says_nothing_is_about_its_line_alone(stage: Stage) -> None:
    def served(lines: Lines, _: int) -> Lines:
        rows = [{"custom_id": json.loads(line)["custom_id"]} for line in lines]
        odd = [json.dumps(row | one).encode() + b"\n" for row, one in zip(rows, _ODD, strict=False)]
        return odd + lines[len(odd) :]

    stage.double.served = served
    batch = stage.submit(len(_ODD) + 2)
    await stage.polled(within=_WITHIN)
    found = states(stage.database, batch)
    assert found["succeeded"] == 2
    assert found["failed"] + found["retrying"] == len(_ODD)
    with Client(database_url=stage.url) as client:
        codes = {one.error_code for one in client.batches.get(batch).iter_results()} - {None}
    assert codes <= {"batch_line_unanswered", "unreadable_reply", "http_400"}


_UNHEARD: dict[str, Callable[[], web.Response]] = {
    "no JSON": lambda: web.Response(text='{"id": "half', content_type="application/json"),
    "no batch": lambda: web.json_response({}),
    "no object": lambda: web.json_response([]),
    "a failure": lambda: web.json_response({"error": {"message": "Oops."}}, status=500),
}


@pytest.mark.parametrize("unheard", _UNHEARD)
async def test_a_batch_that_was_begun_with_an_answer_that_nobody_can_read_is_begun_once(
    stage: Stage, unheard: str
) -> None:
    stage.double.answers_begin = _UNHEARD[unheard]
    batch = stage.submit(3)
    await stage.polled(within=_WITHIN)
    check_once(stage, batch, 3)


@pytest.mark.parametrize("hours", [-2, 2])
async def test_a_batch_that_was_begun_unheard_is_found_by_a_clock_that_is_hours_apart(
    stage: Stage, hours: int
) -> None:
    stage.double.ahead = timedelta(hours=hours)
    stage.double.answers_begin = _UNHEARD["a failure"]
    batch = stage.submit(3)
    await stage.polled(within=_WITHIN)
    check_once(stage, batch, 3)


@pytest.mark.parametrize("line", [99, 10**12])
async def test_a_shard_that_is_refused_for_lines_that_it_does_not_have_is_not_made_again(
    database: Database, database_url: str, line: int
) -> None:
    async with HostileOpenAI() as double:
        stage = Stage(database, double, "openai", database_url)
        wrong = Fate(ends="failed", errors=[("invalid_json_line", line)])
        double.desk.fates.extend([wrong] * 9)
        batch = stage.submit(4)
        await stage.polled(within=timedelta(seconds=1))
        assert states(database, batch) == {"queued": 4}
        assert len(double.desk.batches) == 1


async def test_a_key_that_is_revoked_while_a_batch_runs_loses_nothing(stage: Stage) -> None:
    stage.double.desk.takes = 3600.0
    batch = stage.submit(3)
    await stage.polled(within=timedelta(seconds=0.3))
    stage.double.always = "bad_key"
    stage.double.desk.takes = 0.0
    await stage.polled(within=timedelta(seconds=1))
    assert states(stage.database, batch) == {"waiting": 3}
    stage.double.always = ""
    with Client(database_url=stage.url) as client:
        assert client.accounts.open(provider=stage.name) == 1  # it is closed for all
    await stage.polled(within=_WITHIN)
    check_once(stage, batch, 3)


async def test_a_batch_that_its_vendor_does_not_know_for_a_while_is_asked_for_again(
    stage: Stage,
) -> None:
    stage.double.unknown = 3  # as with a key of another project, or right after it was begun
    batch = stage.submit(20)
    await stage.polled(within=_WITHIN)
    check_once(stage, batch, 20)


async def test_a_batch_that_is_known_again_before_it_has_ended_is_waited_for(stage: Stage) -> None:
    stage.double.desk.takes = 1.0
    stage.double.unknown = 2
    batch = stage.submit(20)
    await stage.polled(within=_WITHIN)
    check_once(stage, batch, 20)


async def test_a_batch_that_was_deleted_at_its_vendor_runs_by_itself_in_the_end(
    stage: Stage,
) -> None:
    stage.double.unknown = 1_000
    batch = stage.submit(4)
    await stage.polled(within=_LONG)
    assert states(stage.database, batch) == {"retrying": 4}
    # What it ran after all is looked for a while yet: see test_results_told_late.
    assert {one[:2] for one in shard_states(stage.database, batch)} == {("taken", "unread")}


async def test_a_batch_that_has_ended_and_counts_nothing_yet_is_looked_at_again(
    stage: Stage,
) -> None:
    stage.double.unnamed = stage.double.uncounted = 3
    batch = stage.submit(20)
    await stage.polled(within=_WITHIN)
    check_once(stage, batch, 20)


async def test_a_batch_that_was_begun_unheard_is_found_in_a_list_that_begins_with_the_oldest(
    stage: Stage,
) -> None:
    stage.double.have_old(120)
    stage.double.desk.lists_oldest_first = True
    stage.double.answers_begin = _UNHEARD["a failure"]
    batch = stage.submit(3)
    await stage.polled(within=_WITHIN)
    check_once(stage, batch, 3)
