"""The tab in a real browser: at both widths, light and dark, and by keyboard."""

import asyncio
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg import Error

from tests.flower.seeds import dead_letters, every_cause, run
from tests.flower.stage import Visitor
from tools.chromium import Tab, chromium, find_chromium
from turnmill import Client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anyio,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium here"),
]
#: Nothing is cut off: what is wider than the screen scrolls in a box of its own.
_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
#: What a link or a button says that has the focus.
_FOCUS = "(document.activeElement.matches('a, button') && document.activeElement.innerText) || ''"
#: 200 characters, as many as a name may have.
_EVIL = (
    "<img src=x onerror=window.pwned=1>'\"</script><script>window.pwned=1</script>{{7*7}}"
    + "W" * 200
)[:200]
_ASKED = (("sessions", "user"), ("failed", "code"), ("waiting", "name"), ("find", "q"))
_CONTRAST = """
[getComputedStyle(document.body).backgroundColor, getComputedStyle(
    document.querySelector('.tm .metric-value')).color]
"""


async def test_pages_fit_both_widths_light_and_dark_without_an_error_of_a_script(
    operator: Visitor, client: Client, store_url: str
) -> None:
    causes = every_cause(client, store_url)
    dead_letters(client, store_url, sessions=3, each=2)
    pages = (
        "",
        "/waiting",
        "/failed",
        "/batches",
        f"/turn/{causes['retry']}",
        "/sessions?user=ada",
    )
    async with chromium(operator.login) as tab:
        seen = set()
        for width in (390, 1440):
            for dark in (False, True):
                await tab.look(width=width, height=900, dark=dark)
                for page in (*pages, "/act?verb=retry&state=dead"):
                    await tab.open(f"{operator.base}/turnmill{page}")
                    assert await tab.evaluate(_OVERFLOW) <= 0, (page, width)
                    if page == "":
                        seen.add(tuple(await tab.evaluate(_CONTRAST)))
        assert len(seen) == 2  # light and dark are two looks
        assert tab.errors == []


async def test_whatever_stands_in_the_rows_is_text_and_fits(
    operator: Visitor, client: Client, store_url: str
) -> None:
    causes = every_cause(client, store_url)
    dead_letters(client, store_url, sessions=3, each=2)
    spoilt = _spoil_every_text(store_url)
    assert {"sessions.provider", "sessions.model", "turns.error_code"} <= spoilt
    pages = [f"/turn/{one}" for one in causes.values()]
    pages += [f"/{page}?{query}={quote(_EVIL)}" for page, query in _ASKED]
    async with chromium(operator.login) as tab:
        for width in (390, 1440):
            await tab.look(width=width, height=900, dark=False)
            for page in ("", "/waiting", "/failed", "/act?verb=retry&state=dead", *pages):
                await tab.open(f"{operator.base}/turnmill{page}")
                assert await tab.evaluate(_OVERFLOW) <= 0, (page, width)
                assert await tab.evaluate("window.pwned === undefined"), page
                assert await tab.evaluate("document.querySelector('img[src=x]') === null"), page
        assert tab.errors == []


def _spoil_every_text(store_url: str) -> set[str]:
    """Write what a browser would obey into each column of text that takes it; return which."""
    spoilt = set()
    for table, column in run(
        store_url,
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema ="
        " 'turnmill' AND data_type = 'text' AND column_name NOT IN ('state', 'kind', 'status')",
    ):
        with suppress(Error):  # it has a form of its own
            run(store_url, f"UPDATE turnmill.{table} SET {column} = %s WHERE {column} > ''", _EVIL)
            spoilt.add(f"{table}.{column}")
    return spoilt


async def test_a_dead_turn_is_retried_by_keyboard_alone(
    operator: Visitor, client: Client, store_url: str
) -> None:
    dead_letters(client, store_url, sessions=1, each=1)
    async with chromium(operator.login) as tab:
        await tab.look(width=1440, height=900, dark=False)
        await tab.open(f"{operator.base}/turnmill")
        await tab_to(tab, "Retry…")
        await enter(tab)
        await tab_to(tab, "Retry 1 turn")
        await enter(tab)
        await until(tab, "document.body.innerText.includes('Were so already')")
        assert "1 of 1" in await tab.evaluate("document.body.innerText")
    (turn,) = client.turns.list(states=["queued"])
    assert turn.state == "queued"


async def test_what_happens_is_seen_without_a_reload(
    operator: Visitor, client: Client, store_url: str, tmp_path: Path
) -> None:
    async with chromium(operator.login) as tab:
        await tab.open(f"{operator.base}/turnmill")
        assert "Nothing waits, and nothing runs." in await tab.evaluate("document.body.innerText")
        every_cause(client, store_url)
        await until(tab, "document.body.innerText.includes('its lane is paused')")
        assert tab.errors == []


async def tab_to(tab: Tab, words: str) -> None:
    """Press Tab until what has the focus says so."""
    for _ in range(120):
        await tab.press("Tab", code=9)
        if words in await tab.evaluate(_FOCUS):
            return
    raise AssertionError(f"{words!r} is not reached by Tab")


async def enter(tab: Tab) -> None:
    before = await tab.evaluate("window.location.href")
    await tab.press("Enter", code=13, text="\r")
    await until(tab, f"window.location.href !== {before!r} && document.readyState === 'complete'")


async def until(tab: Tab, expression: str) -> None:
    async with asyncio.timeout(20):
        while not await tab.evaluate(expression):  # noqa: ASYNC110 - the page has no event for it
            await asyncio.sleep(0.1)
