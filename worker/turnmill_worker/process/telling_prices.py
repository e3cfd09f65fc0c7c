"""Saying which models this worker has prices of, to those who submit batches with a limit."""

import logging
from pathlib import Path

from turnmill.domain.errors import StoreError
from turnmill.store.database import Database
from turnmill.store.nouns import price_lists
from turnmill_worker.providers.own_prices import Prices, prices_in

logger = logging.getLogger("turnmill.worker")


def tend_prices(database: Database, file: Path | None) -> None:
    """Say it again, and forget lists that no worker has told of for long. Blocks."""
    tell_prices(database, file)
    with database.begin() as conn:
        price_lists.forget(conn)


def tell_prices(database: Database, file: Path | None) -> None:
    """Write it down, where there is such a file; a store that is away is told later. Blocks."""
    models = prices_in(file, Prices()).models
    if not models:
        return
    if len(models) > price_lists.MOST:
        logger.warning(
            "TURNMILL_PRICES names more than %d models: clients are told of so many",
            price_lists.MOST,
            extra={"action": "prices_bounded"},
        )
    try:
        with database.begin() as conn:
            price_lists.note(conn, models)
    except StoreError as error:
        logger.warning("cannot tell which models have a price: %s", error.code)
