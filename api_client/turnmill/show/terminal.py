r"""The one place where text meets a terminal: what users wrote commands nothing there.

A terminal obeys control characters, and bidirectional and invisible ones lie to its reader. So on a
terminal each is shown as JSON writes it: `\u001b`. Pipes and files get text as it is, and names
in tables and sentences are shown that way everywhere: a line there stays one line.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO, TypedDict, cast

import click

if TYPE_CHECKING:
    from rich.console import Console

# Control, format, line and paragraph separators, surrogates: what Unicode calls Cc, Cf, Zl, Zp, Cs,
# but for the number signs of Arabic and Kaithi, which are seen.
_UNSEEN = (
    r"\x00-\x1f\x7f-\x9f\xad\u061c\u070f\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e007f\ud800-\udfff"
)
# Joiners make emoji and the letters of Persian and of Indian scripts; elsewhere they only hide.
_UNJOINED = r"\x00-\u02ff\u2000-\u206f\ufeff"
_JOINER = rf"(?<![^{_UNJOINED}])[\u200c\u200d]|[\u200c\u200d](?![^{_UNJOINED}])"
_USUAL_WIDTH = 80
_IN_A_LINE = rf"[{_UNSEEN}]|{_JOINER}"  # compiled when something is said, and kept
_IN_A_TEXT = rf"(?![\n\t])[{_UNSEEN}]|{_JOINER}"


def visible(text: str) -> str:
    """Return text whose lines and tabs are meant, with everything else that acts or hides shown."""
    return re.sub(_IN_A_TEXT, _shown, text.replace("\r\n", "\n"))


def on_one_line(text: str) -> str:
    """Return a name as one line: line ends and tabs are shown too."""
    return re.sub(_IN_A_LINE, _shown, text)


def _shown(found: re.Match[str]) -> str:
    import json

    return json.dumps(found[0])[1:-1]


class Guarded:
    """A stream to a terminal: whatever anybody writes into it is made visible.

    What is to colour or move is written to `rich_proxied_file`, as rich does of its own accord.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """Write it, with nothing in it that a terminal obeys."""
        return self.rich_proxied_file.write(visible(text))

    def writelines(self, lines: Iterable[str]) -> None:
        """Write them, as `write` does."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


def guard_terminals() -> None:
    """Let nothing reach a terminal by stdout or stderr that is not made visible."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Guarded) and stream.isatty():
            setattr(sys, name, Guarded(stream))


def trusted(stream: TextIO) -> TextIO:
    """Return the stream for text that we have coloured, and made visible, ourselves."""
    return cast("TextIO", getattr(stream, "rich_proxied_file", stream))


def tell(line: str) -> None:
    """Print a line of a result, on stdout."""
    click.echo(line)


def put(text: str) -> None:
    """Print text at once, as far as it goes: a line that is still being made."""
    sys.stdout.write(text)
    sys.stdout.flush()


def say(line: str, *, dim: bool = False) -> None:
    """Tell a person something that is no result: on stderr."""
    if dim:
        click.secho(visible(line), dim=True, file=trusted(sys.stderr))
    else:
        click.echo(line, err=True)


def console(*, stderr: bool = False, **options: Any) -> Console:
    """Return rich's door to stdout or stderr, which is as tight."""
    from rich.console import Console, RenderableType
    from rich.segment import Segment

    class Tight(Console):
        """Makes visible whatever is drawn on a terminal, but for what rich itself commands."""

        def render(self, renderable: RenderableType, options: Any = None) -> Iterable[Segment]:
            for one in super().render(renderable, options):
                if self.is_terminal and not one.control:
                    yield Segment(visible(one.text), one.style)
                else:
                    yield one

    if os.environ.get("COLUMNS") == "0":  # nobody knows: rich would draw nothing at all
        options["width"] = options.get("width") or _USUAL_WIDTH
    return Tight(stderr=stderr, highlight=False, **options)


class _Redirects(TypedDict):
    redirect_stdout: bool
    redirect_stderr: bool


#: For whatever rich draws again and again: it would exchange stdout and stderr for proxies of its
#: own meanwhile. Its drawing would then be spelled out, and what commands say pass us by.
STREAMS_STAY: _Redirects = {"redirect_stdout": False, "redirect_stderr": False}


def print_said(text: str, *, to: Console) -> None:
    """Print what somebody said: folded on a terminal, every byte of it into a pipe or file."""
    if to.is_terminal:
        to.print(visible(text), markup=False)
    else:
        to.file.write(text + "\n")
