"""Topics out of counts: NMF over TF-IDF, begun where the run before has ended.

A component goes on as the topic whose sessions it explains, so that numbers stay from night to
night. The same counts come to the same topics: nothing here is drawn by chance.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.utils.extmath import safe_sparse_dot

from turnmill.domain.bounds import TOPIC_USERS
from turnmill_worker.analytics.corpus import Counts, Matrix, said_by, without_stop_words

#: Fewer texts or terms than this have no topics.
LEAST_TEXTS = 30
_LEAST_TERMS = 20
_MOST_TERMS = 20_000
_MOST_COMPONENTS = 32
_LEAST_COMPONENTS = 3
#: Components whose texts have words this much alike (the cosine of their means) are one.
_ALIKE = 0.6
#: With so many times the texts' worth of components, or so great a share of new texts, some are
#: added to those that there were.
_GROWS = 1.25
_FLOOD = 0.3
_FOR_A_FLOOD = 4
#: A topic that is found again holds on to this share of its texts at the least; else it is another.
_HOLDS = 0.5
#: Below it a text is about nothing in particular.
_LEAST_SHARE = 0.2
#: A text stays with its topic while that explains this share of what another one would explain, or
#: of what is enough for one that was about nothing.
_STAYS = 0.5
#: Words of a topic that are kept.
_WORDS = 30
_UNTIL: Mapping[str, Any] = MappingProxyType({"max_iter": 200, "tol": 1e-3})
_NEARLY_NOTHING = 1e-6


@dataclass(frozen=True, slots=True)
class FoundTopics:
    """What was found."""

    topics: Sequence[int | None]  #: of each text; None: nothing in particular
    shares: Sequence[float]
    #: of each topic, none of fewer than five users
    words: Mapping[int, Sequence[tuple[str, float]]] = field(repr=False)
    components: int  #: that were looked for; alike ones were made one
    last_topic: int


def find(
    counts: Counts, *, before: Sequence[int | None], last_topic: int = 0, looked_with: int = 0
) -> FoundTopics:
    """Return what texts are about; `before` is what each of them was so far.

    New topics are numbered from `last_topic` on; `looked_with` are the components of before.
    """
    matrix = without_stop_words(counts)
    kept = _kept(matrix, counts.users)
    nothing = FoundTopics([None] * len(counts.users), [0.0] * len(counts.users), {}, 0, last_topic)
    matrix = matrix[:, kept]
    told = np.flatnonzero(np.asarray((matrix > 0).sum(axis=1)).ravel())
    if len(told) < LEAST_TEXTS or len(kept) < _LEAST_TERMS:
        return nothing
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(matrix[told]).astype(np.float64)
    was = np.asarray([before[int(text)] or 0 for text in told], dtype=np.int64)
    wanted = min(_wanted(len(told)), *weighted.shape)
    loads, old = _components(weighted, was, wanted=wanted, looked_with=looked_with)
    numbers, last = _numbered(loads, was, old, last_topic)
    mine, shares = _assigned(loads, was, numbers)
    topics: list[int | None] = [None] * len(counts.users)
    strength = [0.0] * len(counts.users)
    for text, component, share in zip(told, mine, shares, strict=True):
        if component >= 0:
            topics[text], strength[text] = int(numbers[component]), float(share)
    names = np.asarray(list(counts.vocabulary), dtype=object)[kept]
    users = [counts.users[text] for text in told]
    words = {
        int(numbers[n]): _words(weighted, np.flatnonzero(mine == n), users, names)
        for n in range(len(numbers))
    }
    return FoundTopics(topics, strength, words, max(wanted, looked_with), last)


def _kept(matrix: Matrix, users: list[str]) -> Any:
    """Return the terms that count: those of five users or more, the most frequent ones first."""
    texts = np.asarray((matrix > 0).sum(axis=0)).ravel()
    allowed = (said_by(matrix, users) >= TOPIC_USERS) & (texts >= TOPIC_USERS)
    found = np.flatnonzero(allowed)
    order = np.argsort(-texts[found], kind="stable")
    return np.sort(found[order][:_MOST_TERMS])


def _wanted(texts: int) -> int:
    """Return how many components so many texts are looked at with."""
    return int(min(_MOST_COMPONENTS, max(_LEAST_COMPONENTS, round(texts**0.5))))


def _components(
    weighted: Matrix, was: Any, *, wanted: int, looked_with: int
) -> tuple[Any, list[int]]:
    """Return how much of a text each component explains, and which topics the first ones were."""
    old = [int(one) for one in np.unique(was[was > 0]) if (was == one).sum() >= TOPIC_USERS]
    if not old:
        loads = _fitted(weighted, NMF(wanted, init="nndsvda", random_state=0, **_UNTIL))
        return _merged(loads, weighted, old=0), []
    begun = _begun(weighted, was, old, more=_more(was, old, wanted, looked_with))
    start = np.maximum(safe_sparse_dot(weighted, begun.T), _NEARLY_NOTHING)
    model = NMF(len(begun), init="custom", random_state=0, **_UNTIL)
    loads = _fitted(weighted, model, W=np.ascontiguousarray(start), H=begun)
    return _merged(loads, weighted, old=len(old)), old


def _fitted(weighted: Matrix, model: NMF, **start: Any) -> Any:
    """Return the texts' loads on components of one length; after some rounds it is near enough."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit_transform(weighted, **start) * np.linalg.norm(model.components_, axis=1)


def _merged(loads: Any, weighted: Matrix, *, old: int) -> Any:
    """Return the loads, where new components that are nearly the same as others are one."""
    best = loads.argmax(axis=1)
    sizes = np.bincount(best, minlength=loads.shape[1])
    new = [int(one) for one in np.argsort(-sizes, kind="stable") if one >= old]
    kept: list[int] = list(range(old))
    means = {one: _mean(weighted[best == one]) for one in [*kept, *new]}
    loads = loads.copy()
    for component in new:
        alike = [one for one in kept if means[one] @ means[component] > _ALIKE]
        if alike:
            loads[:, alike[0]] += loads[:, component]
        else:
            kept.append(component)
    return loads[:, kept]


def _mean(texts: Matrix) -> Any:
    if not texts.shape[0]:
        return np.zeros(texts.shape[1])
    mean = np.asarray(texts.mean(axis=0)).ravel()
    return mean / max(np.linalg.norm(mean), _NEARLY_NOTHING)


def _more(was: Any, old: list[int], wanted: int, looked_with: int) -> int:
    """Return how many components are added to those of before.

    None for a few texts more: each would take some from what others were. Some, when there are far
    more texts than when these were found, or when many are new: they may be about something new.
    """
    new = int((~np.isin(was, old)).sum())
    grown = wanted - looked_with if wanted >= _GROWS * looked_with else 0
    flood = _FOR_A_FLOOD if new >= _FLOOD * len(was) else 0
    return max(0, min(max(grown, flood), new // LEAST_TEXTS, _MOST_COMPONENTS - len(old)))


def _begun(weighted: Matrix, was: Any, old: list[int], *, more: int) -> Any:
    """Return components to begin with: the mean of each old topic's texts, and `more` others."""
    means = [np.asarray(weighted[was == one].mean(axis=0)).ravel() for one in old]
    if more:
        model = NMF(more, init="nndsvda", random_state=0, max_iter=50, tol=1e-2)
        means += list(model.fit(weighted[~np.isin(was, old)]).components_)
    begun = np.maximum(np.asarray(means, dtype=np.float64), 0)
    return begun / np.maximum(np.linalg.norm(begun, axis=1, keepdims=True), _NEARLY_NOTHING)


def _numbered(loads: Any, was: Any, old: list[int], last: int) -> tuple[Any, int]:
    """Return the number of each component: of the topic whose texts it explains, or a new one.

    That need not be the topic that it was begun with: components change places while they are
    fitted, and what is about everything a little is soon explained by another one.
    """
    width = loads.shape[1]
    best = loads.argmax(axis=1)
    goes = [np.bincount(best[was == one], minlength=width) for one in old]
    went = np.asarray(goes, dtype=np.int64).reshape(len(old), width)
    numbers = np.zeros(width, dtype=np.int64)
    for topic, component in zip(*linear_sum_assignment(went, maximize=True), strict=True):
        if went[topic, component] >= _HOLDS * went[topic].sum():
            numbers[component] = old[topic]
    fresh = numbers == 0
    numbers[fresh] = last + 1 + np.arange(fresh.sum())
    return numbers, last + int(fresh.sum())


def _assigned(loads: Any, was: Any, numbers: Any) -> tuple[Any, Any]:
    """Return the component of each text (below 0: none), and its share."""
    totals = loads.sum(axis=1)
    shares = loads / np.maximum(totals, _NEARLY_NOTHING)[:, None]
    best = shares.argmax(axis=1)
    rows = np.arange(len(best))
    place = {int(number): n for n, number in enumerate(numbers)}
    stays = np.asarray([place.get(int(one), -1) for one in was])
    held = (stays >= 0) & (shares[rows, stays] >= _STAYS * shares[rows, best])
    mine = np.where(held, stays, best)
    least = np.where(held, _STAYS * _LEAST_SHARE, _LEAST_SHARE)
    mine[(totals <= _NEARLY_NOTHING) | (shares[rows, mine] < least)] = -1
    return mine, shares[rows, np.maximum(mine, 0)]


def _words(weighted: Matrix, texts: Any, users: list[str], names: Any) -> list[tuple[str, float]]:
    """Return the words of a topic's texts that five of its users have said, the strongest first."""
    theirs = weighted[texts]
    whose = [users[text] for text in texts]
    if len(set(whose)) < TOPIC_USERS:
        return []
    weights = np.asarray(theirs.mean(axis=0)).ravel()
    weights = weights * (said_by(theirs, whose) >= TOPIC_USERS)
    order = np.argsort(-weights, kind="stable")[:_WORDS]
    return [(str(names[n]), round(float(weights[n]), 4)) for n in order if weights[n] > 0]
