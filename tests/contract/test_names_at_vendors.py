"""Who of several people says something, as each vendor is told."""

from typing import Any

import pytest

from tests.contract.rigs import a_request
from tests.ledgers import stored
from tests.validators import openai_chat, openai_responses
from turnmill.domain.content import TEXT_ONLY, Image, Message, Sender, Text
from turnmill.store.compaction_records import SaidTurn
from turnmill_worker.layers.summary import _transcript
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.fitting import fitted
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.pairing import name_of_tool
from turnmill_worker.providers.port import Request

SAID = (
    Message("user", (Sender("bob"), Text("Where?"))),
    Message.of("assistant", "There."),
    Message("user", (Sender("Zoë <K>"), Text("When?"))),
)
PICTURE = Image(id="a", sha256="0" * 64, media_type="image/png")


def asked(names: str | None, *, takes: Any = OpenAIProvider.accepts, **given: Any) -> Request:
    """Return a request as a provider is given it: the last message, and those before as history."""
    settings = {} if names is None else {"names": names}
    given = {"messages": SAID[2:], "history": stored(list(SAID[:2])), **given}
    return fitted(a_request(settings=settings, **given), name="openai", takes=takes)


def words(request: Request) -> list[str]:
    return [one.text for one in (*request.history, *request.messages)]


@pytest.mark.parametrize("names", [None, "prefix"])
def test_names_stand_in_front_of_the_words_unless_something_else_is_said(names: str | None) -> None:
    request = asked(names)
    assert words(request) == ["bob: Where?", "There.", "Zoë <K>: When?"]
    body = responses.body_of(request, chain=False)
    assert openai_responses.violations(body) == []
    assert "names" not in body and "bob: Where?" in str(body["input"])
    assert "name" not in str(chat.body_of(request)["messages"])
    plain = asked(names, takes=TEXT_ONLY)
    assert [one["role"] for one in messages.body_of(plain)["messages"]] == [
        *("user", "assistant", "user")
    ]
    assert "Zoë <K>: When?" in str(messages.body_of(plain)["messages"])


def test_a_field_of_the_vendors_holds_them_where_it_has_one() -> None:
    body = chat.body_of(asked("field"))
    assert openai_chat.violations(body) == []
    first, reply, last = body["messages"]
    assert (first["name"], first["content"]) == ("bob", "Where?")
    assert ("name" in reply, last["content"]) == (False, "When?")
    assert last["name"].startswith("Zo___K__") and last["name"] != name_of_tool("Zoé <K>")


def test_where_a_vendor_has_none_they_stand_in_the_words_all_the_same() -> None:
    body = responses.body_of(asked("field"), chain=False)
    assert openai_responses.violations(body) == []
    assert "bob: Where?" in str(body["input"])
    assert "Zoë <K>: When?" in str(body["input"])
    assert words(asked("field", takes=TEXT_ONLY)) == ["bob: Where?", "There.", "Zoë <K>: When?"]


def test_nobody_is_named_where_that_is_wanted() -> None:
    assert words(asked("none")) == ["Where?", "There.", "When?"]
    assert all(len(one.parts) == 1 for one in asked("none").messages)


@pytest.mark.parametrize(
    ("names", "first"), [("prefix", "user: bob: Where?"), ("none", "user: Where?")]
)
def test_a_summary_is_made_of_who_said_what(names: str, first: str) -> None:
    told = _transcript([SaidTurn(seq=1, messages=SAID)], None, names=names)
    assert told.split("\n\n")[0] == first


def test_who_sends_a_picture_alone_is_named_before_it() -> None:
    message = Message("user", (Sender("bob"), PICTURE))
    request = asked("prefix", messages=[message], history=())
    assert request.messages == [Message("user", (Text("bob:"), PICTURE))]
