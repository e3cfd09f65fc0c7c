"""How long a reply may be goes by several names: it is what was said last, by any of them."""

from typing import Any

import pytest

from tests.claims import a_claim
from turnmill.domain.reply_limits import laid_over
from turnmill.domain.session_settings import merged_settings
from turnmill.store.records import Claim
from turnmill_worker.gates.limits import _tokens_of
from turnmill_worker.layers import Done, Request
from turnmill_worker.layers.call import Call
from turnmill_worker.layers.defaults import defaults
from turnmill_worker.layers.holding import Holding
from turnmill_worker.layers.targets import aimed
from turnmill_worker.native.saying import _request_of
from turnmill_worker.providers.anthropic.messages import body_of as to_anthropic
from turnmill_worker.providers.openai.chat import body_of as to_chat
from turnmill_worker.turn.attempt import request_of

pytestmark = pytest.mark.anyio
OURS, THEIRS, NEWER = "max_output_tokens", "max_tokens", "max_completion_tokens"


def call_of(claim: Claim) -> Call:
    return Call(claim=claim, request=request_of(claim), kind="send", holding=Holding(claim))


@pytest.mark.parametrize(
    ("below", "own", "found"),
    [
        ({THEIRS: 4000, "n": 1}, {OURS: 100}, {OURS: 100, "n": 1}),
        ({OURS: 4000}, {NEWER: 100}, {NEWER: 100}),
        ({OURS: 4000, THEIRS: 3000}, {THEIRS: 100, "n": 2}, {THEIRS: 100, "n": 2}),
        ({THEIRS: 4000}, {"n": 1}, {THEIRS: 4000, "n": 1}),
        ({THEIRS: 4000, OURS: 100}, {THEIRS: None}, {THEIRS: None, OURS: 100}),
        ({}, {OURS: 100}, {OURS: 100}),
    ],
)
def test_who_says_how_long_a_reply_may_be_says_all_of_it(
    below: dict[str, Any], own: dict[str, Any], found: dict[str, Any]
) -> None:
    assert laid_over(below, own) == found


async def sent(default: dict[str, Any], own: dict[str, Any], *, provider: str) -> Request:
    """Return what a provider is asked, of a session with its own settings over a default."""
    seen: list[Request] = []

    async def go(call: Call) -> Done:
        seen.append(call.request)
        return Done(text="yes")

    claim = a_claim(provider=provider, model="m", settings=own)
    layer = defaults({f"{provider}/*": default})
    await layer(call_of(claim), go)
    (request,) = seen
    return request


async def test_a_session_goes_before_a_default_by_whatever_name_either_says_it() -> None:
    request = await sent({THEIRS: 4000}, {OURS: 100}, provider="anthropic")
    assert to_anthropic(request)[THEIRS] == 100
    request = await sent({OURS: 4000}, {THEIRS: 100}, provider="openai")
    assert to_chat(request)[THEIRS] == 100
    assert to_anthropic(await sent({THEIRS: 4000}, {}, provider="anthropic"))[THEIRS] == 4000


async def test_a_name_goes_before_patterns_by_whatever_name_either_says_it() -> None:
    layer = defaults({"*": {THEIRS: 4000}, "mock/m": {OURS: 100}})
    seen: list[Any] = []

    async def go(call: Call) -> Done:
        seen.append(call.request.settings)
        return Done(text="yes")

    claim = a_claim(provider="mock", model="m", settings={})
    await layer(call_of(claim), go)
    assert seen == [{OURS: 100}]


def test_a_line_of_a_vendors_batch_goes_before_a_default() -> None:
    claim = a_claim(provider="anthropic", model="m", settings={OURS: 100})
    assert to_anthropic(_request_of(claim, {THEIRS: 4000}))[THEIRS] == 100


@pytest.mark.parametrize(
    ("provider", "own", "told"),
    [("anthropic", {THEIRS: 4000}, {OURS: 100}), ("openai", {OURS: 4000}, {NEWER: 100})],
)
def test_a_target_of_a_fallback_goes_before_its_session(
    provider: str, own: dict[str, Any], told: dict[str, Any]
) -> None:
    target = {"provider": provider, "model": "gpt-5", "settings": told}
    session = {**own, "fallback": [target]}
    claim = aimed(a_claim(provider=provider, model="m", settings=session, target=1))
    body = {"anthropic": to_anthropic, "openai": to_chat}[provider](request_of(claim))
    assert {name: body[name] for name in (THEIRS, NEWER) if name in body} in (
        {THEIRS: 100},
        {NEWER: 100},
    )


def test_settings_that_are_changed_or_tried_go_before_those_that_were() -> None:
    assert merged_settings({THEIRS: 4000, "n": 1}, {OURS: 100}) == {OURS: 100, "n": 1}
    assert merged_settings({THEIRS: 4000, OURS: 100}, {THEIRS: None}) == {OURS: 100}


@pytest.mark.parametrize("name", [OURS, THEIRS, NEWER])
def test_a_limit_of_tokens_counts_the_reply_by_whatever_name_it_is_bounded(name: str) -> None:
    claim = a_claim(settings={name: 4000, "n": True})
    assert _tokens_of(call_of(claim)) >= 4000
