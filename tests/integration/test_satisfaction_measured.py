"""What the estimate of satisfaction is worth: measured on rated chats, as its page says it is."""

import pytest

from tools import satisfaction as training
from tools.satisfaction import Chat
from turnmill.domain.analytics.satisfaction import estimate, score
from turnmill.domain.analytics.satisfaction_model import BASE, BY_TIMES, WITH_WORDS, Model

pytestmark = pytest.mark.long

MODELS = {"WITH_WORDS": WITH_WORDS, "BY_TIMES": BY_TIMES}


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> list[Chat]:
    package = training.fetched(tmp_path_factory.mktemp("chats"))
    return training.rated(training.chats_in(package))


@pytest.mark.parametrize("name", MODELS)
def test_each_model_is_worth_what_it_says_on_chats_that_it_has_not_seen(
    chats: list[Chat], name: str
) -> None:
    quality = MODELS[name].quality
    told = {"auc": quality.auc, "auc_answered": quality.auc_answered}
    told["auc_longer"] = quality.auc_longer
    assert training.measured(chats, training.MODELS[name]) == pytest.approx(told, abs=0.002)


def test_with_words_it_is_better_than_by_length_or_by_kind_words_alone(chats: list[Chat]) -> None:
    found = {name: training.measured(chats, names) for name, names in training.BASELINES.items()}
    words, length = (found[name]["auc"] for name in training.BASELINES)
    assert words < 0.68
    assert WITH_WORDS.quality.auc >= 0.84
    assert length + 0.025 < WITH_WORDS.quality.auc
    assert found["length"]["auc_longer"] + 0.04 < WITH_WORDS.quality.auc_longer


@pytest.mark.parametrize("name", MODELS)
def test_its_numbers_are_those_that_training_comes_to(chats: list[Chat], name: str) -> None:
    model: Model = MODELS[name]
    names = training.MODELS[name]
    fitted = training.fit(names, training.table_of(chats, names), training.liked(chats))
    weights = dict(zip(fitted.names, fitted.weights.tolist(), strict=True))
    assert weights == pytest.approx(dict(model.weights), abs=0.001)
    assert fitted.intercept == pytest.approx(model.intercept, abs=0.001)
    share = float(training.liked(chats).mean())
    assert float(training._odds(share)) == BASE


def test_what_the_package_computes_is_what_was_trained(chats: list[Chat]) -> None:
    for one in chats[::100]:
        found = estimate(one.exchanges, turns=len(one.exchanges))
        assert found is not None
        assert found.score == score(WITH_WORDS, one.shape)


def test_the_average_chat_is_at_zero_more_or_less(chats: list[Chat]) -> None:
    scores = [score(WITH_WORDS, one.shape) for one in chats]
    liked = training.liked(chats)
    good = sum(one for one, is_liked in zip(scores, liked, strict=True) if is_liked)
    bad = sum(one for one, is_liked in zip(scores, liked, strict=True) if not is_liked)
    assert bad / (len(scores) - liked.sum()) < 0 < good / liked.sum()
