"""The pages of the documentation, and the blocks of code in them with what is said of each."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
#: The reference is made from docstrings; its blocks are signatures.
GENERATED = ROOT / "docs" / "api.md"
_FENCE = re.compile(r"^( *)```([\w-]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (before|after|not run|run by|until):\s*(.*?)\s*-->\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code, and the marks in comments right above it, which no reader of the page sees.

    before    what the page takes for granted: lines that are run first
    after     what has to be so then: lines of Python that are run next
    until     it runs until it is stopped, which is done once it has said this
    not run   the reason why it is not
    run by    the test that runs it, since it needs more than a shell
    """

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Return all that is written for people, but for the reference and the history of changes."""
    written = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*/*.md")]
    return sorted(set(written) - {GENERATED, ROOT / "CHANGELOG.md"})


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        above = text[: found.start()]
        yield Block(
            page=page,
            line=above.count("\n") + 1,
            language=found[2],
            text=dedent(found[3]),
            marks=dict(_marks_at_the_end(above)),
        )


def _marks_at_the_end(above: str) -> Iterator[tuple[str, str]]:
    while above.endswith("-->\n"):
        start = above.rindex("<!--")
        mark = _MARK.fullmatch(above[start:])
        assert mark is not None, above[start:]
        yield mark[1], mark[2]
        above = above[:start]


def prose_of(page: Path) -> str:
    """Return a page without its blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def commands_of(block: Block) -> str:
    """Return the lines of a console that were typed; without a prompt, all of them."""
    if block.language != "console":
        return block.text
    lines = block.text.splitlines()
    return "\n".join(line.removeprefix("$ ") for line in lines if line.startswith("$ "))
