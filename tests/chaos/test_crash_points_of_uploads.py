"""Whoever dies around an upload: the turn is answered, and no copy stays at the vendor."""

import os
import random
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.attachments import PDF, a_png
from tests.chaos.books import Books
from tests.chaos.stage import Stage
from tests.chaos.system import PATIENCE, Servers, System, until
from tests.doubles.on_a_thread import Vendor
from tests.doubles.openai_server import KEY
from turnmill.domain.uploads import mark_in, name_in

WAIT = PATIENCE.total_seconds()
LEASE = timedelta(seconds=1.5)
KILLS = int(os.environ.get("TURNMILL_TEST_KILLS", "200"))
UPLOADS = {"provider": "openai", "model": "gpt-5-mini", "settings": {"uploads": "always"}}


@pytest.fixture(scope="module")
def stage(
    servers: Servers, vendor: Vendor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    files = str(tmp_path_factory.mktemp("files"))
    reach = {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": vendor.double.base_url,
        "TURNMILL_FILES_URL": files,
    }
    with (
        System(servers, lease=LEASE, environment=reach) as system,
        system.client(files_url=files) as client,
    ):
        yield Stage(system, client)
        assert Books.of(system).complaints() == []


def all_due(stage: Stage) -> bool:
    """Let what is to be given up be tried at once, as if enough time had gone by."""
    stage.system.rows(
        "UPDATE turnmill.kept_refs SET due_at = now() WHERE due_at IS NOT NULL RETURNING ref"
    )
    return True


#: What falls, where; the first two in each run of CI, the others by hand.
FALLS = [
    ("upload.sent", "kill"),
    ("close.unnoted", "kill"),
    *(
        (point, "freeze")
        for point in ("upload.before", "upload.noted", "upload.sent", "upload.kept")
    ),
    *((point, "kill") for point in ("upload.before", "upload.noted", "upload.kept")),
]


@pytest.mark.parametrize(
    ("point", "how"),
    [
        pytest.param(*fall, marks=pytest.mark.long if n < 2 else pytest.mark.slow)
        for n, fall in enumerate(FALLS)
    ],
)
def test_18_an_upload_whose_worker_falls_leaves_no_copy(
    stage: Stage, vendor: Vendor, point: str, how: str
) -> None:
    session = stage.session(**UPLOADS)
    if point != "close.unnoted":
        stage.arm(point, how)
    turn = stage.client.send(session, "What is this?", attachments=[a_png(), PDF])
    if how == "freeze" and point != "close.unnoted":
        until(lambda: not stage.trap.exists())
        with stage.frozen(stage.owner(turn)):
            turn.result(timeout=WAIT)
    assert turn.result(timeout=WAIT).text.startswith("echo")
    assert len(vendor.double.files.kept) >= 2
    names = [name_in(one.filename) for one in vendor.double.files.kept.values()]
    assert len({mark_in(name) for name in names}) == 1
    assert all(map(mark_in, names)), "each copy bears the mark of the store that knows it"
    if point == "close.unnoted":
        stage.arm(point, "kill")
    stage.client.sessions.delete(session)
    if point == "close.unnoted":
        stage.fall()
    until(lambda: not (all_due(stage) and vendor.double.files.kept))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_workers_die_around_uploads_and_no_copy_row_or_byte_stays(
    stage: Stage, vendor: Vendor
) -> None:
    """TURNMILL_TEST_KILLS says how many it is to be instead."""
    draw, points = random.Random(7), [point for point, how in FALLS if how == "kill"]
    ended = 0
    for n in range(KILLS):
        point, session = draw.choice(points), stage.session(**UPLOADS)
        if point != "close.unnoted":
            stage.arm(point)
        turn = stage.client.send(session, "What is this?", attachments=[a_png(5 + n % 90), PDF])
        if point != "close.unnoted":
            stage.fall()
        ended += turn.result(timeout=WAIT).text.startswith("echo")
        if point == "close.unnoted":
            stage.arm(point)
        stage.client.sessions.delete(session)
        if point == "close.unnoted":
            stage.fall()
    assert ended == KILLS
    until(lambda: not (all_due(stage) and vendor.double.files.kept))
    # What may still arrive is looked for until it cannot: five minutes from its beginning.
    rows = "SELECT ref FROM turnmill.kept_refs"
    until(lambda: not stage.system.rows(rows), within=timedelta(minutes=8))
    assert not stage.system.rows("SELECT turn_id FROM turnmill.attachment_uses")
