"""The list of what belongs to a session is whole: nothing is left behind that nobody thought of."""

from turnmill.store.schema.alert_tables import metadata
from turnmill.store.schema.belongings import BELONGINGS, OF_NOBODY, OF_THE_HOUSE, Goes
from turnmill.store.schema.erasure_tables import BANNED_IN
from turnmill.store.schema.grants import VIEWED

_NAMING = ("session_id", "turn_id", "user_id")
_LISTED = {one.table: one for one in BELONGINGS}
#: Tables that name a user, and in which nobody is refused who was erased: why no row of his comes.
_WITH_ANOTHER = {
    "erasures": "that he was erased",
    "file_usage": "in the commit of a row of `attachments`",
    "holds": "of somebody of whom nothing is known there is none",
    "shared_log": "in the commit of a row of `participants`, or of one of `turn_senders`",
    "trial_lines": "in the commit of a row of `batch_lines`",
}


def test_every_table_that_names_a_session_a_turn_or_a_user_is_listed_once() -> None:
    naming = {
        table
        for table in metadata.tables.values()
        if any(name in table.c for name in _NAMING) or table.name == "sessions"
    }
    listed = [one.table for one in BELONGINGS]
    assert len(listed) == len(set(listed))
    assert naming - set(listed) - set(OF_NOBODY) == set()


def test_every_table_is_listed_or_is_said_to_hold_nothing_of_anybody() -> None:
    listed = {one.table.name for one in BELONGINGS} | {table.name for table in OF_NOBODY}
    assert {table.name for table in metadata.tables.values()} - listed == set(OF_THE_HOUSE)


def test_what_is_said_to_be_of_the_house_names_nobody() -> None:
    # A table that refers to a session or a turn under another name would be missed by its columns.
    for name in OF_THE_HOUSE:
        table = next(one for one in metadata.tables.values() if one.name == name)
        told = {key.column.table.name for key in table.foreign_keys}
        assert not told & {"sessions", "turns", "messages", "attachments"}, name
        assert not {*_NAMING, "sender", "turn", "session"} & set(table.c.keys()), name


def test_what_goes_by_a_foreign_key_has_one_that_cascades() -> None:
    for one in BELONGINGS:
        if one.goes is Goes.BY_KEY:
            keys = [key for key in one.table.foreign_keys if key.ondelete == "CASCADE"]
            assert {key.column.table.name for key in keys} & {"sessions", "turns"}, one.table.name


def test_content_is_in_no_column_that_a_viewer_reads() -> None:
    for one in BELONGINGS:
        assert not set(one.content) & set(VIEWED.get(one.table.name, ())), one.table.name


def test_what_is_content_is_found_by_its_turn() -> None:
    for one in _LISTED.values():
        if one.content:
            assert one.turn is not None, one.table.name


def test_every_table_that_names_a_user_refuses_one_who_was_erased() -> None:
    naming = {one.table.name: one.user.name for one in BELONGINGS if one.user is not None}
    assert naming == {**BANNED_IN, **{name: naming[name] for name in _WITH_ANOTHER}}
