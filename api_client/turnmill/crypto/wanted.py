"""Whose data key is meant, and that one is missed: all that is known where nothing is encrypted."""

from collections.abc import Collection
from typing import NamedTuple

#: The owner of what belongs to no user: templates, webhooks.
HOUSE = ""


class Owner(NamedTuple):
    """Whose data key is meant."""

    user: str
    scope: str = ""  #: the caller's own key; empty: the house's master keys


class KeyWanted(Exception):
    """A data key is needed that this process does not hold."""

    def __init__(self, *, ids: Collection[str] = (), owners: Collection[Owner] = ()) -> None:
        super().__init__("a data key has to be fetched")
        self.ids = tuple(ids)
        self.owners = tuple(owners)
