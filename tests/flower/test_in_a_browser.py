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


_AS_OF = "document.querySelector('.tm .refresh-status time').innerText"
_ACTS = "document.querySelector('.tm-acts').innerText"
_STATUS = "document.querySelector('.tm .refresh-status').innerText"
_NO_PAGE = "window.fetch = () => Promise.resolve({text: () => Promise.resolve('<h1>502</h1>')})"
_NO_ANSWER = "window.fetch = () => Promise.reject(new TypeError('refused'))"


async def test_what_may_be_done_and_of_when_it_is_come_with_what_is_seen(
    operator: Visitor, client: Client, store_url: str
) -> None:
    turn = every_cause(client, store_url)["retry"]
    async with chromium(operator.login) as tab:
        for page in ("/waiting", f"/turn/{turn}"):
            await tab.open(f"{operator.base}/turnmill{page}")
            first = await tab.evaluate(_AS_OF)
            await until(tab, f"{_AS_OF} !== {first!r}")
        assert "Cancel…" in await tab.evaluate(_ACTS)
        run(
            store_url,
            "UPDATE turnmill.turns SET state = 'dead', finished_at = now() WHERE id = %s",
            turn,
        )
        await until(tab, f"{_ACTS}.includes('Retry…')")
        assert "Cancel…" not in await tab.evaluate(_ACTS)
        assert tab.errors == []


async def test_a_page_that_nobody_brings_up_to_date_says_so_in_words(
    operator: Visitor, client: Client, store_url: str
) -> None:
    every_cause(client, store_url)
    async with chromium(operator.login) as tab:
        for page, breaks in (("", _NO_PAGE), ("/waiting", _NO_PAGE), ("", _NO_ANSWER)):
            await tab.open(f"{operator.base}/turnmill{page}")
            assert "nothing newer" not in await tab.evaluate(_STATUS)
            await tab.evaluate(f"window.ours = window.fetch; {breaks}; 1")
            await until(tab, f"{_STATUS}.includes('; nothing newer is to be had')")
            assert await tab.evaluate("document.querySelector('.status-dot-live') === null")
            await tab.evaluate("window.fetch = window.ours; 1")
            await until(tab, f"!{_STATUS}.includes('nothing newer')")
            assert (await tab.evaluate(_STATUS)).count("as of") == 1


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
