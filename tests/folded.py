"""Figures as they are once everything that was committed is in."""

from turnmill.store.analytics.folding import fold
from turnmill.store.database import Database
from turnmill.store.nouns import event_log


def fold_all(store: Database) -> None:
    """Fold all that there is, as upkeep does."""
    for step in (event_log.give_places, fold):
        more = True
        while more:
            with store.begin() as conn:
                more = step(conn) > 0
