"""Who else may answer: what a session may say of it, and what each is asked with."""

from importlib.metadata import EntryPoints
from typing import Any

import pytest

from tests.claims import a_claim
from turnmill.domain.bounds import MOST_TARGETS
from turnmill.domain.errors import InvalidInput
from turnmill.domain.targets import Target, targets_in
from turnmill.store.codec import StoredHistory
from turnmill.store.records import Claim
from turnmill.verbs import installed, intake
from turnmill_worker.layers.targets import aimed, bits, moved, next_after, of_provider, targets_of

OTHER = {"provider": "anthropic", "model": "claude-sonnet-4-5"}


def settings_of(**options: Any) -> dict[str, Any]:
    new = intake.new_session(
        user_id="ada", provider="mock", model="mock", key=None, max_text_bytes=1000, **options
    )
    return dict(new.settings)


def test_a_target_is_a_name_or_an_object_with_settings() -> None:
    given = ["anthropic/claude-sonnet-4-5", {**OTHER, "settings": {"temperature": 0.5}}]
    assert settings_of(fallback=given) == {
        "fallback": [OTHER, {**OTHER, "settings": {"temperature": 0.5}}]
    }
    assert settings_of(settings={"fallback": given[:1]}) == {"fallback": [OTHER]}


def test_a_model_may_have_slashes_in_its_name() -> None:
    (found,) = targets_in(settings_of(fallback=["openai/meta/llama-4"]))
    assert (found.provider, found.model, found.name) == (
        "openai",
        "meta/llama-4",
        "openai/meta/llama-4",
    )


@pytest.mark.parametrize("nobody", [None, [], ()])
def test_no_targets_leave_no_trace(nobody: Any) -> None:
    assert settings_of(fallback=nobody) == {}
    assert settings_of(settings={"fallback": [], "a": 1}) == {"a": 1}


class Unreadable(list[Any]):
    def __iter__(self) -> Any:
        raise RuntimeError("secret")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("anthropic/claude", "a list of targets"),
        (OTHER, "a list of targets"),
        (7, "a list of targets"),
        (["anthropic"], "no provider/model"),
        (["/claude"], "no provider/model"),
        (["anthropic/"], "no provider/model"),
        ([7], "neither a name nor an object"),
        ([{"provider": "anthropic"}], "model of a target"),
        ([{**OTHER, "model": ""}], "model of a target"),
        ([{**OTHER, "model": "x" * 300}], "model of a target"),
        ([{**OTHER, "key": "sk"}], "has no key"),
        ([{**OTHER, "settings": "hot"}], "settings"),
        ([{**OTHER, "settings": {"timeout": -1}}], "timeout"),
        ([{**OTHER, "settings": {"api": "soap"}}], "api"),
        ([{**OTHER, "settings": {"tools": ["weather"]}}], "no tools of its own"),
        ([{**OTHER, "settings": {"fallback": ["openai/gpt-5"]}}], "no fallback of its own"),
        ([OTHER, "anthropic/claude-sonnet-4-5"], "twice"),
        ([f"openai/{n}" for n in range(MOST_TARGETS + 1)], f"more than {MOST_TARGETS}"),
        (["antropic/claude"], "'antropic'"),
        (Unreadable([1]), "cannot be read: RuntimeError"),
    ],
)
def test_what_is_no_target_is_refused_with_a_hint(given: Any, said: str) -> None:
    for options in ({"fallback": given}, {"settings": {"fallback": given}}):
        if isinstance(given, Unreadable) and "settings" in options:
            continue
        with pytest.raises(InvalidInput, match=said) as caught:
            settings_of(**options)
        assert caught.value.hint
        assert "secret" not in str(caught.value)


def test_where_only_workers_have_providers_any_name_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installed, "entry_points", lambda **_: EntryPoints())
    assert settings_of(fallback=["theirs/large"])["fallback"]
    assert settings_of(settings={"audio_model": "theirs/tts"})
    installed.refuse_function("theirs", what="judge", group="turnmill.judges")


def test_fallback_is_given_once() -> None:
    with pytest.raises(InvalidInput, match="fallback is given twice"):
        settings_of(fallback=["openai/gpt-5"], settings={"fallback": ["openai/gpt-5"]})


@pytest.mark.parametrize("stored", [7, "x", {}, [7, {}, {"provider": 1, "model": "m"}, None]])
def test_what_anybody_wrote_into_a_row_is_no_target_and_stops_nothing(stored: Any) -> None:
    assert list(targets_in({"fallback": stored})) == []
    assert len(targets_of(a_claim(settings={"fallback": stored}))) == 1


def claim_of(*targets: dict[str, Any], **options: Any) -> Claim:
    settings = {"fallback": list(targets), **options.pop("settings", {})}
    return a_claim(provider="openai", model="gpt-5-mini", settings=settings, **options)


def test_a_target_of_another_vendor_is_told_what_is_not_its_own_vendors_alone() -> None:
    own = {"timeout": 5, "tools": ["weather"], "temperature": 1.5, "api": "chat", "thread": "chain"}
    claim = claim_of({**OTHER, "settings": {"top_k": 3}}, settings=own, target=1)
    found = aimed(claim)
    assert (found.provider, found.model) == ("anthropic", "claude-sonnet-4-5")
    assert {name: one for name, one in found.settings.items() if name != "fallback"} == {
        "timeout": 5,
        "tools": ["weather"],
        "thread": "client",
        "top_k": 3,
    }


def test_another_model_of_the_same_vendor_is_told_all_but_what_it_is_told_not_to() -> None:
    target = {"provider": "openai", "model": "gpt-4", "settings": {"reasoning": None}}
    own = {"temperature": 1.5, "reasoning": {"effort": "low"}}
    found = aimed(claim_of(target, settings=own, target=1))
    assert found.settings["temperature"] == 1.5
    assert "reasoning" not in found.settings


def test_no_thread_goes_along_and_the_history_is_read_instead() -> None:
    found = aimed(claim_of(OTHER, target=1, provider_ref="resp_1", step_ref="resp_2"))
    assert (found.provider_ref, found.step_ref, found.history) == ("", "", None)
    brought = StoredHistory()
    assert aimed(claim_of(OTHER, target=1, history=brought)).history is brought


def test_a_claim_goes_from_target_to_target_and_home_with_the_sessions_own_settings() -> None:
    second = {"provider": "mock", "model": "m", "settings": {"max_output_tokens": 5}}
    claim = claim_of({**OTHER, "settings": {"max_output_tokens": 9}}, second, settings={"n": 1})
    first = moved(claim, 1, because="account")
    then = moved(first, 2, because="breaker")
    home = moved(then, 0, because="quota")
    assert [one.settings.get("max_output_tokens") for one in (first, then, home)] == [9, 5, None]
    assert (home.provider, home.model, home.settings) == (
        claim.provider,
        claim.model,
        claim.settings,
    )
    assert [one.because for one in (first, then, home)] == ["account"] * 3


def test_a_target_that_is_gone_meanwhile_is_the_sessions_own() -> None:
    found = aimed(claim_of(target=3))
    assert (found.target, found.provider) == (0, "openai")


def test_a_question_goes_to_whoever_was_asked_whatever_the_session_says_by_now() -> None:
    for targets in ([], [{"provider": "mock", "model": "m"}], [OTHER]):
        asked_of = ("anthropic", "claude-sonnet-4-5")
        found = aimed(claim_of(*targets, kind="check", target=1, asked_of=asked_of))
        assert (found.provider, found.model, found.target) == (*asked_of, 1)


def test_targets_are_asked_in_their_order_and_none_that_is_benched() -> None:
    assert next_after(0, among=3, benched=bits([0])) == 1
    assert next_after(1, among=3, benched=bits([0, 1])) == 2
    assert next_after(2, among=3, benched=bits([2])) == 0
    assert next_after(0, among=3, benched=bits([0, 1, 2])) is None
    assert next_after(0, among=1, benched=bits([0])) is None


def test_a_provider_has_all_targets_that_name_it() -> None:
    claim = claim_of(OTHER, {"provider": "openai", "model": "gpt-5"})
    assert of_provider(claim) == bits([0, 2])
    assert of_provider(moved(claim, 1, because="x")) == bits([1])
    assert [one.name for one in targets_of(claim)] == [
        "openai/gpt-5-mini",
        "anthropic/claude-sonnet-4-5",
        "openai/gpt-5",
    ]
    assert isinstance(targets_of(claim)[0], Target)
