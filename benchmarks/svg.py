"""What both pictures are drawn with."""

from collections.abc import Iterable
from xml.sax.saxutils import escape

INK, FAINT = "#1c2529", "#66757c"
_FONT = "font-family='system-ui, sans-serif'"


def document(width: float, height: float, drawn: Iterable[str]) -> str:
    """Return a whole SVG on a white ground."""
    size = f"width='{width}' height='{height}'"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' {size} viewBox='0 0 {width} {height}'"
    ground = rect(0, 0, width, height, "#ffffff")
    return "\n".join([f"{head} role='img'>", ground, *drawn, "</svg>\n"])


def rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f"<rect x='{x:.1f}' y='{y}' width='{width:.1f}' height='{height}' fill='{colour}'/>"


def text(
    x: float, y: float, words: str, *, size: int = 14, colour: str = INK, anchor: str = "start"
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' fill='{colour}'"
        f" text-anchor='{anchor}' {_FONT}>{escape(words)}</text>"
    )
