"""The gauge: how many tokens the vendors make of a text, by what they have counted lately."""

import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import NamedTuple

from turnmill.store.records import Claim
from turnmill_worker.providers.port import Usage

#: Bytes of UTF-8 that make a token, where nothing was counted yet: about what English takes.
BYTES_OF_A_TOKEN = 4

_EVERY_SECONDS = 1.0
_MODELS = 1000
_SESSIONS = 10_000
#: What was counted before counts less and less.
_FADES = 0.9
#: Bytes that have to be seen before they tell more than what English takes.
_ENOUGH = 400
#: Bytes a token, in any language: what is beyond was not counted by what was said alone.
_FEWEST, _MOST = 1, 8

#: Vendors forget what was not read for so long, and read what they keep in steps of so many tokens.
_KEPT_SECONDS = 300
_STEP = 128
_LEAST_CACHED = 1024


@dataclass(frozen=True, slots=True)
class Measure:
    """Tokens and bytes of what a model was told, and of what it said."""

    told_tokens: float = 0
    told_bytes: float = 0
    said_tokens: float = 0
    said_bytes: float = 0
    reads_cache: bool = False

    def told(self, size: int | None) -> int | None:
        """Return the tokens of an input of so many bytes; None where these are not known."""
        return None if size is None else _tokens(size, self.told_tokens, self.told_bytes)

    def said(self, size: int) -> int:
        """Return the tokens of a reply of so many bytes."""
        return _tokens(size, self.said_tokens, self.said_bytes)


class _Last(NamedTuple):
    """The last call of a session."""

    at: float
    model: str
    kept: int  #: tokens that its vendor holds since then


class Gauge:
    """What calls have shown, in this process and lately."""

    def __init__(self) -> None:
        self._measures: OrderedDict[tuple[str, str], Measure] = OrderedDict()
        self._last: dict[int, _Last] = {}  #: by the session's id as a number: that hashes faster
        self._due = 0.0
        self._next_kept = 0.0

    def of(self, provider: str, model: str) -> Measure:
        """Return what is known of a model."""
        return self._measures.get((provider, model), _NOTHING)

    def keeps_one(self) -> bool:
        """Tell whether the next call is to keep what it is told, to be learned from; now and then.

        Of the others it may be let go of: they wait in thousands.
        """
        now = time.monotonic()
        if now < self._next_kept:
            return False
        self._next_kept = now + _EVERY_SECONDS
        return True

    def is_due(self) -> bool:
        """Tell whether it is time to learn again, once for each time."""
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + _EVERY_SECONDS
        return True

    def learn(
        self, provider: str, model: str, usage: Usage, *, told: int | None, said: int
    ) -> None:
        """Learn from what a vendor has counted of so many bytes."""
        tokens, came = usage.input_tokens, usage.output_tokens
        found = self.of(provider, model)
        if told and tokens and _makes_sense(told, tokens):
            tokens_before, bytes_before = found.told_tokens * _FADES, found.told_bytes * _FADES
            found = replace(
                found, told_tokens=tokens_before + tokens, told_bytes=bytes_before + told
            )
        spoken = 0 if came is None else came - (usage.reasoning_tokens or 0)
        if spoken > 0 and _makes_sense(said, spoken):
            tokens_before, bytes_before = found.said_tokens * _FADES, found.said_bytes * _FADES
            found = replace(
                found, said_tokens=tokens_before + spoken, said_bytes=bytes_before + said
            )
        self._put((provider, model), found)

    def has_use_for(self, claim: Claim, usage: Usage) -> bool:
        """Tell whether there is anything to learn: of most calls there is not."""
        size = usage.input_tokens or 0
        is_known = claim.session_id.int in self._last
        return size >= _LEAST_CACHED or is_known or time.monotonic() >= self._due

    def remember(self, claim: Claim, usage: Usage) -> None:
        """Remember how much of a session its vendor may hold: what was sent last."""
        if usage.input_tokens is None:
            return
        key = (claim.provider, claim.model)
        if usage.cached_tokens and not self.of(*key).reads_cache:
            self._put(key, replace(self.of(*key), reads_cache=True))
        self._sent(claim, usage.input_tokens)

    def cached(self, claim: Claim, *, told: int | None, own: int | None) -> int:
        """Return how much of so many tokens were read from a cache, as the last call was kept.

        From now on the vendor holds this one, which the next begins like but for its `own` words.
        """
        last = self._last.get(claim.session_id.int)
        if told is None:
            return 0
        self._sent(claim, told - (own or 0))
        if last is None or last.model != claim.model:
            return 0
        kept = min(last.kept, told) // _STEP * _STEP
        if kept < _LEAST_CACHED or time.monotonic() - last.at > _KEPT_SECONDS:
            return 0
        return kept if self.of(claim.provider, claim.model).reads_cache else 0

    def _sent(self, claim: Claim, kept: int) -> None:
        session = claim.session_id.int
        self._last.pop(session, None)  # so that it is the last one of them
        self._last[session] = _Last(time.monotonic(), claim.model, kept)
        if len(self._last) > _SESSIONS:
            del self._last[next(iter(self._last))]

    def _put(self, key: tuple[str, str], measure: Measure) -> None:
        self._measures[key] = measure
        self._measures.move_to_end(key)
        if len(self._measures) > _MODELS:
            self._measures.popitem(last=False)


_NOTHING = Measure()


def _makes_sense(size: int, tokens: int) -> bool:
    return _FEWEST * tokens <= size <= _MOST * tokens


def _tokens(size: int, tokens: float, seen: float) -> int:
    if seen < _ENOUGH or tokens <= 0:
        return -(-size // BYTES_OF_A_TOKEN)
    return round(size * tokens / seen)
