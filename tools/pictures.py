"""The pictures of docs/monitoring.md: Flower's tab on a store full of accidents, in a real browser.

    .venv/bin/python -m tools.pictures [FOLDER]

Servers, Flower and store are of its own, and are removed at the end. Needs a Chromium.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.conftest import make_home
from tests.flower.seeds import a_busy_store
from tests.flower.stage import OPERATOR, Visitor, flower, viewer_of
from tools.chromium import chromium
from turnmill import Client
from turnmill.store.schema import migrate
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.valkey import EmbeddedValkey

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
#: Of a picture: the page, the width, whether it is dark.
PICTURES = {
    "tab-light": ("/turnmill", 1440, False),
    "tab-dark": ("/turnmill", 1440, True),
    "tab-narrow": ("/turnmill", 390, False),
    "turn-dark": ("/turnmill/turn/{turn}", 1440, True),
    "turn-narrow": ("/turnmill/turn/{turn}", 390, True),
    "waiting": ("/turnmill/waiting", 1440, False),
    "failed-narrow": ("/turnmill/failed", 390, False),
    "preview": ("/turnmill/act?verb=retry&state=dead", 1440, False),
    "session": ("/turnmill/session/{session}", 1440, False),
    "workers": ("/workers", 1440, False),
}
#: Those that docs show.
SHOWN = ("tab-light", "tab-narrow", "turn-dark")


async def take(visitor: Visitor, folder: Path, names: list[str], **ids: str) -> None:
    """Take these pictures."""
    async with chromium(OPERATOR) as tab:
        for name in names:
            path, width, dark = PICTURES[name]
            await tab.look(width=width, height=900, dark=dark)
            for _ in range(2):  # workers answer after the first look
                await tab.open(visitor.base + path.format(**ids))
            await tab.picture(folder / f"{name}.png")
            print(folder / f"{name}.png")


def main(folder: Path, names: list[str]) -> None:
    """Start everything, take the pictures, and leave nothing else behind."""
    folder.mkdir(parents=True, exist_ok=True)
    home = make_home()
    with (
        tempfile.TemporaryDirectory() as logs,
        EmbeddedPostgres(home.path, port=0, fsync=False) as postgres,
        EmbeddedValkey(home.path, port=0) as valkey,
        Client(database_url=postgres.url) as client,
    ):
        migrate.upgrade(postgres.url)
        turn = a_busy_store(client, postgres.url)
        with flower(
            database_url=postgres.url,
            viewer_url=viewer_of(postgres.url, postgres.url),
            broker_url=valkey.url,
            log=Path(logs) / "log",
        ) as visitor:
            ids = {"turn": str(turn.id), "session": str(turn.session_id)}
            asyncio.run(take(visitor, folder, names, **ids))
    home.discard()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), list(PICTURES))
    else:
        main(FOLDER, list(SHOWN))
