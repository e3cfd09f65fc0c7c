"""Which events somebody wants to hear of, in words: kinds, and what stands for several of them."""

from dataclasses import dataclass

from turnmill.domain.errors import InvalidInput
from turnmill.domain.plain import items_of, text_of
from turnmill.domain.states import ENDINGS, ON_DEMAND, SETTLED, EventKind

_ALL = "*"
_GROUPS = frozenset({"turn.*", "session.*", "participant.*", "alert.*"})
_WORDS = _GROUPS | {_ALL, SETTLED} | {kind.value for kind in EventKind} - {EventKind.GAP.value}
_MOST_WORDS = 1000  #: each may be named twice, but not without end
_HINT = "a kind such as turn.failed, turn.settled for every ending, session.* or * for all"


@dataclass(frozen=True, slots=True)
class WantedKinds:
    """What was asked for, checked."""

    words: tuple[str, ...]

    @property
    def kinds(self) -> frozenset[EventKind]:
        """Return the kinds that are meant."""
        return frozenset(
            kind
            for kind in EventKind
            if kind is not EventKind.GAP and any(_means(word, kind) for word in self.words)
        )

    def named(self, kind: str) -> str:
        """Return the kind in the words in which it was asked for: `turn.settled` for an ending."""
        return SETTLED if SETTLED in self.words and kind in ENDINGS else kind


#: What is written in any case, for who has not said what he wants.
ALWAYS = WantedKinds(tuple(sorted(set(EventKind) - ON_DEMAND - {EventKind.GAP})))


def asked(words: object) -> WantedKinds:
    """Return what is asked for; raises InvalidInput."""
    is_some = isinstance(words, list | tuple | set | frozenset)
    given = items_of(words, most=_MOST_WORDS) if is_some else None
    if not given:
        raise InvalidInput("events must be a sequence of kinds", hint=_HINT)
    if len(given) > _MOST_WORDS:
        raise InvalidInput(f"events names more than {_MOST_WORDS} kinds", hint=_HINT)
    listed = [text_of(word) or "" for word in given]
    if not _WORDS.issuperset(listed):
        raise InvalidInput("events names a kind that does not exist", hint=_HINT)
    return WantedKinds(tuple(dict.fromkeys(listed)))


def _means(word: str, kind: EventKind) -> bool:
    if word in (_ALL, kind):
        return True
    if word == SETTLED:
        return kind in ENDINGS
    return word in _GROUPS and kind.startswith(word[:-1])
