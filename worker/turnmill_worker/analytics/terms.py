"""The terms of a text, in any language: words where they are parted, pairs of signs where not.

No digits, addresses or links: what is counted here is to name a subject, never a person or an
account.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

#: Of one term, in characters.
_LONGEST = 30
_SHORTEST = 3
#: Of the marks that stand on letters.
_FIRST_MARK, _LAST_MARK = 0x300, 0x20000

_NOISE = re.compile(r"\b\w+://\S+|\bwww\.\S+|\S+@\S+|\S*\d\S*")
#: Scripts without anything between words, and how many signs together are a term there. Korean has
#: spaces, but puts its particles behind the words.
_UNPARTED: Mapping[int, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        2: (
            ("\u3400", "\u4dbf"),
            ("\u4e00", "\u9fff"),  # Chinese, and what Japanese has of it
            ("\uac00", "\ud7a3"),
            ("\U00020000", "\U0003ffff"),
        ),
        4: (
            ("\u0e00", "\u0eff"),  # Thai, Lao
            ("\u1000", "\u109f"),  # Burmese
            ("\u1780", "\u17ff"),  # Khmer
        ),
    }
)
#: Names and loans in Japanese. What is written in hiragana is grammar, and left out.
_KANA = ("\u30a0", "\u30ff")
_HIRAGANA = ("\u3040", "\u309f")


def terms(text: str) -> Iterator[str]:
    """Yield the terms of a text, in their order, as often as they are there."""
    plain = _NOISE.sub(" ", unicodedata.normalize("NFKC", text)).casefold()
    for found in _words().finditer(plain):
        word, signs = found[0], _SIGNS.get(found.lastgroup or "")
        if signs is not None:
            yield from (word[at : at + signs] for at in range(len(word) - signs + 1))
        elif _SHORTEST <= len(word) <= _LONGEST:
            yield word


def script_of(term: str) -> str:
    """Return the name of the script that a term is written in, such as `LATIN`."""
    return unicodedata.name(term[0], "").partition(" ")[0]


_SIGNS: Mapping[str, int] = MappingProxyType({f"by_{signs}": signs for signs in _UNPARTED})


@lru_cache(maxsize=1)
def _words() -> re.Pattern[str]:
    """Return what finds words: letters with their marks, which `re` takes for no part of them."""
    unparted = {signs: _class(runs) for signs, runs in _UNPARTED.items()}
    apart = "".join(unparted.values()) + _class((_KANA, _HIRAGANA))
    letter = rf"(?:(?![\d_{apart}])\w|[{_class(_runs_of_marks())}])"
    groups = [f"(?P<by_{signs}>[{signs_of}]+)" for signs, signs_of in unparted.items()]
    return re.compile("|".join([*groups, f"[{_class((_KANA,))}]+", f"{letter}+"]))


def _class(runs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"{first}-{last}" for first, last in runs)


@lru_cache(maxsize=1)
def _runs_of_marks() -> tuple[tuple[str, str], ...]:
    """Return all marks of Unicode that stand on letters, as runs from one to another."""
    runs: list[tuple[str, str]] = []
    unparted = [run for some in _UNPARTED.values() for run in some]
    for code in range(_FIRST_MARK, _LAST_MARK):
        sign = chr(code)
        is_apart = any(first <= sign <= last for first, last in unparted)
        if unicodedata.category(sign) not in ("Mn", "Mc") or is_apart:
            continue
        if runs and ord(runs[-1][1]) == code - 1:
            runs[-1] = (runs[-1][0], sign)
        else:
            runs.append((sign, sign))
    return tuple(runs)
