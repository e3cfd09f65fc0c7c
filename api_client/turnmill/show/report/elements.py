"""Elements of a page. Text is text, whoever chose it: it is escaped where the page is written."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

#: What an element may hold: others, texts, and None, which is nothing.
Child: TypeAlias = Element | str | None

#: Of a name that somebody chose: what is longer is cut.
LONGEST_NAME = 48
#: Characters that show nothing, or turn around how others are shown.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Some scripts and emoji are written with these.
_JOINERS = frozenset({"\u200c", "\u200d"})
#: More marks than any script puts onto one letter.
_MOST_MARKS = 3


def el(tag: str, *children: Child, **attributes: object) -> Element:
    """Return an element. `class_` is `class`, `aria_label` is `aria-label`; None is left out."""
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.rstrip("_").replace("_", "-"), str(value))
    return put(made, children)


def put(parent: Element, children: Iterable[Child]) -> Element:
    """Add children at the end, and return the parent."""
    for child in children:
        if isinstance(child, Element):
            parent.append(child)
        elif child:
            _add_text(parent, child)
    return parent


def _add_text(parent: Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def name(value: str, *, empty: str = "none", longest: int = LONGEST_NAME) -> Element:
    """Return a name that somebody chose, apart from the direction of what is around it."""
    shown = shown_name(value, longest=longest)
    return el("bdi", shown, class_="name") if shown else el("span", empty, class_="quiet")


def shown_name(value: str, *, longest: int = LONGEST_NAME) -> str:
    """Return as much of a name as is shown: without what cannot be seen, and cut."""
    kept: list[str] = []
    marks = 0
    for one in unicodedata.normalize("NFC", value[: longest * 8]):
        marks = marks + 1 if unicodedata.category(one) in ("Mn", "Me") else 0
        if marks > _MOST_MARKS or (
            unicodedata.category(one) in _UNSEEN and one not in _JOINERS and not one.isspace()
        ):
            continue
        kept.append(one)
    words = " ".join("".join(kept).split())
    is_cut = len(words) > longest or len(value) > longest * 8
    return words[: longest - 1].rstrip() + "…" if is_cut else words


def written(root: Element) -> str:
    """Return the page. What `el` was given is escaped, in texts and in attributes."""
    text: str = tostring(root, encoding="unicode", method="html")
    return "<!DOCTYPE html>\n" + text + "\n"
