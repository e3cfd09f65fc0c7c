"""Flower's pages with our tab in their bar, and ours beside them."""

from pathlib import Path
from typing import Any

from tornado.template import BaseLoader, Template

#: Ours; Flower's own are found where it has them.
PAGES = Path(__file__).parent / "pages"
PREFIX = "turnmill/"

# Put in before a line of Flower's own. Where a later Flower has other lines there, its pages stay
# as they are, and the tab is found by its address.
_ADDED = {
    "navbar.html": (
        '      </ul>\n\n      <ul class="app-nav app-nav-secondary',
        '        {% module Template("turnmill/tab.html", active=active_tab == "turnmill") %}\n',
    ),
    "task.html": (
        "      {% if not read_only %}\n      {% if task.state",
        '      {% module Template("turnmill/task_link.html", task=task) %}\n',
    ),
}


class Loader(BaseLoader):
    """Finds ours under `turnmill/`, and all others among Flower's."""

    def __init__(self, flowers: str, **options: Any) -> None:
        super().__init__(**options)
        self._flowers = Path(flowers)

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:
        """Names are whole: no page is meant relative to another one."""
        return name

    def _create_template(self, name: str) -> Template:
        if name.startswith(PREFIX):
            text = (PAGES / name.removeprefix(PREFIX)).read_text(encoding="utf-8")
        else:
            text = _with_ours(name, (self._flowers / name).read_text(encoding="utf-8"))
        return Template(text, name=name, loader=self)


def _with_ours(name: str, text: str) -> str:
    if name not in _ADDED:
        return text
    before, ours = _ADDED[name]
    return text.replace(before, ours + before, 1)
