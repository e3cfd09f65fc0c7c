"""What is done to users is written down, and the log forgets whom it means when he is erased."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from tests import rows
from turnmill.domain.auditing import Action
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.nouns import audit_chain, audit_entries
from turnmill.store.schema.audit_tables import audit_subjects
from turnmill.verbs.users import acting
from turnmill.verbs.users.erasing import Erasing

pytestmark = pytest.mark.usefixtures("sound")


def test_who_holds_and_erases_is_written_down_and_the_erased_is_nameless(
    store: Database, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, actor="eve")
    # A name that no hash can have in it: these are in hex.
    rows.start(store, user_id="zoe")
    store.run(acting.hold("zoe", "case 7", actor="eve").on)
    store.run(acting.release("zoe", actor="eve").on)
    erasing = Erasing(store, settings)
    assert erasing.erase("zoe", reason="asked", grace=timedelta(0)).done
    with store.begin() as conn:
        found = audit_entries.find(conn, user_id=None, action=None, before=None, limit=100)
        assert conn.scalars(select(audit_subjects.c.user_id)).all() == []
        while audit_chain.chain(conn):
            pass
        assert audit_chain.verify(conn, checkpoint=None).ok
    assert [one.action for one in reversed(found)] == [
        Action.USER_HELD,
        Action.USER_RELEASED,
        Action.ERASURE_ASKED,
        Action.USER_ERASED,
    ]
    assert {one.actor for one in found} == {"eve"}
    assert not any("zoe" in str(one) for one in found)
