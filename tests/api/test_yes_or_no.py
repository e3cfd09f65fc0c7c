"""Options that are yes or no: what is taken for either is a slip, such as a variable's "no"."""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from turnmill import Client, InvalidInput, sync
from turnmill.store.nouns.repricing import PaidCall
from turnmill.verbs.repricing import NewPrice

TODAY = datetime.now(UTC).date()


class Place:
    """A client of a store in memory, with a turn, a batch and a reader of events."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client = client
        self.folder = folder
        self.session = client.sessions.create(user_id="ada")
        self.turn = client.send(self.session, "Hello")
        self.jobs = folder / "jobs.jsonl"
        self.jobs.write_text(json.dumps({"user_id": "ada", "text": "Hello"}) + "\n")
        self.batch = client.batches.create(self.jobs)
        client.events.add_reader("one")


def _unknown(_: PaidCall) -> NewPrice:
    return NewPrice(cost_usd=None)


#: Each with an option that says "no".
CALLS: dict[tuple[str, str, str], Callable[[Place, Any], object]] = {
    ("Analytics", "report", "by_day"): lambda at, no: at.client.analytics.report(by_day=no),
    ("Analytics", "report", "refresh"): lambda at, no: at.client.analytics.report(refresh=no),
    ("Analytics", "overview", "thorough"): lambda at, no: at.client.analytics.overview(thorough=no),
    ("Analytics", "session", "suggest"): lambda at, no: at.client.analytics.session(
        at.session, suggest=no
    ),
    ("Analytics", "user", "suggest"): lambda at, no: at.client.analytics.user("ada", suggest=no),
    ("Analytics", "feedback", "commented"): lambda at, no: at.client.analytics.feedback(
        commented=no
    ),
    ("Analytics", "behaviours", "thorough"): lambda at, no: at.client.analytics.behaviours(
        thorough=no
    ),
    ("Analytics", "suggest", "thorough"): lambda at, no: at.client.analytics.suggest(thorough=no),
    ("Analytics", "reprice", "dry_run"): lambda at, no: at.client.analytics.reprice(
        _unknown, first=TODAY, dry_run=no
    ),
    ("Batch", "iter_results", "follow"): lambda at, no: list(at.batch.iter_results(follow=no)),
    ("Batch", "results", "follow"): lambda at, no: at.batch.results(
        at.folder / "results.jsonl", follow=no
    ),
    ("Batches", "create", "reuse"): lambda at, no: at.client.batches.create(
        at.jobs, name="other", reuse=no
    ),
    ("Client", "count_tokens", "exact"): lambda at, no: at.client.count_tokens(
        at.session, "Hello", exact=no
    ),
    ("Client", "send", "stream"): lambda at, no: at.client.send(at.session, "Hello", stream=no),
    ("Events", "park_reader", "parked"): lambda at, no: at.client.events.park_reader(
        "one", parked=no
    ),
    ("Lanes", "pause", "force"): lambda at, no: at.client.lanes.pause(provider="nobody", force=no),
    ("Limits", "set", "force"): lambda at, no: at.client.limits.set(
        provider="nobody", concurrent=1, force=no
    ),
    ("Templates", "sync", "dry_run"): lambda at, no: at.client.templates.sync(
        at.folder, dry_run=no
    ),
    ("Turn", "cancel", "keep_partial"): lambda at, no: at.turn.cancel(keep_partial=no),
    ("Turn", "cancel", "wait"): lambda at, no: at.turn.cancel(wait=no),
    ("Turn", "retry", "once"): lambda at, no: at.turn.retry(once=no),
    ("Webhooks", "create", "include_content"): lambda at, no: at.client.webhooks.create(
        url="https://a.example/", events=["*"], include_content=no
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all of them: nothing happens to it where all are refused."""
    with Client(database_url="sqlite://") as client:
        yield Place(client, tmp_path_factory.mktemp("place"))


@pytest.mark.parametrize("odd", ["no", 0, None], ids=repr)
@pytest.mark.parametrize("option", CALLS, ids=".".join)
def test_an_option_that_is_neither_yes_nor_no_is_refused_by_name(
    place: Place, option: tuple[str, str, str], odd: Any
) -> None:
    with pytest.raises(InvalidInput, match=f"{option[2]} must be True or False"):
        CALLS[option](place, odd)


def test_every_option_of_a_client_that_is_yes_or_no_is_tried() -> None:
    found = set()
    for module in pkgutil.iter_modules(sync.__path__):
        home = importlib.import_module(f"{sync.__name__}.{module.name}")
        for name, owner in inspect.getmembers(home, inspect.isclass):
            if owner.__module__ != home.__name__ or name.startswith("_"):
                continue
            for verb, member in inspect.getmembers(owner, inspect.isfunction):
                options = [] if verb.startswith("_") else inspect.signature(member).parameters
                found |= {
                    (name, verb, option)
                    for option in options
                    if inspect.signature(member).parameters[option].annotation is bool
                }
    assert found == CALLS.keys()
