"""Turns that a statement names by their ids: what it may ask of them besides."""

from sqlalchemy import ColumnElement

from turnmill.domain.states import TurnState
from turnmill.store.schema.tables import turns


def still_in(*states: TurnState) -> ColumnElement[bool]:
    """Return whether a turn that a statement names by its id is in one of these states.

    Not in the words of the indexes of unfinished turns: a plan that was made while there were few
    would read one of those from end to end.
    """
    return turns.c.state.concat("").in_(states)
