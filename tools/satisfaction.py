"""Train what estimates satisfaction, and measure it: on chats between people, who have rated them.

    .venv/bin/python -m tools.satisfaction [--write]

The package `chitchat-dataset` (MIT) is asked of the registry, and nothing of it runs. Prints what
each model is worth; with `--write` its numbers go into the package. The same every time.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from turnmill.domain.analytics.conversing import Exchange, shape_of_times, shape_of_words
from turnmill.domain.analytics.satisfaction_model import BY_TIMES, WITH_WORDS

PACKAGE = "chitchat-dataset==0.9.0"
_DATA = "chitchat_dataset/dataset.json"
MODEL = Path(__file__).parent.parent / "api_client/turnmill/domain/analytics/satisfaction_model.py"
#: A conversation was liked, where its three ratings from 1 to 10 are so high on average.
LIKED = 7.0
FOLDS = 5
_RIDGE = 1.0
_ROUNDS = 60
_DIGITS = 4

_HEAD = '''"""What was learned of rated chats: written by tools/satisfaction.py, never by hand."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateQuality:
    """How often a liked conversation has the higher estimate of two: 0.5 is a guess, 1 is sure.

    Five-fold, over 5,988 rated chats in English between people, of the package chitchat-dataset.
    """

    auc: float  #: of all
    auc_answered: float  #: of those in which anybody has answered
    auc_longer: float  #: of those of three messages and more


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What each number of a conversation's shape adds to the log odds that it was liked."""

    intercept: float
    weights: Mapping[str, float]
    quality: EstimateQuality


'''

Numbers: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation of the data: whoever began it is the user, whoever answered the model."""

    id: str
    exchanges: Sequence[Exchange]
    rating: float | None  #: the mean of three; None: nobody has rated it
    shape: Mapping[str, float]  #: all numbers of it


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model: what each number of a shape adds, beside what it begins with."""

    names: tuple[str, ...]
    weights: Numbers
    intercept: float

    def score(self, rows: Numbers) -> Numbers:
        """Return the log odds of each row."""
        return rows @ self.weights + self.intercept


def fetched(folder: Path) -> Path:
    """Return the package's file, fetched into the folder."""
    download = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest")
    only = ("--only-binary", ":all:", PACKAGE)
    subprocess.run([*download, str(folder), *only], check=True, timeout=300)
    (package,) = folder.glob("chitchat_dataset-*.whl")
    return package


def chats_in(package: Path) -> list[Chat]:
    """Return all conversations, in the order of their ids."""
    with zipfile.ZipFile(package) as wheel:
        data = json.loads(wheel.read(_DATA))
    return [_chat(key, data[key]) for key in sorted(data)]


def _chat(key: str, record: Mapping[str, Any]) -> Chat:
    rated = record.get("ratings")
    rating = sum(int(one) for one in rated.values()) / len(rated) if rated else None
    exchanges = list(_exchanges(record["messages"]))
    return Chat(key, exchanges, rating, shape_of_times(exchanges) | shape_of_words(exchanges))


def _exchanges(blocks: Sequence[Sequence[Mapping[str, str]]]) -> Iterator[Exchange]:
    user = blocks[0][0]["sender"]
    asked: tuple[str, datetime] | None = None
    for block in blocks:
        text = "\n".join(one["text"] for one in block)
        at = datetime.fromisoformat(block[-1]["timestamp"])
        if block[0]["sender"] == user:
            if asked is not None:
                yield _unanswered(*asked)
            asked = text, at
        elif asked is not None:
            yield Exchange(asked_at=asked[1], ended_at=at, answered=True, said=asked[0], heard=text)
            asked = None
    if asked is not None:
        yield _unanswered(*asked)


def _unanswered(text: str, at: datetime) -> Exchange:
    return Exchange(asked_at=at, ended_at=at, answered=False, said=text)


def table_of(chats: Sequence[Chat], names: Sequence[str]) -> Numbers:
    """Return a row of these numbers for each conversation."""
    return np.array([[one.shape[name] for name in names] for one in chats])


def liked(chats: Sequence[Chat]) -> NDArray[np.bool_]:
    """Return which of these, all of them rated, were liked."""
    return np.array([one.rating is not None and one.rating >= LIKED for one in chats])


def fit(names: Sequence[str], rows: Numbers, wanted: NDArray[np.bool_]) -> Fitted:
    """Return the logistic regression with a small ridge, by Newton's method."""
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    spread[spread == 0] = 1.0
    table = np.column_stack([(rows - mean) / spread, np.ones(len(rows))])
    ridge = np.diag([*([_RIDGE] * len(names)), 0.0])
    weights = np.zeros(table.shape[1])
    for _ in range(_ROUNDS):
        odds = 1 / (1 + np.exp(-(table @ weights)))
        slope = table.T @ (odds - wanted) + ridge @ weights
        bend = (table * (odds * (1 - odds))[:, None]).T @ table + ridge
        step = np.linalg.solve(bend, slope)
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    plain = weights[:-1] / spread
    return Fitted(tuple(names), plain, float(weights[-1] - plain @ mean))


def auc(wanted: NDArray[np.bool_], scores: Numbers) -> float:
    """Return how often one that is wanted has the higher score than one that is not."""
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    _, back, counts = np.unique(scores[order], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks[order] = (ends - (counts - 1) / 2)[back]
    many = int(wanted.sum())
    above = ranks[wanted].sum() - many * (many + 1) / 2
    return float(above / (many * (len(scores) - many)))


def out_of_fold(chats: Sequence[Chat], names: Sequence[str]) -> Numbers:
    """Return each conversation's score by a model that has not seen it."""
    rows = table_of(chats, names)
    wanted = liked(chats)
    scores = np.zeros(len(chats))
    for fold in range(FOLDS):
        held = np.arange(len(chats)) % FOLDS == fold
        scores[held] = fit(names, rows[~held], wanted[~held]).score(rows[held])
    return scores


def measured(chats: Sequence[Chat], names: Sequence[str]) -> dict[str, float]:
    """Return the AUC over all, over what was answered at all, and over what went on for longer."""
    scores, wanted = out_of_fold(chats, names), liked(chats)
    answered = np.array([any(each.answered for each in one.exchanges) for one in chats])
    long = np.array([len(one.exchanges) >= 3 for one in chats])
    return {
        "auc": round(auc(wanted, scores), 3),
        "auc_answered": round(auc(wanted[answered], scores[answered]), 3),
        "auc_longer": round(auc(wanted[long], scores[long]), 3),
    }


#: What the package has: for conversations whose words can be read, and for all others.
MODELS: Mapping[str, Sequence[str]] = {
    "WITH_WORDS": tuple(WITH_WORDS.weights),
    "BY_TIMES": tuple(BY_TIMES.weights),
}
#: What is measured beside them.
BASELINES: Mapping[str, Sequence[str]] = {
    "words of delight and thanks": ("delight", "thanks"),
    "length": ("length",),
}


def rated(chats: Sequence[Chat]) -> list[Chat]:
    """Return those that somebody has rated."""
    return [one for one in chats if one.rating is not None]


def module_of(chats: Sequence[Chat]) -> str:
    """Return the module that holds what was learned of these."""
    share = float(liked(chats).mean())
    lines = [
        _HEAD,
        f"#: The log odds that a rated conversation was liked.\nBASE = {_odds(share)}\n",
    ]
    for name, names in MODELS.items():
        fitted = fit(names, table_of(chats, names), liked(chats))
        weights = "".join(
            f'        "{one}": {weight:.{_DIGITS}f},\n'
            for one, weight in zip(names, fitted.weights, strict=True)
        )
        worth = ", ".join(f"{one}={value}" for one, value in measured(chats, names).items())
        lines.append(
            f"{name} = Model(\n    intercept={fitted.intercept:.{_DIGITS}f},\n"
            f"    weights={{\n{weights}    }},\n    quality=EstimateQuality({worth}),\n)\n"
        )
    return "".join(lines)


def _odds(share: float) -> str:
    return f"{np.log(share / (1 - share)):.{_DIGITS}f}"


def main(argv: Sequence[str]) -> None:
    """Train, measure, print, and write where that is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        chats = rated(chats_in(fetched(Path(folder))))
    print(f"{len(chats)} rated, {liked(chats).mean():.3f} of them liked")
    for name, names in {**BASELINES, **MODELS}.items():
        print(name, measured(chats, names))
    if "--write" in argv:
        MODEL.write_text(module_of(chats))
        print(MODEL)


if __name__ == "__main__":
    main(sys.argv[1:])
