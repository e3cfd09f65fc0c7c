"""Templates through a client: versions stay, sessions keep what they took, folders are synced."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests import rows, steps
from turnmill import (
    AsyncClient,
    Client,
    Conflict,
    InvalidInput,
    MoveRefused,
    SessionRecord,
    Settings,
    TemplateNotFound,
    TurnState,
)

PROMPT = "You help customers of {product}. Be {tone}."


@pytest.fixture(params=["postgres", "memory"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "sqlite://"
    return str(request.getfixturevalue("database_url"))


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(database_url=url) as client:
        yield client


def put(client: Client, **options: object) -> str:
    given: dict[str, object] = {"system_prompt": PROMPT, "variables": {"tone": "kind"}}
    return client.templates.put("support", **given | options).ref  # type: ignore[arg-type]


def test_a_session_is_made_as_the_template_says_and_says_from_which(client: Client) -> None:
    put(
        client,
        provider="mock",
        model="large",
        settings={"temperature": 0.5, "latency": 1},
        metadata={"team": "red"},
        on_failure="pause",
        max_attempts=2,
        idle_ttl=timedelta(days=3),
        tools=["weather"],
        layers=["log"],
        fallback=["mock/small"],
        max_cost_usd=5,
    )
    session = client.sessions.create(
        user_id="ada",
        template="support",
        variables={"product": "Turnmill"},
        settings={"temperature": 0.9},
        metadata={"ticket": 7},
        max_attempts=3,
    )
    assert session.system_prompt == "You help customers of Turnmill. Be kind."
    assert (session.template, session.template_version) == ("support", 1)
    assert (session.model, session.on_failure, session.max_attempts) == ("large", "pause", 3)
    assert session.settings == {
        "temperature": 0.9,
        "latency": 1,
        "tools": ["weather"],
        "layers": ["log"],
        "fallback": [{"provider": "mock", "model": "small"}],
    }
    assert session.metadata == {"team": "red", "ticket": 7}
    assert session.idle_ttl == timedelta(days=3)
    assert client.budgets.get(session=session).limit_usd == 5


def test_what_is_given_goes_before_what_the_template_says(client: Client) -> None:
    put(client, tools=["weather"], model="large", max_cost_usd=5)
    session = client.sessions.create(
        user_id="ada",
        template="support",
        variables={"product": "x", "tone": "curt"},
        provider="openai",
        model="gpt-5",
        tools=["time"],
        system_prompt="Other.",
        max_cost_usd="0.5",
    )
    assert (session.provider, session.model, session.system_prompt) == ("openai", "gpt-5", "Other.")
    assert session.settings == {"tools": ["time"]}
    assert client.budgets.get(session=session).limit_usd * 2 == 1


@pytest.mark.parametrize("live", [20, pytest.param(1000, marks=pytest.mark.long)])
def test_live_sessions_keep_the_version_that_they_were_made_from(
    live: int, database_url: str
) -> None:
    with Client(database_url=database_url) as client:
        change_under(client, live)


def change_under(client: Client, live: int) -> None:
    put(client)
    made = [
        client.sessions.create(user_id=f"u{n}", template="support", variables={"product": "x"})
        for n in range(live)
    ]
    assert put(client, system_prompt="You are done with {product}. Be {tone}.") == "support@2"
    fresh = client.sessions.create(user_id="u", template="support", variables={"product": "x"})
    old = client.sessions.create(user_id="u", template="support@1", variables={"product": "x"})
    assert fresh.system_prompt == "You are done with x. Be kind."
    assert old.system_prompt == made[0].system_prompt
    found: list[SessionRecord] = []
    page = client.templates.sessions("support@1", limit=300)
    while page:
        found += page
        page = client.templates.sessions("support@1", after=page[-1].id, limit=300)
    assert {one.id for one in found} == {one.id for one in (*made, old)}
    assert {one.system_prompt for one in found} == {"You help customers of x. Be kind."}
    assert client.templates.uses("support") == {2: 1, 1: live + 1}
    turn = client.send(made[live // 2], "hello")
    claim = steps.take_one(client._executor.database, turn.id)
    assert claim.system_prompt == "You help customers of x. Be kind."


def test_versions_are_listed_compared_and_rolled_back(client: Client) -> None:
    put(client, note="first")
    put(client, model="large", note="larger")
    assert put(client, model="large", note="again") == "support@2"  # it says just that already
    diff = client.templates.diff("support@1")
    assert [(one.path, one.before, one.after) for one in diff.changes] == [("model", None, "large")]
    assert '+model: "large"' in diff.text.splitlines()
    back = client.templates.roll_back("support", to=1)
    assert (back.ref, back.is_current) == ("support@1", True)
    assert client.templates.get("support").version == 1
    assert client.templates.get("support@2").is_current is False
    assert put(client, model="larger still") == "support@3"
    assert [one.version for one in client.templates.versions("support")] == [3, 2, 1]
    assert [one.note for one in client.templates.versions("support", before=3)] == [
        "larger",
        "first",
    ]
    client.templates.put("another")
    assert [one.ref for one in client.templates.list()] == ["another@1", "support@3"]


def test_what_is_not_there_or_not_whole_makes_no_session(client: Client) -> None:
    put(client)
    for template in ("nobody", "support@9"):
        with pytest.raises(TemplateNotFound):
            client.sessions.create(user_id="ada", template=template)
    with pytest.raises(TemplateNotFound):
        client.templates.roll_back("support", to=9)
    with pytest.raises(InvalidInput, match="needs variables: product"):
        client.sessions.create(user_id="ada", template="support")
    with pytest.raises(InvalidInput):
        client.sessions.create(user_id="ada", variables={"product": "x"})
    with pytest.raises(InvalidInput, match="versions of two templates"):
        client.templates.diff("support@1", "other@2")
    with pytest.raises(InvalidInput, match="thread"):
        client.templates.put("odd", settings={"thread": "nowhere"})
    assert client.sessions.list() == []


def test_opening_messages_are_history_and_what_nobody_has_answered_is_sent(client: Client) -> None:
    put(
        client,
        opening=[
            {"role": "assistant", "content": "Hello {name}!"},
            {"role": "user", "content": "Who are you?"},
            {"role": "assistant", "content": "Help for {product}."},
            {"role": "user", "content": "Introduce yourself."},
        ],
    )
    given = {"product": "Turnmill", "name": "{product}"}
    session = client.sessions.create(user_id="ada", template="support", variables=given, key="k")
    again = client.sessions.create(user_id="ada", template="support", variables=given, key="k")
    assert again.id == session.id
    assert (session.turns_succeeded, session.unfinished) == (2, 1)
    states = [turn.state for turn in client.turns.list(session=session)]
    assert states[1:] == [TurnState.SUCCEEDED, TurnState.SUCCEEDED]
    said = [(one.role, one.text) for one in client.sessions.history(session)][:4]
    assert said == [
        ("assistant", "Hello {product}!"),
        ("user", "Who are you?"),
        ("assistant", "Help for Turnmill."),
        ("user", "Introduce yourself."),
    ]


def test_a_thread_that_is_adopted_is_not_opened_anew(client: Client) -> None:
    client.templates.put("t", opening=[{"role": "assistant", "content": "Hello!"}])
    with pytest.raises(InvalidInput):
        client.sessions.create(
            user_id="ada", template="t", provider="openai", model="m", adopt="resp_1"
        )
    assert client.sessions.list() == []


def test_versions_that_are_put_at_once_have_numbers_of_their_own(database_url: str) -> None:
    with Client(database_url=database_url) as client, ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: client.templates.put("t", model=f"m{n}"), range(24)))
        assert sorted(one.version for one in made) == list(range(1, 25))
        assert client.templates.get("t").version == 24


def test_a_folder_is_synced_whole_or_not_at_all(client: Client, tmp_path: Path) -> None:
    (tmp_path / "support.yaml").write_text(
        "# of the help desk\nmodel: large\nsystem_prompt: |\n  You help {who}.\n  Be brief.\n"
        "idle_ttl: 86400\nsettings:\n  temperature: 0.2\nvariables:\n  who: everybody\n"
        "opening:\n  - {role: assistant, content: Hello!}\nfallback: [mock/small]\n"
    )
    (tmp_path / "sales.yml").write_text("model: mock\n")
    (tmp_path / "notes.txt").write_text("not for us")
    client.templates.put("elsewhere")
    dry = client.templates.sync(tmp_path, dry_run=True)
    assert [(one.record.ref, one.is_new) for one in dry.put] == [
        ("sales@1", True),
        ("support@1", True),
    ]
    assert [one.ref for one in client.templates.list()] == ["elsewhere@1"]
    done = client.templates.sync(tmp_path)
    assert [one.is_new for one in done.put] == [True, True]
    assert done.only_in_store == ["elsewhere"]
    assert [one.is_new for one in client.templates.sync(tmp_path).put] == [False, False]
    session = client.sessions.create(user_id="ada", template="support")
    assert session.system_prompt == "You help everybody.\nBe brief.\n"
    assert session.idle_ttl == timedelta(days=1)

    (tmp_path / "sales.yml").write_text("model: larger\n")
    (tmp_path / "support.yaml").write_text("modle: mock\n")
    with pytest.raises(InvalidInput, match=r"support.yaml: there is no modle"):
        client.templates.sync(tmp_path)
    assert client.templates.get("sales").version == 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"a: [1, 2", "no YAML at line"),
        (b"\xff\xfe: 1", "no UTF-8"),
        (b"- model", "no mapping"),
        (b"", "no mapping"),
        (b"model: a\nmodel: b\n", "a key twice at line 2"),
        (b"settings: &a {x: 1}\nmetadata: *a\n", "an alias at line 2"),
        (b"model: !!python/object/apply:os.system ['true']\n", "no YAML at line 1"),
        (b"1: 2\n", "a key that is no text"),
        (b"idle_ttl: soon\n", "idle_ttl"),
        (b"idle_ttl: 99999999999999999999\n", "idle_ttl"),
        (b"settings: " + b"[" * 3000 + b"]" * 3000, "no YAML"),
        (b"model: " + b"x" * 1_600_000, "longer than"),
        (b"metadata: {day: 2026-11-26}\nprovider: [x]\n", "provider must be"),
    ],
)
def test_a_file_that_does_not_mean_one_thing_is_named_with_the_place(
    content: bytes, what: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    with Client(database_url="sqlite://") as client:
        with pytest.raises(InvalidInput, match=rf"bad\.yaml: .*{what}") as refused:
            client.templates.sync(tmp_path)
        assert refused.value.hint
        with pytest.raises(InvalidInput):
            client.templates.sync(tmp_path / "nowhere")


def test_the_same_is_done_on_a_loop(url: str, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("system_prompt: Be {tone}.\n")

    async def work() -> None:
        async with AsyncClient(database_url=url) as client:
            await client.templates.sync(tmp_path)
            session = await client.sessions.create(
                user_id="ada", template=await client.templates.get("t"), variables={"tone": "kind"}
            )
            assert session.system_prompt == "Be kind."
            made = await client.schedules.create(session, "hi", cron="@daily", key="k")
            with pytest.raises(Conflict):
                await client.schedules.create(session, "hi", cron="@hourly", key="k")
            assert (await client.schedules.pause(made)).paused
            assert len((await client.schedules.resume(made)).next_runs()) == 5
            assert [one.id for one in await client.schedules.list(session=session)] == [made.id]
            await client.schedules.delete(made)

    asyncio.run(work())


def test_what_a_user_says_in_the_opening_counts_as_his_messages(database_url: str) -> None:
    settings = Settings(database_url=database_url, max_unfinished_per_user=1)
    with Client(settings=settings) as client:
        client.templates.put("t", opening=[{"role": "user", "content": "Hello?"}] * 2)
        with pytest.raises(Exception, match="unfinished"):
            client.sessions.create(user_id="ada", template="t")
        assert client.sessions.list() == []
        client.templates.put("t", opening=[{"role": "user", "content": "Hello?"}])
        session = client.sessions.create(user_id="ada", template="t")
        rows.run(client._executor.database, client.turns.list(session=session)[0].id)


def test_what_is_told_of_sessions_and_how_long_their_words_are_kept_is_the_templates_to_say(
    client: Client,
) -> None:
    put(
        client, observers=["crm"], keep_content=timedelta(days=3), variables=None, system_prompt="x"
    )
    made = client.sessions.create(user_id="ada", template="support")
    assert (made.settings["observers"], made.keep_content) == (["crm"], timedelta(days=3))
    own = client.sessions.create(
        user_id="ada", template="support", observers=["log"], keep_content=timedelta(days=1)
    )
    assert (own.settings["observers"], own.keep_content) == (["log"], timedelta(days=1))


def test_a_template_is_forgotten_with_all_its_versions_unless_sessions_say_its_name(
    client: Client,
) -> None:
    put(client)
    put(client, model="large")
    session = client.sessions.create(
        user_id="ada", template="support@1", variables={"product": "x"}
    )
    with pytest.raises(InvalidInput):
        client.templates.remove("support@1")
    with pytest.raises(MoveRefused):
        client.templates.remove("support")
    client.sessions.delete(session)
    client.templates.remove("support")
    assert client.templates.list() == []
    for gone in (client.templates.get, client.templates.remove, client.templates.versions):
        with pytest.raises(TemplateNotFound):
            gone("support")
    assert put(client) == "support@1"


def test_a_fork_may_cost_what_its_session_may_unless_that_is_said(client: Client) -> None:
    session = client.sessions.create(user_id="ada", max_cost_usd=5)
    limits = {"same": {}, "other": {"max_cost_usd": 2}, "none": {"max_cost_usd": None}}
    forks = {
        client.sessions.fork(session, key=key, **options).id: key  # type: ignore[arg-type]
        for key, options in limits.items()
    }
    found = {
        forks[budget.session_id]: (budget.limit_usd, budget.spent_usd)
        for budget in client.budgets.list()
        if budget.session_id in forks
    }
    assert found == {"same": (Decimal(5), Decimal(0)), "other": (Decimal(2), Decimal(0))}
    client.sessions.fork(session, key="same")
    assert len(client.budgets.list()) == 3
