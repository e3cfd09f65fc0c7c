"""What was learned of rated chats: written by tools/satisfaction.py, never by hand."""

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


#: The log odds that a rated conversation was liked.
BASE = -0.8294
WITH_WORDS = Model(
    intercept=-4.7818,
    weights={
        "length": 1.0129,
        "length_squared": -0.1278,
        "answered": 0.2918,
        "wait": -0.0594,
        "longest_pause": -0.0717,
        "went_on": 0.6037,
        "duration": -0.2275,
        "said": 0.3590,
        "heard": 0.1982,
        "said_each": 0.2773,
        "heard_each": 0.2017,
        "balance": -0.7410,
        "repeated": 0.3472,
        "corrections": -0.1629,
        "giving_up": -0.2347,
        "thanks": 0.5624,
        "delight": 0.3526,
        "questions": 0.1583,
        "delight_heard": 0.6027,
    },
    quality=EstimateQuality(auc=0.86, auc_answered=0.784, auc_longer=0.72),
)
BY_TIMES = Model(
    intercept=-4.0699,
    weights={
        "length": 2.0854,
        "length_squared": -0.1990,
        "answered": 0.6338,
        "wait": 0.1542,
        "longest_pause": 0.0140,
        "went_on": 0.5268,
        "duration": -0.2135,
    },
    quality=EstimateQuality(auc=0.829, auc_answered=0.756, auc_longer=0.674),
)
