"""What `repr` shows of anything of ours: ids, states and sizes, never words and never passwords."""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import turnmill
import turnmill_worker
from turnmill.domain.errors import ProviderError
from turnmill.verbs.reply import Reply

CANARY = "canary-3f9c"

#: Fields of texts, or of anything, that are shown: ids, codes, and names that operators choose.
SHOWN = frozenset(
    {
        *("id", "key", "idempotency_key", "custom_id", "known_id", "known_hash", "call_id"),
        *("provider_ref", "native_ref", "thread_ref", "request_id", "provider_request_id", "ref"),
        *("step_ref", "carrier", "pattern", "tier", "sketches"),
        *("step_ref", "tool", "tools", "adopted", "own_history"),
        *("answered_by", "answered_because", "because", "asked_of"),
        *("tool", "tools", "server", "servers", "unreachable", "only"),
        *("kept", "sha256", "media_type", "role", "kind", "state", "states", "outcome", "fault"),
        *("error_code", "finish_reason", "waits_for", "service_tier", "worker", "lease_owner"),
        *("provider", "providers", "model", "api", "name", "channel", "table", "column", "user"),
        *("product", "eviction", "encoding", "schema", "layers", "metrics_host", "app", "argv"),
        *("transaction",),  # a number that Postgres gives
        *("before", "after", "tables_from", "search_path", "promise", "broken", "task", "default"),
        *("check", "what", "fix", "words", "hint", "accident", "obstacles", "columns", "numbers"),
        *(
            "setup",
            "spare",
            "session",
            "asyncio_task",
            "reads",
            "reader",
            "observers",
            "host",
            "noun",
        ),
        *(
            "variable",
            "group",
            "says",
            "names",
            "merges",
            "providers_in_use",
            "program",
            "born",
            "settled",
        ),
        *("cron", "template", "only_in_store"),
        *("judge", "better", "preferred", "verdict", "judge_error", "unjudged", "failures"),
        *("experiment", "left_out", "dropped", "versions", "quantiles_ms"),
        *("code", "remedy", "reason", "sqlstate", "setting", "safe", "hosts", "socket", "username"),
        *("version", "revision", "lacks", "lanes", "newest_code", "priced_by"),
        *("account", "line", "owner", "places", "more", "models", "priced"),
        *("webhook_allow", "events", "event_id", "type", "kinds", "named", "parked_because"),
        *(
            "tags",
            "analytics_tag",
            "timezone",
            "digest",
            "fetch_from",
            "scheme",
            "rows",
            "turn",
            "why",
        ),
        *("lane", "keyless", "verb", "by", "refused", "error", "title", "detail"),
        *("reply_as", "asks", "media_types", "voices", "part"),
        *("category", "to", "scope", "wrapped_by", "encryption", "kms", "key_id"),
        *("actor", "login", "action", "subject", "objects", "figures", "hash"),
        *("select", "insert", "update", "beginnings"),
        *("paused_because", "held_by", "codes", "shards", "mode_because", "money", "modes"),
        *("mode", "typical"),
        *("rule", "verdict", "of", "period", "zone", "tag", "since", "until", "colour", "way"),
        *("limits", "api"),
        *("target", "suggested_model", "subject"),
        *("weights", "zone", "quantiles_ms"),
        *("endpoint", "status", "on_leftover"),
        *("user_hash", "where", "unseen"),
        *("ca_certs", "certfile", "keyfile", "virtual_host", "master_name", "sentinel_username"),
    }
)
#: A type whose name holds one of these can hold a text.
_HOLDS_TEXT = ("str", "bytes", "Any", "object", "Mapping[", "dict")

_PLAIN_CLASSES_WITH_A_REPR = frozenset(
    {
        *("AsyncBatch", "Batch", "AsyncTurn", "Turn", "Unreadable", "StoredHistory", "Unchanged"),
        *(
            "Body",
            "Signed",
            "Again",
            "Passed",
            "Entry",
            "Event",
            "Tool",
            "McpTool",
            "TemplateChange",
            "StagedLine",
            "Line",
        ),
    }
)


def modules() -> Iterator[ModuleType]:
    for package in (turnmill, turnmill_worker):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in found.name and not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def classes() -> list[type[Any]]:
    return [
        one
        for module in modules()
        for one in vars(module).values()
        if inspect.isclass(one) and one.__module__ == module.__name__
    ]


def shown_fields(one: type[Any]) -> dict[str, str]:
    """Return the fields that the generated repr shows, and their types."""
    if dataclasses.is_dataclass(one):
        return {found.name: str(found.type) for found in dataclasses.fields(one) if found.repr}
    if issubclass(one, tuple) and hasattr(one, "_fields"):
        return {name: str(one.__annotations__[name]) for name in one._fields}
    return {}


def has_own_repr(one: type[Any]) -> bool:
    code = getattr(vars(one).get("__repr__"), "__code__", None)
    return code is not None and code.co_filename == inspect.getfile(one)


def test_no_field_that_can_hold_words_is_shown_unless_it_is_named_here() -> None:
    """A new field: `field(repr=False)` hides it; what is an id, a code or a name goes in above."""
    loud = [
        f"{one.__module__}.{one.__qualname__}.{name}: {kind}"
        for one in classes()
        if not has_own_repr(one)
        for name, kind in shown_fields(one).items()
        if any(word in kind for word in _HOLDS_TEXT)
        and "Callable" not in kind
        and name not in SHOWN
    ]
    assert loud == []


def test_classes_that_write_their_own_repr_are_few_and_known() -> None:
    own = {one.__name__ for one in classes() if has_own_repr(one)}
    assert own <= _PLAIN_CLASSES_WITH_A_REPR | {"Text", "RawAnswer", "Answer", "Body"}


@pytest.mark.parametrize("name", ["text", "system_prompt", "metadata", "settings", "error_detail"])
def test_what_was_said_is_in_no_repr_however_deep(name: str) -> None:
    found = 0
    for one in classes():
        if not dataclasses.is_dataclass(one):
            continue
        fields = {field.name: str(field.type) for field in dataclasses.fields(one)}
        if any(word in fields.get(name, "") for word in _HOLDS_TEXT):
            made = object.__new__(one)
            for other in fields:
                object.__setattr__(made, other, f"{CANARY}:{other}")
            assert f"{CANARY}:{name}" not in repr(made), one
            found += 1
    assert found


def test_messages_replies_and_errors_are_described_and_not_quoted() -> None:
    from turnmill.domain.content import File, Message, Native, Text, ToolCall, ToolOutput

    parts = (
        Text(CANARY),
        ToolCall(id="call-1", name="search", arguments=CANARY),
        ToolOutput(call_id="call-1", output=CANARY),
        Native(provider="openai", item=CANARY),
        File(id="file-1", url=f"https://files/{CANARY}", name=CANARY),
    )
    shown = repr(Message("user", parts))
    assert CANARY not in shown
    assert "Text(<11 characters>)" in shown
    assert "call-1" in shown
    assert any(found.name == "parts" and found.repr for found in dataclasses.fields(Reply))
    assert CANARY not in repr(ProviderError("odd", detail=CANARY))


def test_no_password_of_the_settings_is_shown() -> None:
    from turnmill import Settings
    from turnmill_worker.stack.celery_parts import FlowerLogin

    url = f"postgresql://user:{CANARY}@host/db"
    assert CANARY not in repr(Settings(database_url=url, broker_url=url))
    assert CANARY not in repr(FlowerLogin("ada", CANARY))
