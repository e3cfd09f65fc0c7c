"""Placeholders: what stands in a request for personal data, and is taken back out of the answer."""

import hmac
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from turnmill_worker.layers.personal_data import Found, Redactor

_SHORT, _LONG = 8, 32
_KIND = re.compile(r"[A-Z][A-Z0-9_]{0,39}")


class _Reading(NamedTuple):
    """How names are found in a text."""

    pattern: re.Pattern[str]
    beginnings: frozenset[str]  # of names, in brackets or not, less than the whole of them
    longest: int  # of these

    @classmethod
    def of(cls, names: Iterable[str]) -> "_Reading":
        longest_first = sorted(names, key=len, reverse=True)
        either = "|".join(map(re.escape, longest_first))
        whole = [token for name in longest_first for token in (name, f"[{name}]")]
        beginnings = frozenset(one[:length] for one in whole for length in range(1, len(one)))
        longest = max(map(len, beginnings), default=0)
        return cls(re.compile(rf"\[({either})\]|({either})"), beginnings, longest)


class Placeholders:
    """What stands for what, in one call: `[EMAIL_3f9a2c1b]`. Kept nowhere else.

    The digits are a keyed hash of session and value, so that the same address bears the same name
    in each call, no name ever stands for another one, and nobody without the key can try them.
    """

    def __init__(self, redactors: Sequence[Redactor], *, key: bytes, session: str) -> None:
        self._redactors = redactors
        self._key = key
        self._session = session
        self._names: dict[str, str] = {}  # of a value
        self._values: dict[str, str] = {}  # of a name
        self._reading: _Reading | None = None

    def hide(self, text: str) -> str:
        """Return the text with a placeholder for everything that is found in it."""
        pieces, at = [], 0
        for found in _apart([one for find in self._redactors for one in find(text)], len(text)):
            name = self._name_of(text[found.start : found.end], found.kind)
            pieces += [text[at : found.start], f"[{name}]"]
            at = found.end
        return "".join([*pieces, text[at:]]) if pieces else text

    def restore(self, text: str) -> str:
        """Return the text with what placeholders stand for, whether in brackets or not."""
        if not self._values:
            return text
        return self._read().pattern.sub(lambda found: self._values[found[1] or found[2]], text)

    def open_end(self, text: str) -> int:
        """Return how many characters at its end may be the beginning of a placeholder."""
        beginnings = self._read().beginnings
        for length in range(min(len(text), self._read().longest), 0, -1):
            if text[-length:] in beginnings:
                return length
        return 0

    def _name_of(self, value: str, kind: str) -> str:
        if value in self._names:
            return self._names[value]
        said = "\0".join((self._session, kind, value)).encode(errors="surrogatepass")
        digest = hmac.new(self._key, said, "sha256").hexdigest()
        name = f"{kind}_{digest[:_SHORT]}"
        if name in self._values:  # of two values in some billions
            name = f"{kind}_{digest[:_LONG]}"
        self._names[value], self._values[name] = name, value
        self._reading = None
        return name

    def _read(self) -> "_Reading":
        if self._reading is None:
            self._reading = _Reading.of(self._values)
        return self._reading


def _apart(found: Iterable[Found], length: int) -> list[Found]:
    """Return those that do not overlap: of several the first one, and of these the longest."""
    chosen: list[Found] = []
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if not 0 <= one.start < one.end <= length or not _KIND.fullmatch(one.kind):
            raise ValueError("a redactor has found what is not in the text, or has no kind")
        if not chosen or one.start >= chosen[-1].end:
            chosen.append(one)
        elif one.end > chosen[-1].end:  # what hangs over says something, too
            chosen[-1] = chosen[-1]._replace(end=one.end)
    return chosen
