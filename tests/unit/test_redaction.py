"""Personal data is kept from vendors: placeholders leave, and the reply has the data again."""

import asyncio
import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.claims import a_claim
from tests.hostile import SECRET
from tests.ledgers import FakeLedger, deps_of, stored
from turnmill.domain.content import File, Message, Native, Text, ToolCall, ToolOutput, text_of
from turnmill.domain.errors import InvalidSetting, ProviderError, Rejected
from turnmill.domain.states import TurnState
from turnmill.store.records import Settlement
from turnmill_worker.layers import Answer, Call, Done, Found, Layer, Redactor, Request
from turnmill_worker.layers.holding import Holding
from turnmill_worker.layers.personal_data import BUILT_IN
from turnmill_worker.layers.placeholders import Placeholders
from turnmill_worker.layers.redaction import Redaction, from_env, redaction
from turnmill_worker.layers.registered import Named
from turnmill_worker.providers.port import NotNow, Running
from turnmill_worker.turn.run import run_claim

pytestmark = pytest.mark.anyio

KEY = b"sixteen letters."
PLACEHOLDER = re.compile(r"\[([A-Z_]+)_[0-9a-f]{8}\]")


def layer(*redactors: Redactor, **options: Any) -> Layer:
    found = redactors or tuple(BUILT_IN.values())
    return redaction(Redaction(redactors=found, key=KEY, **options))


def hidden(text: str, *kinds: str) -> str:
    """Return the text with the kinds of what was found in it."""
    finders = [BUILT_IN[one] for one in kinds or BUILT_IN]
    names = Placeholders(finders, key=KEY, session="s")
    made = names.hide(text)
    assert names.restore(made) == text
    return PLACEHOLDER.sub(lambda found: f"<{found[1]}>", made)


FOUND = {
    "ada@example.com": "<EMAIL>",
    "Write to Ada.Lovelace+news@mail.example.co.uk, please.": "Write to <EMAIL>, please.",
    "o'brien@example.ie (mailto:x_1@y-z.de)": "<EMAIL> (mailto:<EMAIL>)",
    "müller@bücher.example": "<EMAIL>",
    "+49 170 1234567": "<PHONE>",
    "Call +1-202-555-0143 or (555) 123-4567.": "Call <PHONE> or <PHONE>.",
    "0049 (0)30 1234-567, 030/1234567, 07700 900123": "<PHONE>, <PHONE>, <PHONE>",
    "01701234567": "<PHONE>",
    "DE89 3704 0044 0532 0130 00": "<IBAN>",
    "to DE89370400440532013000 AND then": "to <IBAN> AND then",
    "gb82 west 1234 5698 7654 32.": "<IBAN>.",
    "NO9386011117947": "<IBAN>",
    "AB12 3456 7890 1234 DE89 3704 0044 0532 0130 00 GB82 WEST 1234 5698 7654 32": (
        "AB12 3456 7890 1234 <IBAN> <IBAN>"
    ),
    "4111 1111 1111 1111": "<CARD>",
    "card 4111-1111-1111-1111 12/27": "card <CARD> 12/27",
    "5555555555554444,378282246310005": "<CARD>,<CARD>",
    "12 4111 1111 1111 1111": "12 <CARD>",
    "from 192.168.0.17, and 10.0.0.1.": "from <IP>, and <IP>.",
    "2001:db8::8a2e:370:7334 fe80::1": "<IP> <IP>",
}
NOT_FOUND = (
    "ada at example.com, @ada, a@b, x@y.",
    "2026-11-26 18:30:45, 12:30:45, 01/02/2026, 26.11.2026",
    "order 12345678, version 3.14.15, $1,234,567.89, 100%",
    "4111 1111 1111 1112, 1234567890123456",
    "DE89370400440532013001 and XX89370400440532013000",
    "999.1.1.1, 1.2.3, std::vector, a::b",
    "[1] see [EMAIL] and __init__",
)


@pytest.mark.parametrize("text", FOUND)
def test_what_says_something_of_a_person_is_found(text: str) -> None:
    assert hidden(text) == FOUND[text]


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert hidden(text) == text


@pytest.mark.parametrize(
    "text",
    ["a" * 300_000, "a." * 150_000, "1 " * 150_000, "@" * 300_000, "+1" * 150_000, "(0" * 150_000,
     "DE12 " * 60_000, "1111" * 75_000, "a@" + "b." * 150_000, ":" * 300_000, "1.1." * 75_000],
)  # fmt: skip
def test_a_text_that_was_made_to_be_slow_is_not(text: str) -> None:
    began = time.process_time()
    for find in BUILT_IN.values():
        list(find(text))
    assert time.process_time() - began < 10


def test_a_value_bears_one_name_in_its_session_and_another_one_in_others() -> None:
    finders = [BUILT_IN["email"]]
    here, again, there, other_key = (
        Placeholders(finders, key=key, session=session).hide("ada@example.com bob@example.com")
        for key, session in ((KEY, "a"), (KEY, "a"), (KEY, "b"), (b"another key of us", "a"))
    )
    assert here == again
    assert len({*here.split(), *there.split(), *other_key.split()}) == 6


def test_what_overlaps_is_hidden_as_one_and_nothing_of_it_is_left() -> None:
    def first(text: str) -> Iterator[Found]:
        yield Found(0, 5, "ONE")

    def second(text: str) -> Iterator[Found]:
        yield Found(3, 8, "TWO")

    names = Placeholders([first, second], key=KEY, session="s")
    made = names.hide("abcdefghij")
    assert PLACEHOLDER.sub("*", made) == "*ij"
    assert names.restore(made) == "abcdefghij"


class Vendor:
    """Notes what it is sent, and answers with what it is told to."""

    def __init__(self, say: Any = None) -> None:
        self.say = say or (lambda request: Done(text=f"You said {request.text}"))
        self.seen: list[Request] = []

    async def send(self, request: Request, emit: Any = None) -> Any:
        self.seen.append(request)
        return self.say(request)

    check = send

    def saw(self) -> str:
        return repr([(one.parts, one.text) for r in self.seen for one in (*r.history, *r.messages)])


async def settled(vendor: Vendor, made: Layer, **claim: Any) -> Settlement:
    ledger = FakeLedger()
    deps = deps_of(
        ledger, vendor.send, check=vendor.check, layers=[Named(name="redact", layer=made)]
    )
    await run_claim(a_claim(**claim), deps)
    return ledger.settled[-1]


async def test_a_vendor_is_sent_placeholders_and_the_reply_is_stored_with_the_data() -> None:
    vendor = Vendor()
    said = [Message.of("user", "I am ada@example.com, card 4111 1111 1111 1111")]
    found = await settled(vendor, layer(), messages=said, system_prompt="Ask +49 170 1234567")
    assert found.state is TurnState.SUCCEEDED
    assert "ada@example.com" in text_of(found.replies[-1].parts)
    (request,) = vendor.seen
    assert PLACEHOLDER.sub("*", request.text) == "I am *, card *"
    assert PLACEHOLDER.sub("*", request.system_prompt or "") == "Ask *"
    assert said[0].text == "I am ada@example.com, card 4111 1111 1111 1111"


def called(request: Request, **options: Any) -> Call:
    claim = a_claim(session_id=request.session_id)
    values: dict[str, Any] = {"claim": claim, "request": request, "kind": "send"}
    return Call(**values | {"holding": Holding(claim)} | options)


def asked(*messages: Message, history: Sequence[Message] = (), **options: Any) -> Request:
    claim = a_claim(session_id=options.pop("session_id", uuid4()))
    values: dict[str, Any] = {name: getattr(claim, name) for name in ("turn_id", "session_id")}
    values |= {"attempt": 1, "fence": 1, "model": "m", "messages": messages, "history": history}
    return Request(**values | options)


async def through(made: Layer, call: Call, answer: Any) -> tuple[Answer, Request]:
    seen: list[Request] = []

    async def go(inner: Call) -> Answer:
        seen.append(inner.request)
        found: Answer = await answer(inner) if callable(answer) else answer
        return found

    return await made(call, go), seen[-1]


async def test_calls_of_tools_get_the_data_and_the_model_never_does() -> None:
    arguments = json.dumps({"to": "ada@example.com", "n": 4111111111111111, "deep": [{"x": 1.5}]})
    history = [
        Message("assistant", [ToolCall(id="c", name="mail", arguments=arguments)]),
        Message("tool", [ToolOutput(call_id="c", output='{"sent": "ada@example.com"}')]),
    ]
    said = Message("user", [Text("Again"), File(id="f", name="ada@example.com.pdf")])

    async def calls(call: Call) -> Answer:
        name = PLACEHOLDER.search(call.request.history[1].parts[0].output)  # type: ignore[union-attr]
        assert name is not None
        call_again = json.dumps({"to": name[0]})
        return Done(parts=[ToolCall(id="d", name="mail", arguments=call_again)])

    answer, sent = await through(layer(), called(asked(said, history=history)), calls)
    assert "ada@example.com" not in repr([one.parts for one in (*sent.history, *sent.messages)])
    made = json.loads(sent.history[0].parts[0].arguments)  # type: ignore[union-attr]
    assert PLACEHOLDER.fullmatch(made["to"])
    assert PLACEHOLDER.fullmatch(made["n"])
    assert made["deep"] == [{"x": 1.5}]
    assert "ada@" not in sent.messages[0].parts[1].name  # type: ignore[union-attr]
    assert isinstance(answer, Done)
    (call,) = answer.parts
    assert isinstance(call, ToolCall)
    assert json.loads(call.arguments) == {"to": "ada@example.com"}


async def test_arguments_without_personal_data_and_a_vendors_own_items_go_as_they_came() -> None:
    odd, item = '{ "a" : 1.0 }', Native(provider="openai", item='{"x": "ada@example.com"}')
    said = Message("assistant", [ToolCall(id="c", name="t", arguments=odd), item])
    broken = Message("assistant", [ToolCall(id="d", name="t", arguments="{ada@example.com")])
    _, sent = await through(layer(), called(asked(said, broken)), Done(text="yes"))
    assert sent.messages[0].parts[0].arguments == odd  # type: ignore[union-attr]
    assert sent.messages[0].parts[1] == item
    assert sent.messages[1].parts[0].arguments.startswith("{[EMAIL_")  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_a_reply_that_streams_is_told_with_the_data_however_it_is_cut(size: int) -> None:
    told: list[str] = []

    async def emit(piece: str) -> None:
        told.append(piece)

    async def streams(call: Call) -> Answer:
        name = call.request.text
        reply = f"[EM {name} [{name}] {name.strip('[]')}, [EMAIL_ {name[:-1]}! {name}"
        assert call.emit is not None
        for at in range(0, len(reply), size):
            await call.emit(reply[at : at + size])
        return Done(text=reply)

    call = called(asked(Message.of("user", "ada@example.com")), emit=emit)
    answer, _ = await through(layer(), call, streams)
    ada = "ada@example.com"
    assert isinstance(answer, Done)
    assert answer.text == f"[EM {ada} [{ada}] {ada}, [EMAIL_ [{ada}! {ada}"
    assert "".join(told) == answer.text


async def test_a_thread_of_the_vendors_is_left_for_the_whole_history() -> None:
    vendor = Vendor()
    found = await settled(vendor, layer(), provider_ref="resp_1")
    assert found.state is TurnState.SUCCEEDED
    assert [one.thread_ref for one in vendor.seen] == [""]


async def test_a_reply_that_is_asked_for_later_is_restored_too() -> None:
    request = asked(Message.of("user", "ada@example.com"))
    _, sent = await through(layer(), called(request), Running(native_ref="bg"))
    late = called(asked(*request.messages, session_id=request.session_id), kind="check")
    answer, _ = await through(layer(), late, Done(text=f"Hi {sent.text}"))
    assert isinstance(answer, Done)
    assert answer.text == "Hi ada@example.com"


@pytest.mark.parametrize("thread", ["", "resp_1"])
async def test_one_that_was_made_in_the_background_is_restored_from_what_was_said_before(
    thread: str,
) -> None:
    past = [Message.of("user", "I am ada@example.com"), Message.of("assistant", "Hi.")]
    waiting = a_claim(
        kind="resume",
        native_ref="resp_2",
        provider_ref=thread,
        messages=[Message.of("user", "Who am I?")],
        history=stored([] if thread else past),
    )
    names = Placeholders([BUILT_IN["email"]], key=KEY, session=str(waiting.session_id))
    vendor = Vendor(lambda _: Done(text=f"You are {names.hide('ada@example.com')}."))
    ledger = FakeLedger(past=past)
    named = Named(name="redact", layer=layer())
    deps = deps_of(ledger, vendor.send, check=vendor.check, layers=[named])
    await run_claim(waiting, deps)
    assert ledger.settled[-1].text == "You are ada@example.com."
    assert len(vendor.seen) == 1


async def test_what_is_no_reply_passes_as_it_is() -> None:
    for answer in (Running(native_ref="bg"), NotNow(until=timedelta(1), waits_for="x")):
        found, _ = await through(layer(), called(asked(Message.of("user", "hi"))), answer)
        assert found is answer


async def test_files_can_be_refused() -> None:
    said = Message("user", [Text("See"), File(id="f", name="a.pdf")])
    with pytest.raises(Rejected) as refused:
        await through(layer(refuse_files=True), called(asked(said)), Done(text="yes"))
    assert refused.value.error_code == "file_not_redacted"


def breaks(text: str) -> Iterator[Found]:
    raise ValueError(SECRET)


def lies(text: str) -> Iterator[Found]:
    yield Found(0, 10_000, "X")


def leaves(text: str) -> Iterator[Found]:
    sys.exit(SECRET)


@pytest.mark.parametrize("redactor", [breaks, lies, leaves])
async def test_a_redactor_that_fails_lets_nothing_pass_and_is_tried_again(
    redactor: Redactor,
) -> None:
    vendor = Vendor()
    found = await settled(vendor, layer(redactor))
    assert (found.state, found.error_code) == (TurnState.RETRYING, "redaction_failed")
    assert vendor.seen == []
    assert SECRET not in str(found)


async def test_redactors_that_hang_keep_none_of_the_threads_that_rows_are_written_on() -> None:
    forever = threading.Event()

    def hangs(text: str) -> Iterator[Found]:
        forever.wait()
        yield from ()

    stuck = layer(hangs, within=timedelta(seconds=0.01))
    found = await asyncio.gather(*(settled(Vendor(), stuck) for _ in range(40)))
    assert {one.error_code for one in found} == {"redaction_failed"}
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "written"), 20) == "written"
    forever.set()


def test_variables_say_what_is_found(tmp_path: Path) -> None:
    assert len(from_env({}).redactors) == len(BUILT_IN)
    assert from_env({}).key != from_env({}).key
    file = tmp_path / "patterns.toml"
    file.write_text('tax-id = "\\\\b\\\\d{3}-\\\\d{2}-\\\\d{4}\\\\b"\n')
    chosen = from_env(
        {
            "TURNMILL_REDACT": "email,mine=tests.unit.test_redaction:make",
            "TURNMILL_REDACT_PATTERNS": str(file),
            "TURNMILL_REDACT_KEY": KEY.decode(),
            "TURNMILL_REDACT_FILES": "refuse",
        }
    )
    assert (len(chosen.redactors), chosen.key, chosen.refuse_files) == (3, KEY, True)
    names = Placeholders(chosen.redactors, key=KEY, session="s")
    found = PLACEHOLDER.sub(
        lambda found: f"<{found[1]}>", names.hide("a@b.de 123-45-6789 Ada 192.168.0.1")
    )
    assert found == "<EMAIL> <TAX_ID> <NAME> 192.168.0.1"


def make() -> Redactor:
    return lambda text: (Found(*one.span(), "NAME") for one in re.finditer("Ada", text))


@pytest.mark.parametrize(
    ("variable", "value", "content"),
    [
        ("TURNMILL_REDACT", "email,nobody", None),
        ("TURNMILL_REDACT_KEY", "short", None),
        ("TURNMILL_REDACT_FILES", "drop", None),
        ("TURNMILL_REDACT_PATTERNS", "", "x = 7"),
        ("TURNMILL_REDACT_PATTERNS", "", 'x = "("'),
        ("TURNMILL_REDACT_PATTERNS", "", '"a b" = "x"'),
        ("TURNMILL_REDACT_PATTERNS", "", "x ="),
        ("TURNMILL_REDACT_PATTERNS", "/nowhere", None),
    ],
)
def test_what_cannot_be_is_refused_when_the_worker_starts(
    variable: str, value: str, content: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "patterns.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidSetting, match=variable):
        from_env({variable: value or str(file)})


async def test_an_error_of_the_provider_stays_what_it_is() -> None:
    async def refuses(call: Call) -> Answer:
        raise Rejected("x")

    with pytest.raises(ProviderError, match="x"):
        await through(layer(), called(asked(Message.of("user", "hi"))), refuses)
