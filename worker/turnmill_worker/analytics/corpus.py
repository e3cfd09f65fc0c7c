"""What some thousand sessions say, as counts of terms: all that is kept of their texts."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import sparse
from stop_words import AVAILABLE_LANGUAGES, get_stop_words

from turnmill_worker.analytics.terms import script_of, terms

#: Different terms of all texts together, and of one: what comes later is left out.
_MOST_TERMS = 300_000
_MOST_OF_ONE = 300
#: A text is in a language when so many of its terms are that language's stop words.
_LEAST_STOPS = 3
_LEAST_SHARE = 0.15
#: Whoever is in more than this share of a language's texts tells no subject apart there.
_EVERYWHERE = 0.5
#: From so many texts of a language on that is learned; of fewer, one subject may be half of them.
_LEARNS_FROM = 100
#: Lists of stop words that are none of the kind that stands in texts of this kind.
_OTHERWISE_WRITTEN = ("chinese", "japanese", "korean")

Matrix = Any  #: of scipy, sparse: texts × terms


@dataclass(slots=True)
class Counts:
    """Texts, one after the other, as counts of terms."""

    vocabulary: dict[str, int] = field(default_factory=dict)
    users: list[str] = field(default_factory=list)  #: of each text
    _ends: "array[int]" = field(default_factory=lambda: array("q", [0]))
    _terms: "array[int]" = field(default_factory=lambda: array("i"))
    _counts: "array[float]" = field(default_factory=lambda: array("f"))

    def add(self, user: str, text: str) -> None:
        """Count the terms of one more text; the text itself is not kept."""
        for term, count in Counter(terms(text)).most_common(_MOST_OF_ONE):
            known = self.vocabulary.get(term)
            if known is None:
                if len(self.vocabulary) >= _MOST_TERMS:
                    continue
                known = self.vocabulary[term] = len(self.vocabulary)
            self._terms.append(known)
            self._counts.append(count)
        self._ends.append(len(self._terms))
        self.users.append(user)

    def matrix(self) -> Matrix:
        """Return how often each term is in each text."""
        shape = (len(self.users), max(len(self.vocabulary), 1))
        parts = (np.asarray(self._counts), np.asarray(self._terms), np.asarray(self._ends))
        return sparse.csr_matrix(parts, shape=shape, dtype=np.float32)


def without_stop_words(counts: Counts) -> Matrix:
    """Return the matrix without words that say nothing of a subject, language by language.

    Those of lists where there is one, and those that more than half of a language's texts have.
    """
    matrix = counts.matrix()
    names = list(counts.vocabulary)
    listed = _listed(names)
    tongues, count = _tongues(matrix, listed, names)
    stops = np.zeros((count, matrix.shape[1]), dtype=bool)
    stops[: listed.shape[1]] = listed.toarray().T > 0
    there = matrix > 0
    for one in range(count):
        texts = np.flatnonzero(tongues == one)
        if len(texts) >= _LEARNS_FROM:
            stops[one] |= np.asarray(there[texts].mean(axis=0)).ravel() > _EVERYWHERE
    stops |= _function_signs(names)
    found = matrix.tocoo()
    says = ~stops[tongues[found.row], found.col]
    kept = (found.data[says], (found.row[says], found.col[says]))
    return sparse.csr_matrix(kept, shape=matrix.shape, dtype=np.float32)


def said_by(matrix: Matrix, users: list[str]) -> Any:
    """Return how many users have said each term."""
    number = {user: n for n, user in enumerate(dict.fromkeys(users))}
    rows = np.asarray([number[user] for user in users], dtype=np.int32)
    shape = (max(len(number), 1), len(users))
    ones = np.ones(len(users), dtype=np.float32)
    by_user = sparse.csr_matrix((ones, (rows, np.arange(len(users)))), shape=shape)
    return np.asarray(((by_user @ (matrix > 0).astype(np.float32)) > 0).sum(axis=0)).ravel()


def _tongues(matrix: Matrix, listed: Matrix, names: list[str]) -> tuple[Any, int]:
    """Return the number of each text's language, or else of its script, and how many there are."""
    there = (matrix > 0).astype(np.float32)
    scores = (there @ listed).toarray()
    best = scores.argmax(axis=1)
    sizes = np.asarray(there.sum(axis=1)).ravel()
    sure = scores.max(axis=1) >= np.maximum(_LEAST_STOPS, _LEAST_SHARE * sizes)
    scripts: dict[str, int] = {}
    first = listed.shape[1]
    for text in np.flatnonzero(~sure):
        start, end = matrix.indptr[text], matrix.indptr[text + 1]
        script = script_of(names[matrix.indices[start]]) if end > start else ""
        best[text] = first + scripts.setdefault(script, len(scripts))
    return best, first + len(scripts)


def _listed(names: list[str]) -> Matrix:
    """Return which terms are on which language's list of stop words."""
    number = {name: n for n, name in enumerate(names)}
    pairs = [
        (number[word], n) for n, words in enumerate(_lists()) for word in words if word in number
    ]
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    ones = np.ones(len(pairs), dtype=np.float32)
    shape = (max(len(names), 1), len(_lists()))
    return sparse.csr_matrix((ones, (rows, columns)), shape=shape)


@lru_cache(maxsize=1)
def _lists() -> list[frozenset[str]]:
    languages = [one for one in AVAILABLE_LANGUAGES if one not in _OTHERWISE_WRITTEN]
    return [
        frozenset(term for word in get_stop_words(one) for term in terms(word)) for one in languages
    ]


@lru_cache(maxsize=1)
def _chinese_signs() -> frozenset[str]:
    return frozenset(word for word in get_stop_words("chinese") if len(word) == 1)


def _function_signs(names: list[str]) -> Any:
    """Return which terms hold a sign that is a word by itself and says nothing, as `的` does."""
    signs = _chinese_signs()
    return np.asarray([any(sign in signs for sign in name) for name in names] or [False])
