"""Which layers stand around a call: registered by an operator, chosen by a session, by name."""

from typing import Any

import pytest

from tests.claims import a_claim
from tests.hostile import SECRET
from tests.ledgers import FakeLedger, deps_of
from turnmill.domain.errors import InvalidInput, InvalidSetting
from turnmill.domain.states import TurnState
from turnmill.verbs.intake import session_options
from turnmill_worker import plugins
from turnmill_worker.layers import registered
from turnmill_worker.layers.call import Call, Go, Layer
from turnmill_worker.layers.registered import Named
from turnmill_worker.providers.boundary import Answer
from turnmill_worker.providers.parameters import vendor_parameters
from turnmill_worker.providers.port import Done, Request
from turnmill_worker.turn.run import run_claim

pytestmark = pytest.mark.anyio

KINDS = ("send", "check")


async def says(request: Request) -> Done:
    return Done(text=request.text)


async def test_a_session_chooses_by_name_among_what_the_operator_lets_it_choose() -> None:
    ran: list[str] = []

    def layer(name: str) -> Layer:
        async def notes(call: Call, go: Go) -> Answer:
            ran.append(name)
            return await go(call)

        return notes

    layers = [
        Named(name="audit", layer=layer("audit")),
        Named(name="redact", layer=layer("redact"), opt_in=True),
        Named(name="limit", layer=layer("limit"), opt_in=True),
    ]
    deps = deps_of(FakeLedger(), says, layers=layers)
    settings: list[dict[str, Any]] = [
        {},
        {"layers": []},
        {"layers": ["limit", "redact"]},
        {"layers": ["audit"]},
    ]
    for chosen in settings:
        await run_claim(a_claim(settings=chosen), deps)
        ran.append(".")
    assert ran == ["audit", ".", "audit", ".", "audit", "redact", "limit", ".", "audit", "."]


@pytest.mark.parametrize(
    ("chosen", "code"),
    [
        (["os:system"], "unknown_layer"),
        (["tests.unit.test_choosing_layers:says"], "unknown_layer"),
        (["nobody"], "unknown_layer"),
        ("redact", "setting_refused"),
        ([["redact"]], "setting_refused"),
        ({"redact": 1}, "setting_refused"),
    ],
)
async def test_a_row_imports_nothing_and_a_name_that_is_not_registered_fails_its_turn(
    chosen: Any, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "import_module", lambda _: pytest.fail("imported"))
    ledger = FakeLedger()
    await run_claim(a_claim(settings={"layers": chosen}), deps_of(ledger, says))
    verdict = ledger.settled[-1]
    assert (verdict.state, verdict.error_code) == (TurnState.FAILED, code)


@pytest.mark.parametrize(
    "value",
    ["redact", ["Redact"], ["a=b:c"], ["os:system"], ["x" * 41], [""], [1], ["a"] * 33, {"a": 1}],
)
def test_a_client_takes_names_of_layers_and_nothing_else(value: Any) -> None:
    with pytest.raises(InvalidInput, match="'layers'"):
        session_options(settings={"layers": value}, max_text_bytes=10)


def test_a_client_takes_what_may_be_the_name_of_a_layer() -> None:
    settings = {"layers": ["redact", "limit_2"]}
    assert session_options(settings=settings, max_text_bytes=10) == {"settings": settings}
    assert session_options(settings={"layers": None}, max_text_bytes=10)


def test_the_choice_of_layers_is_no_parameter_of_a_vendor() -> None:
    settings = {"layers": ["redact"], "temperature": 1}
    assert vendor_parameters(settings, reserved=frozenset()) == {"temperature": 1}


async def test_a_chain_is_put_together_once_for_each_choice() -> None:
    layers = [Named(name=f"l{n}", layer=lambda call, go: go(call), opt_in=True) for n in range(9)]
    chains = deps_of(FakeLedger(), says, layers=layers).chains

    def chain(names: object, **settings: object) -> object:
        return chains.of(a_claim(settings={"layers": names, **settings}))

    assert chain(["l1", "l2"]) is chain(["l2", "l1"])
    assert chain(None) is chain([])
    assert chain(None) is not chain(None, on_context_full="truncate")
    for number in range(2**9):
        chain([f"l{n}" for n in range(9) if number >> n & 1])
    assert len(chains._chosen) <= 100


def test_an_operator_registers_layers_by_dotted_path_in_order() -> None:
    path = f"{__name__}:a_layer"
    found = registered.registered(f" audit={path} , redact?={path},")
    assert [(one.name, one.opt_in) for one in found] == [("audit", False), ("redact", True)]
    assert all(one.layer is passes_on for one in found)
    assert registered.registered("") == ()


async def passes_on(call: Call, go: Go) -> Answer:
    return await go(call)


def a_layer() -> Layer:
    return passes_on


def breaks_when_made() -> Layer:
    raise SystemExit(SECRET)


@pytest.mark.parametrize(
    "listed",
    [
        "nobody",
        "No Name",
        "a=b",
        "a=:b",
        f"a={__name__}:nothing",
        "a=nowhere.at_all:layer",
        f"a={__name__}:KINDS",
        f"a={__name__}:breaks_when_made",
        f"a={__name__}:a_layer,a={__name__}:a_layer",
        ",".join(f"l{n}={__name__}:a_layer" for n in range(33)),
    ],
)
def test_a_layer_that_is_not_there_is_a_typed_error_with_a_hint(listed: str) -> None:
    with pytest.raises(InvalidSetting, match="TURNMILL_LAYERS") as caught:
        registered.registered(listed)
    assert caught.value.hint and SECRET not in str(caught.value)
