"""The tab in Flower, over HTTP: what it shows, to whom, and what can be done from there."""

import json
import re
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tests.flower.seeds import dead_letters, every_cause, ids, run, said_everywhere
from tests.flower.stage import Visitor
from turnmill import Client
from turnmill.show.why_view import in_a_line
from turnmill_worker.stack.process import wait_until

OVER = timedelta(seconds=60)
CANARY = "canary-7f3e11"
_TIMES = re.compile(r"\b(in )?\d[\d.,]* ?(ms|s|min|h|d)\b( ago)?|\d\d:\d\d:\d\d\.\d+")


def timeless(words: str) -> str:
    """Leave out what is another moment a moment later."""
    return " ".join(_TIMES.sub("*", words).split())


def test_each_cause_of_waiting_is_named_as_turns_why_names_it(
    operator: Visitor, client: Client, store_url: str
) -> None:
    causes = every_cause(client, store_url)
    told = {name: in_a_line(client.turns.get(turn).why()) for name, turn in causes.items()}
    assert len(set(map(timeless, told.values()))) == len(causes) >= 12
    overview, listed = operator.fresh("/turnmill"), operator.fresh("/turnmill/waiting")
    assert (overview.status, listed.status) == (200, 200)
    for page in (overview, listed):
        shown = timeless(page.words)
        assert [name for name, words in told.items() if timeless(words) not in shown] == []
    for name, turn in causes.items():
        page = operator.fresh(f"/turnmill/turn/{turn}")
        assert timeless(told[name]) in timeless(page.words), name
    groups = operator.json("/turnmill/api/overview")["main"]["value"]["groups"]
    assert {one["reason"] for one in groups} == {
        {"no_worker": "due"}.get(name, name) for name in causes
    }


def test_numbers_are_those_of_the_store_at_that_moment(
    operator: Visitor, client: Client, store_url: str
) -> None:
    every_cause(client, store_url)
    dead_letters(client, store_url, sessions=3, each=4)
    dead_letters(client, store_url, sessions=2, each=1, code="context_full")
    assert wait_until(lambda: is_read(operator), timeout=OVER)
    told = operator.json("/turnmill/api/overview")
    count = "SELECT count(*) FROM turnmill.turns WHERE "
    ((running,),) = run(store_url, count + "state = 'running'")
    ((open_,),) = run(store_url, count + "finished_at IS NULL")
    lanes = told["main"]["value"]["lanes"]
    assert sum(one["running"] for one in lanes) == running == 1
    assert sum(one["turns"] for one in told["main"]["value"]["groups"]) == open_
    assert {one["code"]: one["turns"] for one in told["ended"]["value"]} == {
        "overloaded": 12,
        "context_full": 2,
    }
    metrics = operator.get("/metrics").text
    for line in (
        'turnmill_board_dead{code="overloaded"} 12.0',
        'turnmill_board_dead{code="context_full"} 2.0',
        'turnmill_board_running{lane="interactive"} 1.0',
        'turnmill_board_waiting{reason="held"} 1.0',
        "turnmill_board_up 1.0",
    ):
        assert line in metrics


def is_read(operator: Visitor) -> bool:
    told = operator.json("/turnmill/api/overview")
    return bool(told["main"]["fresh"] and told["ended"]["fresh"])


def test_what_was_said_is_on_no_page_in_no_json_and_in_no_metric(
    operator: Visitor, client: Client, store_url: str, tmp_path: object
) -> None:
    session = client.sessions.create(
        user_id=CANARY, key=CANARY, system_prompt=CANARY, metadata={CANARY: CANARY}
    )
    turn = client.send(session, CANARY, idempotency_key=CANARY, metadata={CANARY: CANARY})
    fields = {"native_ref": CANARY, "custom_id": CANARY, "step_ref": CANARY}
    for name, word in fields.items():
        run(store_url, f"UPDATE turnmill.turns SET {name} = %s", word)
    run(store_url, "UPDATE turnmill.sessions SET provider_ref = %s", CANARY)
    run(
        store_url,
        "INSERT INTO turnmill.attempts (turn_id, fence, n, kind, worker, error_detail,"
        " provider_request_id) VALUES (%s, 1, 1, 'send', 'w:1', %s, 'req_77')",
        turn.id,
        CANARY,
    )
    run(
        store_url,
        "INSERT INTO turnmill.tool_calls (turn_id, position, session_id, step, call_id, tool,"
        " effects, state, decision) VALUES (%s, 2, %s, 1, %s, %s, 'none', 'done', %s)",
        turn.id,
        session.id,
        CANARY,
        CANARY,
        json.dumps({"by": CANARY}),
    )
    batch = uuid4()
    run(
        store_url,
        "INSERT INTO turnmill.batches (id, name, content_hash, metadata) VALUES (%s, %s, 'x', %s)",
        batch,
        CANARY,
        json.dumps({CANARY: CANARY}),
    )
    others = ("sessions.metadata", "sessions.key", "sessions.provider_ref", "turns.metadata")
    said = {*others, *(f"turns.{name}" for name in fields), "batches.name", "batches.metadata"}
    assert len(said | set(said_everywhere(store_url, turn, CANARY))) > 20
    paths = ["", "/waiting", "/failed", "/batches", f"/turn/{turn.id}", f"/session/{session.id}"]
    api = [f"/turnmill/api{path or '/overview'}" for path in paths]
    acts = [f"/turnmill/act?verb=cancel&turn={turn.id}"]
    for path in [*(f"/turnmill{path}" for path in paths), *api, *acts, "/metrics"]:
        answer = operator.get(path)
        assert answer.status == 200, path
        assert CANARY not in answer.text, path
    assert "req_77" in operator.get(f"/turnmill/turn/{turn.id}").text
    assert str(session.id) in operator.get(f"/turnmill/sessions?user={CANARY}").text


def test_a_closed_account_is_shown_until_when_and_why(operator: Visitor, store_url: str) -> None:
    run(
        store_url,
        "INSERT INTO turnmill.accounts (id, kind, provider, account, model, code, closed_at,"
        " closed_until) VALUES (gen_random_uuid(), 'account', 'openai', 'a1b2', '',"
        " 'insufficient_quota', now(), now() + interval '2 hours')",
    )
    words = operator.get("/turnmill").words
    assert "Accounts that are closed" in words
    for word in ("openai", "a1b2", "insufficient_quota", "in 1 h"):
        assert word in words
    run(store_url, "UPDATE turnmill.accounts SET closed_at = NULL")
    assert "None: every account takes calls." in operator.get("/turnmill").words


def test_what_is_paused_is_said_though_nothing_waits(operator: Visitor, client: Client) -> None:
    client.lanes.pause(lane="bulk")
    assert "lane bulk paused" in operator.get("/turnmill").words


@pytest.mark.parametrize(("number", "each"), [(5, 4), pytest.param(50, 10, marks=pytest.mark.slow)])
def test_dead_letters_of_many_sessions_run_again_once_and_in_their_order(
    operator: Visitor, client: Client, store_url: str, number: int, each: int
) -> None:
    sessions = dead_letters(client, store_url, sessions=number, each=each)
    preview = operator.get("/turnmill/act?verb=retry&state=dead")
    assert f"Retry {number * each} turns of {number} sessions?" in preview.words
    form = operator.form("/turnmill/act?verb=retry&state=dead")
    with ThreadPoolExecutor(2) as clicks:
        first, second = clicks.map(lambda _: operator.send("/turnmill/act", form), range(2))
    assert first.headers["Location"] == second.headers["Location"]
    done = over(operator, first.headers["Location"])
    assert (done["total"], done["done"], done["passed"], done["refused"]) == (
        number * each,
        number * each,
        0,
        {},
    )
    # Whoever asks again by the same preview, another Flower say, finds nothing left.
    assert "Retry 0 turns" in operator.get("/turnmill/act?verb=retry&state=dead").words
    lines: dict[UUID, list[str]] = {}
    for session, said in run(
        store_url,
        "SELECT t.session_id, m.content -> 0 ->> 'text' FROM turnmill.turns t"
        " JOIN turnmill.messages m ON m.turn_id = t.id WHERE t.state = 'queued' ORDER BY 1, t.seq",
    ):
        lines.setdefault(session, []).append(said)
    assert lines == {one: [f"line {n}" for n in range(each)] for one in sessions}


def over(visitor: Visitor, location: str) -> dict[str, object]:
    """Return what became of an act, once it is over."""
    path = "/turnmill/api/acts/" + location.rpartition("/")[2]
    assert wait_until(lambda: bool(visitor.json(path)["over"]), timeout=OVER)
    found: dict[str, object] = visitor.json(path)
    return found


def test_one_turn_is_retried_and_cancelled_from_its_page(
    operator: Visitor, client: Client, store_url: str
) -> None:
    (session,) = dead_letters(client, store_url, sessions=1, each=1)
    (turn,) = ids(run(store_url, "SELECT id FROM turnmill.turns"))
    assert f"verb=retry&amp;turn={turn}" in operator.get(f"/turnmill/turn/{turn}").text
    operator.act(f"/turnmill/act?verb=retry&turn={turn}")
    assert client.turns.get(turn).state == "queued"
    operator.act(f"/turnmill/act?verb=cancel&turn={turn}")
    assert client.turns.get(turn).state == "cancelled"
    assert client.sessions.get(session).unfinished == 0


def test_lanes_providers_and_sessions_are_paused_and_resumed(
    operator: Visitor, client: Client
) -> None:
    session = client.sessions.create(user_id="ada")
    for kind, name in (("lane", "bulk"), ("provider", "mock"), ("session", str(session.id))):
        operator.act(f"/turnmill/act?verb=pause&kind={kind}&name={name}")
    paused = client.lanes.paused()
    assert (set(paused.lanes), set(paused.providers)) == ({"bulk"}, {"mock"})
    assert client.sessions.get(session).status == "paused"
    for kind, name in (("lane", "bulk"), ("provider", "mock"), ("session", str(session.id))):
        operator.act(f"/turnmill/act?verb=resume&kind={kind}&name={name}")
    assert not client.lanes.paused().lanes and not client.lanes.paused().providers
    assert client.sessions.get(session).status == "active"


def test_what_another_site_has_sent_is_refused(
    operator: Visitor, client: Client, store_url: str
) -> None:
    dead_letters(client, store_url, sessions=1, each=1)
    form = operator.form("/turnmill/act?verb=retry&state=dead")
    bare = {name: value for name, value in form.items() if name != "_xsrf"}
    stranger = Visitor(operator.base)  # the same login, and no cookie of ours
    forged = [
        operator.send("/turnmill/act", bare),
        operator.send("/turnmill/act", {**bare, "_xsrf": "2|0a0b0c0d|00|1"}),
        operator.send("/turnmill/act", form, Origin="https://evil.example"),
        operator.send("/turnmill/act", form, Sec_Fetch_Site="cross-site"),
        operator.send("/turnmill/act", form, Sec_Fetch_Site="same-site"),
        stranger.send("/turnmill/act", form),
    ]
    assert [one.status for one in forged] == [403] * len(forged)
    assert ids(run(store_url, "SELECT state FROM turnmill.turns")) == ["dead"]
    assert operator.send("/turnmill/act", form, Sec_Fetch_Site="same-origin").status == 303


def test_a_viewers_login_looks_and_does_not_act(
    operator: Visitor, viewer: Visitor, client: Client, store_url: str
) -> None:
    dead_letters(client, store_url, sessions=1, each=1)
    page = viewer.get("/turnmill")
    assert page.status == 200 and "overloaded" in page.text
    assert "verb=retry" not in page.text and "verb=retry" in operator.get("/turnmill").text
    form = operator.form("/turnmill/act?verb=retry&state=dead")
    as_viewer = Visitor(operator.base, viewer.login, operator.cookies)
    assert viewer.get("/turnmill/act?verb=retry&state=dead").status == 403
    assert as_viewer.send("/turnmill/act", form).status == 403
    assert as_viewer.send("/api/worker/shutdown/w@x", {}).status == 403
    assert as_viewer.send(f"/api/task/revoke/{uuid4()}", {}).status == 403
    assert ids(run(store_url, "SELECT state FROM turnmill.turns")) == ["dead"]


@pytest.mark.parametrize("between", ["\t", " \t ", "\xa0", "\x85"])
def test_a_viewer_is_one_however_the_login_is_written(
    operator: Visitor, viewer: Visitor, client: Client, store_url: str, between: str
) -> None:
    dead_letters(client, store_url, sessions=1, each=1)
    form = operator.form("/turnmill/act?verb=retry&state=dead")
    nameless = Visitor(operator.base, "", operator.cookies)
    login = f"Basic{between}{b64encode(viewer.login.encode()).decode()}"
    page = nameless.send("/turnmill", Authorization=login)
    assert page.status == 200  # Flower lets it in
    assert "verb=retry" not in page.text
    for path in ("/turnmill/act", "/api/task/send-task/x", "/api/task/send-task/x/tasks/datatable"):
        assert nameless.send(path, form, Authorization=login).status == 403, path
    assert ids(run(store_url, "SELECT state FROM turnmill.turns")) == ["dead"]


def test_nobody_looks_without_a_login(operator: Visitor) -> None:
    nobody = Visitor(operator.base, login="")
    wrong = Visitor(operator.base, login="olga:guessed")
    for path in ("/turnmill", "/turnmill/api/overview", f"/turnmill/turn/{uuid4()}", "/metrics"):
        assert nobody.get(path).status == wrong.get(path).status == 401, path


def test_what_does_not_exist_is_not_found_and_what_is_odd_is_refused(operator: Visitor) -> None:
    for path, status in (
        (f"/turnmill/turn/{uuid4()}", 404),
        (f"/turnmill/session/{uuid4()}", 404),
        ("/turnmill/turn/" + "z" * 36, 404),
        ("/turnmill/failed?after=nonsense", 404),
        ("/turnmill/waiting?reason=" + "x" * 300, 400),
        ("/turnmill/act?verb=drop", 400),
        ("/turnmill/act?verb=cancel", 400),
        ("/turnmill/act?verb=pause&kind=lane&name=nowhere", 400),
        ("/turnmill/acts/" + "0" * 24, 404),
        ("/turnmill/static/..%2f..%2fguarding.py", 403),
        ("/turnmill/", 200),
    ):
        answer = operator.get(path)
        assert answer.status == status, path
        assert "Traceback" not in answer.text


def test_every_list_is_gone_through_by_its_pages(
    operator: Visitor, client: Client, store_url: str
) -> None:
    dead_letters(client, store_url, sessions=60, each=1)
    for _ in range(60):
        client.send(client.sessions.create(user_id="ada"), "x")
    for first, wanted in (
        ("/turnmill/api/failed", "state = 'dead'"),
        ("/turnmill/api/waiting", "state = 'queued'"),
        ("/turnmill/api/sessions?user=ada", ""),
    ):
        found = list(gone_through(operator, first))
        table = f"turnmill.turns WHERE {wanted}" if wanted else "turnmill.sessions"
        assert len(found) == len(set(found))
        assert set(found) == {str(one) for one in ids(run(store_url, f"SELECT id FROM {table}"))}


def gone_through(operator: Visitor, path: str) -> list[str]:
    """Return the ids of all pages."""
    found: list[str] = []
    while path:
        told = operator.json(path.removeprefix("/ops"))
        found += [one["id"] for one in told["main"]["value"][0]]
        path = told["next"] or ""
    return found


def test_flowers_own_pages_lead_to_the_tab(operator: Visitor) -> None:
    page = operator.get("/workers").text
    assert 'href="/ops/turnmill"' in page
    assert operator.get("/turnmill/static/turnmill.css").status == 200
    assert "no-store" in operator.get("/turnmill").headers["Cache-Control"]


@pytest.mark.parametrize("what", ["turn", "session", "user"])
def test_what_is_typed_into_the_field_is_found(
    operator: Visitor, client: Client, what: str
) -> None:
    turn = client.send(client.sessions.create(user_id="ada lovelace"), "x")
    typed, path = {
        "turn": (str(turn.id), f"/ops/turnmill/turn/{turn.id}"),
        "session": (str(turn.session_id), f"/ops/turnmill/session/{turn.session_id}"),
        "user": ("ada+lovelace", "/ops/turnmill/sessions?user=ada+lovelace"),
    }[what]
    assert operator.get(f"/turnmill/find?q={typed}").headers["Location"] == path
