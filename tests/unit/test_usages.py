"""What vendors say of usage: odd shapes, and what is kept of them."""

import json
from typing import Any

import pytest

from turnmill_worker.providers.figures import CALLS_MAX, FIGURES_MAX
from turnmill_worker.providers.figures import figures as figures_in
from turnmill_worker.providers.port import Usage
from turnmill_worker.providers.untrusted import moment
from turnmill_worker.providers.usages import of_anthropic, of_openai, read_again, summed


def figures(said: object) -> Any:
    found = figures_in(said)
    return None if found is None else json.loads(found)


def openai(usage: Any, **beside: Any) -> Usage:
    return of_openai({"usage": usage, "model": "gpt-5", **beside})


def anthropic(**usage: Any) -> Usage:
    return of_anthropic({"usage": usage, "model": "claude-haiku-4-5"})


@pytest.mark.parametrize(
    ("usage", "output"),
    [
        ({"completion_tokens": 10, "total_tokens": 15, "reasoning": 4}, 10),
        ({"completion_tokens": 10, "total_tokens": 19, "reasoning": 4}, 14),  # beside it
        ({"completion_tokens": 10, "reasoning": 4}, 10),
        ({"completion_tokens": 3, "reasoning": 40}, 43),  # more than all of it
        ({"completion_tokens": 3, "total_tokens": 8, "reasoning": 40}, 3),  # makes no sense
        ({"completion_tokens": 10, "total_tokens": 15, "reasoning": "four"}, 10),
    ],
)
def test_what_was_thought_is_a_part_of_the_output_wherever_it_is_counted(
    usage: dict[str, Any], output: int
) -> None:
    details = {"reasoning_tokens": usage.pop("reasoning")}
    found = openai({"prompt_tokens": 5, "completion_tokens_details": details, **usage})
    assert found.output_tokens == output


@pytest.mark.parametrize(
    ("usage", "cached"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 64}}, 64),
        ({"input_tokens_details": {"cached_tokens": 64}}, 64),
        ({"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36}, 64),
        ({"cached_tokens": 64}, 64),
        ({"prompt_tokens_details": None}, 0),
        ({"prompt_tokens_details": {"cached_tokens": None}}, 0),
        ({"prompt_tokens_details": {"cached_tokens": "64"}}, None),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, None),
    ],
)
def test_what_was_read_from_a_cache_is_found_where_servers_put_it(
    usage: dict[str, Any], cached: int | None
) -> None:
    found = openai({"prompt_tokens": 100, "completion_tokens": 1, **usage})
    assert (found.input_tokens, found.cached_tokens) == (100, cached)


@pytest.mark.parametrize(
    ("sum_", "short", "long", "expected"),
    [
        (1_253, 1_000, 253, (1_253, 253)),
        (1_253, 1_253, 0, (1_253, 0)),
        (None, 1_000, 253, (1_253, 253)),
        (1_253, None, None, (1_253, 0)),
        (1_253, None, 253, (1_253, 253)),
        (3_000, 0, 253, (3_000, 3_000)),  # the sum has gone on, all of one kind
        (3_000, 1_253, 0, (3_000, 0)),
        (3_000, 1_000, 253, (3_000, None)),  # of both kinds: nobody knows
        ("many", 0, 0, (None, 0)),
    ],
)
def test_what_was_put_in_a_cache_is_counted_once_and_by_how_long_it_stays(
    sum_: object, short: int | None, long: int | None, expected: tuple[int | None, int | None]
) -> None:
    lives = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}
    found = anthropic(
        input_tokens=5,
        output_tokens=1,
        cache_creation_input_tokens=sum_,
        cache_creation={name: one for name, one in lives.items() if one is not None},
    )
    assert (found.cache_write_tokens, found.cache_write_1h_tokens) == expected


def test_what_a_call_has_summed_up_within_itself_is_paid_for_beside_its_sums() -> None:
    inner = [
        {"type": "compaction", "input_tokens": 100, "output_tokens": 20},
        {"type": "message", "input_tokens": 7, "output_tokens": 3},
    ]
    found = anthropic(input_tokens=7, output_tokens=3, iterations=inner)
    assert (found.input_tokens, found.output_tokens, found.service_tier) == (107, 23, "")


def test_what_another_model_did_within_a_call_leaves_its_price_unknown() -> None:
    inner = [{"type": "advisor_message", "model": "claude-opus-5", "input_tokens": 9}]
    assert anthropic(input_tokens=7, output_tokens=3, iterations=inner).service_tier == "mixed"


def test_what_another_model_has_painted_within_a_call_leaves_its_price_unknown() -> None:
    usage, painted = {"input_tokens": 7, "output_tokens": 3}, {"input_tokens": 50}
    for image_gen in (painted, {"output_tokens": "many"}):
        assert openai(usage, tool_usage={"image_gen": image_gen}).service_tier == "mixed"
    nothing = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    tools = {"image_gen": nothing, "web_search": {"num_requests": 0}}
    assert openai(usage, tool_usage=tools, service_tier="flex").service_tier == "flex"


def test_sound_is_counted_among_the_tokens_that_it_is_part_of() -> None:
    told = {"prompt_tokens": 90, "prompt_tokens_details": {"audio_tokens": 80}}
    said = {"completion_tokens": 40, "completion_tokens_details": {"audio_tokens": 30}}
    found = openai({**told, **said})
    assert (found.input_tokens, found.audio_tokens) == (90, 80)
    assert (found.output_tokens, found.audio_output_tokens) == (40, 30)
    both = summed(found, found)
    assert (both.audio_tokens, both.audio_output_tokens) == (160, 60)
    odd = openai({**told, **said, "prompt_tokens_details": {"audio_tokens": "80"}})
    assert odd.audio_tokens is None


def test_searches_are_counted_where_each_vendor_says_so() -> None:
    searched = {"web_search_requests": 3, "web_fetch_requests": 1}
    assert anthropic(input_tokens=1, output_tokens=1, server_tool_use=searched).searches == 3
    beside = {"tool_usage": {"web_search": {"num_requests": 2}}}
    assert openai({"input_tokens": 1, "output_tokens": 1}, **beside).searches == 2


TOLD = {"input_tokens": 1, "output_tokens": 1}
CALLS = [
    {"type": "web_search_call", "action": {"type": "search"}},
    {"type": "web_search_call", "action": {"type": "open_page"}},  # is not charged
    {"type": "web_search_call"},
    {"type": "file_search_call", "queries": ["a", "b"]},
    {"type": "code_interpreter_call", "container_id": "cntr_1"},
    {"type": "code_interpreter_call", "container_id": "cntr_1"},
    {"type": "shell_call", "environment": {"type": "container_reference", "container_id": "c2"}},
    {"type": "message", "content": []},
]


def test_tools_that_the_vendor_runs_itself_are_counted_by_its_items() -> None:
    found = openai(TOLD, output=CALLS)
    assert (found.searches, found.file_searches, found.containers) == (2, 1, 2)
    told = openai(TOLD, output=CALLS, tool_usage={"web_search": {"num_requests": 1}})
    assert told.searches == 1  # it says what is charged
    both = summed(found, told)
    assert (both.searches, both.file_searches, both.containers) == (3, 2, 4)
    plain = openai(TOLD, output=[{"type": "message"}, {"type": "reasoning"}])
    assert plain == openai(TOLD) == Usage(input_tokens=1, output_tokens=1)
    assert plain.said == ({"model": "gpt-5", "usage": TOLD},)


def test_what_was_counted_by_items_is_kept_to_be_priced_anew() -> None:
    for output in (CALLS, [{"type": "image_generation_call"}]):
        found = openai(TOLD, output=output)
        ((model, again),) = read_again("openai", figures(found.said))
        assert (model, again) == ("gpt-5", found)


def test_pictures_of_which_nothing_is_counted_have_no_known_price() -> None:
    painted = [{"type": "image_generation_call"}]
    assert openai(TOLD, output=painted).service_tier == "mixed"
    nothing = {"image_gen": {"input_tokens": 0, "output_tokens": 0}}
    assert openai(TOLD, output=painted, tool_usage=nothing).service_tier == ""


@pytest.mark.parametrize(
    ("model", "searches"),
    [("gpt-4o-search-preview", 1), ("gpt-5-search-api-2025-10-14", 1), ("gpt-5", 0)],
)
def test_models_that_always_search_have_searched(model: str, searches: int) -> None:
    told = {"prompt_tokens": 1, "completion_tokens": 1}
    answer = {"model": model, "choices": [{"message": {}}], "usage": told}
    assert of_openai(answer).searches == searches


@pytest.mark.parametrize("odd", [None, 7, "x", [None, 7, {"type": ["x"]}, {"type": None}]])
def test_items_that_make_no_sense_are_none(odd: Any) -> None:
    assert openai(TOLD, output=odd).file_searches == 0


@pytest.mark.parametrize(
    "said", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", 1e300, -5, True, "soon"]
)
def test_a_moment_that_no_calendar_has_is_none(said: object) -> None:
    assert moment(said) is None


def test_of_an_answer_its_figures_are_kept_and_no_words() -> None:
    said = {
        "usage": {
            "input_tokens": 5,
            "note": "Ada said hello",
            "service_tier": "flex",
            "speed": "Ada said hello",
            "details": {"cached": 1.5, "nothing": None, "yes": True, "Ada said": 3},
            "iterations": [{"type": "message", "text": "hello"}, "hello"],
            "far": float("inf"),
            "many": 10**400,
        },
        "model": "gpt-5",
        "output": "hello",
    }
    assert figures((said,)) == [
        {
            "usage": {
                "input_tokens": 5,
                "service_tier": "flex",
                "details": {"cached": 1.5, "nothing": None, "yes": True},
                "iterations": [{"type": "message"}],
            },
            "model": "gpt-5",
        }
    ]


def test_what_is_kept_has_a_bound__and_what_breaks_is_as_if_it_had_not_been_said() -> None:
    class Theirs(dict[str, Any]):
        def items(self) -> Any:
            raise AssertionError

    deep: dict[str, Any] = {"n": 1}
    for _ in range(100_000):
        deep = {"n": deep}
    assert figures((deep,)) is None
    assert figures((Theirs(n=1),)) == [{"n": 1}]  # nothing of theirs is run
    assert figures(Theirs()) is None
    wide = {f"n{n}": n for n in range(1_000)}
    (kept,) = figures((wide,))
    assert len(kept) <= FIGURES_MAX
    assert len(figures(tuple([{"number": 1}] * 1_000))) == CALLS_MAX


def test_what_was_kept_is_read_again_as_it_was_read_first() -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 2}
    answer = {"usage": usage | {"service_tier": "batch"}, "model": "claude-haiku-4-5"}
    both = summed(of_anthropic(answer), of_anthropic(answer))
    kept = figures(both.said) or []
    again = read_again("anthropic", kept)
    assert again == [("claude-haiku-4-5", of_anthropic(answer))] * 2
    assert read_again("mock", kept) == []
