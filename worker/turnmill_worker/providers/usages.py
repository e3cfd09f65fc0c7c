"""What vendors say of a call's usage, in each of their shapes, as one of ours: nothing twice.

Ours: the input contains what was read from a cache and what was put there, the output contains
what was thought. Anthropic's input contains neither; some servers' output leaves out the thoughts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from turnmill_worker.providers.hosted import ran_in
from turnmill_worker.providers.port import Done, Usage
from turnmill_worker.providers.untrusted import (
    count,
    count_if_any,
    mapping,
    mappings,
    name,
    text,
    tier,
    total,
)

#: What of an answer says what was used. It is kept as it came, but for words: see `figures`.
_TOLD = ("model", "service_tier", "usage", "tool_usage")
#: What is kept beside it: how often the vendor has run tools of its own, where it says so by items.
_RAN = "ran"

#: What changes no price.
_ORDINARY = frozenset({"", "standard", "global", "not_available"})
#: Of calls within a call at Anthropic: those that its own sums hold, and those that they leave out.
_SUMMED, _BESIDE = "message", "compaction"
#: No price list has it: what other models have done within the call is not known to be priced.
_MIXED = "mixed"


def of_openai(answer: Mapping[str, Any]) -> Usage:
    """Return what a response or a chat completion says; servers mix the names of the two."""
    usage = mapping(answer.get("usage"))
    told = count(_either(usage, "input_tokens", "prompt_tokens"))
    of_input = mapping(_either(usage, "input_tokens_details", "prompt_tokens_details"))
    of_output = mapping(_either(usage, "output_tokens_details", "completion_tokens_details"))
    cached = of_input.get("cached_tokens")
    if cached is None:  # of servers that put it beside the sums
        cached = _either(usage, "prompt_cache_hit_tokens", "cached_tokens")
    kept_long = mapping(of_input.get("cache_write_tokens_details")).get("ttl_12h_tokens")
    thought = count_if_any(of_output.get("reasoning_tokens"))
    ran, said = ran_in(answer), said_in(answer)
    tools = mapping(answer.get("tool_usage"))
    searched, painted = mapping(tools.get("web_search")), mapping(tools.get("image_gen"))
    searches = searched.get("num_requests")
    painting = _is_used(painted) if painted else bool(ran.get("pictures"))
    return Usage(
        input_tokens=told,
        output_tokens=_with_thoughts(usage, told=told, thought=thought),
        cached_tokens=count_if_any(cached),
        cache_write_tokens=count_if_any(of_input.get("cache_write_tokens")),
        cache_write_1h_tokens=count_if_any(kept_long),
        reasoning_tokens=thought,
        audio_tokens=count_if_any(of_input.get("audio_tokens")),
        audio_output_tokens=count_if_any(of_output.get("audio_tokens")),
        searches=count_if_any(ran.get("searches") if searches is None else searches),
        file_searches=count_if_any(ran.get("file_searches")),
        containers=count_if_any(ran.get("containers")),
        service_tier=_MIXED if painting else tier(answer.get("service_tier")),
        said=({**said[0], _RAN: ran},) if said and ran else said,
    )


def of_anthropic(answer: Mapping[str, Any]) -> Usage:
    """Return what a message says."""
    usage = mapping(answer.get("usage"))
    found = _of_sums(usage)
    inner = mappings(usage.get("iterations"))
    for one in inner:
        if one.get("type") == _BESIDE:
            found = summed(found, _of_sums(one))
    kinds = {text(one.get("type")) for one in inner}
    return Usage(
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        cached_tokens=found.cached_tokens,
        cache_write_tokens=found.cache_write_tokens,
        cache_write_1h_tokens=found.cache_write_1h_tokens,
        reasoning_tokens=found.reasoning_tokens,
        searches=count_if_any(mapping(usage.get("server_tool_use")).get("web_search_requests")),
        service_tier=_tier(usage) if kinds <= {_SUMMED, _BESIDE} else _MIXED,
        said=said_in(answer),
    )


def summed(one: Usage, other: Usage) -> Usage:
    """Return what both calls have used, in the tier of the last one."""
    return Usage(
        input_tokens=total(one.input_tokens, other.input_tokens),
        output_tokens=total(one.output_tokens, other.output_tokens),
        cached_tokens=total(one.cached_tokens, other.cached_tokens),
        cache_write_tokens=total(one.cache_write_tokens, other.cache_write_tokens),
        cache_write_1h_tokens=total(one.cache_write_1h_tokens, other.cache_write_1h_tokens),
        reasoning_tokens=total(one.reasoning_tokens, other.reasoning_tokens),
        audio_tokens=total(one.audio_tokens, other.audio_tokens),
        audio_output_tokens=total(one.audio_output_tokens, other.audio_output_tokens),
        searches=total(one.searches, other.searches),
        file_searches=total(one.file_searches, other.file_searches),
        containers=total(one.containers, other.containers),
        service_tier=other.service_tier,
        said=(*one.said, *other.said),
    )


def said_in(answer: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the part of an answer that says what was used; nothing where it does not."""
    if not answer.get("usage"):
        return ()
    return ({name: answer[name] for name in _TOLD if answer.get(name) is not None},)


def used_at_openai(answer: Mapping[str, Any]) -> Done | None:
    """Return what an answer has used that is no reply; None where it does not say."""
    return _used(answer, of_openai)


def used_at_anthropic(answer: Mapping[str, Any]) -> Done | None:
    """Return the same of Anthropic's."""
    return _used(answer, of_anthropic)


#: How a call's usage is read again from what was kept of it, by provider.
_AGAIN: Mapping[str, Callable[[Mapping[str, Any]], Usage]] = {
    "openai": of_openai,
    "anthropic": of_anthropic,
}


def read_again(provider: str, said: Sequence[Mapping[str, Any]]) -> list[tuple[str, Usage]]:
    """Return the model and usage of each call of an attempt; nothing where it cannot be read."""
    read = _AGAIN.get(provider)
    return [] if read is None else [(text(one.get("model")), read(one)) for one in said]


def _used(answer: Mapping[str, Any], usage_of: Callable[[Mapping[str, Any]], Usage]) -> Done | None:
    if not mapping(answer.get("usage")):
        return None
    return Done(text="", usage=usage_of(answer), model=name(answer.get("model")))


def _is_used(model: Mapping[str, Any]) -> bool:
    """Tell whether another model has told or said something, whose tokens are in no sums."""
    return any(count_if_any(model.get(name)) != 0 for name in ("input_tokens", "output_tokens"))


def _either(usage: Mapping[str, Any], one: str, other: str) -> Any:
    found = usage.get(one)
    return usage.get(other) if found is None else found


def _with_thoughts(
    usage: Mapping[str, Any], *, told: int | None, thought: int | None
) -> int | None:
    """Return the output with what was thought, which some servers count beside it.

    Their total tells: it is of all three then.
    """
    said = count(_either(usage, "output_tokens", "completion_tokens"))
    if not thought or said is None or told is None:
        return said
    whole = count(usage.get("total_tokens"))
    is_beside = thought > said if whole is None else whole == told + said + thought
    return said + thought if is_beside else said


def _of_sums(usage: Mapping[str, Any]) -> Usage:
    """Return the tokens. The vendor's input leaves out what came from or went to its cache."""
    read = count_if_any(usage.get("cache_read_input_tokens"))
    written, kept_long = _written(usage)
    thought = mapping(usage.get("output_tokens_details")).get("thinking_tokens")
    return Usage(
        input_tokens=total(count(usage.get("input_tokens")), read, written),
        output_tokens=count(usage.get("output_tokens")),
        cached_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=kept_long,
        reasoning_tokens=count_if_any(thought),
    )


def _written(usage: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return what went to the cache, and what of it for an hour.

    The sum may be newer than how it is made up: in a stream it goes on being counted alone.
    """
    lives = mapping(usage.get("cache_creation"))
    short, long = lives.get("ephemeral_5m_input_tokens"), lives.get("ephemeral_1h_input_tokens")
    minutes, hour = count_if_any(short), count_if_any(long)
    if usage.get("cache_creation_input_tokens") is None:
        return total(minutes, hour), hour
    written = count(usage.get("cache_creation_input_tokens"))
    if not hour or short is None or written in (None, total(minutes, hour)):
        return written, hour
    return written, written if minutes == 0 else None


def _tier(usage: Mapping[str, Any]) -> str:
    """Return what decides the price beside the tokens: the tier, the speed and the region."""
    named = [tier(usage.get(name)) for name in ("service_tier", "speed", "inference_geo")]
    return ".".join(one for one in named if one not in _ORDINARY)
