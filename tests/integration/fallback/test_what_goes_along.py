"""What goes along to another vendor, and what is told of it afterwards."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner

from tests.doubles.both_vendors import BothVendors
from tests.falling_back import MODELS, NAMES, WAIT, a_session, told, who
from turnmill import Client, InvalidInput, TurnFailed
from turnmill.cli.commands import send as send_command
from turnmill.cli.commands import sessions as sessions_command
from turnmill.cli.commands import turns as turns_command
from turnmill.store.analytics import usage


@pytest.mark.parametrize("own", sorted(MODELS))
def test_the_whole_history_goes_along_and_comes_back(
    client: Client, vendors: BothVendors, own: str
) -> None:
    session = a_session(client, own)
    for n in range(2):
        assert f"[{2 * n} before]" in told(client, session, f"own {n}").text
    vendors.of(own).meet("overloaded")
    assert "[4 before]" in told(client, session, "other").text
    assert client.sessions.get(session).provider_ref == ""
    back = told(client, session, "own again")
    assert (back.answered_by, back.answered_because) == (NAMES[own], None)
    assert "[6 before]" in back.text
    assert "[8 before]" in told(client, session, "and again").text
    if own == "openai":
        body = vendors.asked("openai")[-1].body
        assert "previous_response_id" not in vendors.asked("openai")[-2].body
        assert "previous_response_id" in body


def test_nothing_is_kept_at_a_vendor_that_answers_for_another_one(
    client: Client, vendors: BothVendors
) -> None:
    vendors.anthropic.always = "overloaded"
    session = a_session(client, "anthropic")
    told(client, session)
    assert vendors.asked("openai")[-1].body["store"] is False
    assert client.sessions.kept(session).count == 0


def test_settings_of_the_sessions_own_vendor_are_not_put_to_another_one(
    client: Client, vendors: BothVendors
) -> None:
    vendors.openai.always = "overloaded"
    session = a_session(
        client,
        settings={"reasoning": {"effort": "low"}, "max_output_tokens": 77, "thread": "chain"},
        fallback=[
            {
                "provider": "anthropic",
                "model": MODELS["anthropic"],
                "settings": {"stop_sequences": ["END"]},
            }
        ],
    )
    told(client, session)
    body = vendors.asked("anthropic")[-1].body
    assert (body["max_tokens"], body["stop_sequences"]) == (77, ["END"])
    assert "reasoning" not in body and "fallback" not in body


def test_a_stream_that_breaks_off_begins_anew_with_who_answers(
    client: Client, vendors: BothVendors
) -> None:
    vendors.openai.meet("stream_cut")
    turn = client.send(a_session(client), "a few words to be cut", stream=True)
    kinds: list[str] = []
    text = ""
    for event in turn.stream(timeout=WAIT):
        kinds.append(event.kind.value)
        if event.kind.value in ("attempt_started", "attempt_restarted"):
            text = ""
        text += event.text if event.kind.value == "delta" else ""
    reply = turn.result(timeout=WAIT)
    assert reply.answered_by == NAMES["anthropic"]
    assert text == reply.text
    assert "attempt_restarted" in kinds[1:]


def test_the_steps_of_a_turn_go_along_and_none_is_taken_twice(
    client: Client, vendors: BothVendors
) -> None:
    script = {"calls": [["weather", {"city": "Rome"}]], "faults": ["overloaded"], "at_step": 2}
    session = client.sessions.create(
        user_id="ada", tools=["weather"], fallback=[NAMES["anthropic"], NAMES["openai"]]
    )
    vendors.anthropic.meet("server_error")
    turn = client.send(session, "Hello", metadata={"mock": script})
    reply = turn.result(timeout=WAIT)
    assert (reply.answered_by, reply.answered_because) == (NAMES["openai"], "overloaded")
    assert [one.state for one in turn.tool_calls()] == ["done"]
    for vendor in MODELS:
        assert "sunny in Rome" in json.dumps(vendors.asked(vendor)[-1].body)
    assert who(reply) == ["mock", "mock", "anthropic", "openai"]
    assert "[4 before]" in told(client, session, "again").text


def test_the_form_of_a_reply_goes_along(client: Client, vendors: BothVendors) -> None:
    vendors.openai.always = "overloaded"
    vendors.anthropic.says = lambda _: '{"city": "Rome"}'
    form = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    try:
        reply = told(client, a_session(client, response_format=form))
    finally:
        vendors.anthropic.says = lambda _: ""
    assert (json.loads(reply.text), reply.answered_by) == ({"city": "Rome"}, NAMES["anthropic"])
    assert "output_config" in vendors.asked("anthropic")[-1].body


def test_cost_and_tokens_are_reported_by_who_answered(client: Client, vendors: BothVendors) -> None:
    today = datetime.now(UTC).date()
    before = _usage(client, today)
    vendors.openai.meet("server_error")
    reply = told(client, a_session(client))
    after = _usage(client, today)

    def more(vendor: str, figure: str) -> Any:
        return after[NAMES[vendor]][figure] - before.get(NAMES[vendor], {}).get(figure, 0)

    assert [more(one, "succeeded") for one in ("openai", "anthropic")] == [0, 1]
    assert [more(one, "turns") for one in ("openai", "anthropic")] == [0, 1]
    assert more("anthropic", "cost_usd") == reply.cost_usd != 0
    assert more("openai", "cost_usd") == 0
    assert more("anthropic", "retries") == 1
    assert more("anthropic", "output_tokens") == reply.usage.output_tokens


def test_targets_are_given_and_taken_back_while_a_session_goes_on(
    client: Client, vendors: BothVendors
) -> None:
    session = a_session(client, fallback=None, settings={"timeout": 5})
    vendors.openai.always = "no_such_model"
    with pytest.raises(TurnFailed):
        told(client, session)
    changed = client.sessions.update(session, fallback=[NAMES["anthropic"]])
    assert changed.settings["timeout"] == 5
    assert told(client, session).answered_by == NAMES["anthropic"]
    assert "fallback" not in client.sessions.update(session, fallback=None).settings
    with pytest.raises(TurnFailed):
        told(client, session)


def test_a_provider_that_is_not_installed_is_refused_with_those_that_are(client: Client) -> None:
    with pytest.raises(InvalidInput, match="antropic") as caught:
        a_session(client, fallback=["antropic/claude-sonnet-4-5"])
    assert "anthropic" in (caught.value.hint or "")


def test_the_command_line_sends_with_targets_and_shows_who_answered(
    client: Client, vendors: BothVendors
) -> None:
    vendors.openai.always = "overloaded"
    wanted = ["Hello", "--provider", "openai", "--model", MODELS["openai"], "--wait", "--json"]
    found = json.loads(_run(send_command.command, *wanted, "--fallback", NAMES["anthropic"]))
    assert (found["answered_by"], found["answered_because"]) == (
        NAMES["anthropic"],
        "server_overloaded",
    )
    assert [one["provider"] for one in found["attempts"]] == ["openai", "anthropic"]
    shown = _run(turns_command.command, "show", found["id"])
    assert f"answered by {NAMES['anthropic']}, because of server_overloaded" in shown
    assert "anthropic claude-sonnet-4-5" in _run(
        sessions_command.command, "show", found["session_id"]
    )


def _run(command: Any, *arguments: str) -> str:
    found = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


def _usage(client: Client, day: Any) -> dict[str, dict[str, Any]]:
    with client._executor.database.begin() as conn:
        usage.roll_up(conn)
        rows = usage.report(conn, first=day, last=day)
    figures = ("turns", "succeeded", "retries", "output_tokens", "cost_usd")
    return {
        f"{one.provider}/{one.model}": {name: getattr(one, name) for name in figures}
        for one in rows
    }
