"""The page of a report in a real browser: widths, light and dark, by keyboard, and axe-core."""

import json
from typing import Any

import pytest

from tests import npm
from tests.made_up_report import made_up_report
from tools.chromium import Tab, chromium, find_chromium
from turnmill.show.report.page import report_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anyio,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium here"),
]
PACKAGE = "axe-core@4"
_LOOKS = [(width, dark) for width in (390, 1440) for dark in (False, True)]
#: Nothing is cut off: what is wider than the screen scrolls in a box of its own.
_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_GROUND = "getComputedStyle(document.body).backgroundColor"
_FOCUS = "document.activeElement.tagName"
#: Texts that are wider than what holds them, and are not let scroll.
_CUT = """
[...document.querySelectorAll('.tile .value, .look li, h1, h2:not(.unseen), .legend, figcaption')]
    .filter(one => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0)
    .map(one => one.textContent)
"""


#: Tables that a long name has pushed beyond their box.
_WIDE = """
[...document.querySelectorAll('.main > .scroll')]
    .filter(one => one.scrollWidth > one.clientWidth + 1)
    .map(one => one.getAttribute('aria-label'))
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_page(made_up_report(days=31)), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    names = ["W" * 10_000, "</script><script>document.title='taken'</script>", "\u202eabc"] * 5
    path = tmp_path_factory.mktemp("report") / "hostile.html"
    path.write_text(report_page(made_up_report(names=names)), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return axe-core, from npm, run by a node from a wheel."""
    folder = tmp_path_factory.mktemp("npm")
    npm.install(PACKAGE, folder)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


async def test_a_page_fits_a_phone_and_a_laptop_light_and_dark(page: str, hostile: str) -> None:
    async with chromium("nobody:nothing") as tab:
        grounds = set()
        for width, dark in _LOOKS:
            await tab.look(width=width, height=900, dark=dark)
            for url in (page, hostile):
                await tab.open(url)
                assert await tab.evaluate(_OVERFLOW) <= 0, (width, dark, url)
                assert await tab.evaluate(_CUT) == [], (width, dark, url)
                assert "taken" not in await tab.evaluate("document.title")
                assert width < 1440 or await tab.evaluate(_WIDE) == [], (dark, url)
            grounds.add(await tab.evaluate(_GROUND))
        assert len(grounds) == 2  # light and dark are two looks
        assert tab.errors == []


async def test_a_page_is_read_by_keyboard_alone(page: str) -> None:
    async with chromium("nobody:nothing") as tab:
        await tab.look(width=1440, height=900, dark=False)
        await tab.open(page)
        await tab.press("Tab", code=9)
        assert "Skip" in await tab.evaluate("document.activeElement.textContent")
        seen = set()
        for _ in range(60):
            await tab.press("Tab", code=9)
            seen.add(await tab.evaluate(_FOCUS))
            if await tab.evaluate(_FOCUS) == "SUMMARY":
                break
        assert "SUMMARY" in seen
        await tab.press("Enter", code=13, text="\r")
        assert await tab.evaluate("document.activeElement.parentElement.open")
        table = "document.activeElement.parentElement.querySelectorAll('tbody tr').length"
        assert await tab.evaluate(table) == 31


async def _found(tab: Tab, axe: str) -> list[dict[str, Any]]:
    await tab.evaluate(f"{axe}; undefined")
    said = await tab.evaluate("axe.run(document).then(found => JSON.stringify(found.violations))")
    return [one for one in json.loads(said) if one["impact"] in ("serious", "critical")]


async def test_axe_finds_nothing_serious(page: str, axe: str) -> None:
    async with chromium("nobody:nothing") as tab:
        for width, dark in _LOOKS:
            await tab.look(width=width, height=900, dark=dark)
            await tab.open(page)
            await tab.evaluate(
                "document.querySelectorAll('details').forEach(one => one.open = true)"
            )
            found = await _found(tab, axe)
            told = [(one["id"], [node["html"][:160] for node in one["nodes"][:3]]) for one in found]
            assert told == [], (width, dark)
