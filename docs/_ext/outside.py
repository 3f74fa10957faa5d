"""Links of a page to files outside of docs/: to the page that includes the file, or its path as text.

So pages are written with links that hold in the repository, and the built ones lead nowhere that is not built. A link
to a file that is not there stays as it is, and is a warning.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)]*)?\)")
INCLUDE = re.compile(r"^```\{include\} (\S+)", re.MULTILINE)


def included(docs: Path) -> dict[Path, Path]:
    """File outside of docs/ -> the page that is made of it."""
    found = {}
    for page in docs.rglob("*.md"):
        targets = INCLUDE.findall(page.read_text(encoding="utf-8"))
        if len(targets) == 1:  # one that includes pieces of several is none of them
            found[(page.parent / targets[0]).resolve()] = page
    return found


def rewritten(text: str, page: Path, docs: Path, pages: dict[Path, Path]) -> str:
    """The page's text with its links to the outside replaced."""

    def replaced(found: re.Match[str]) -> str:
        target = (page.parent / found[2]).resolve()
        if target.is_relative_to(docs) or not target.exists():
            return found[0]
        if target in pages:
            return f"[{found[1]}]({os.path.relpath(pages[target], page.parent)})"
        return f"{found[1]} (`{target.relative_to(docs.parent).as_posix()}`)"

    return LINK.sub(replaced, text)


def setup(app: Any) -> dict[str, bool]:
    docs = Path(app.srcdir).resolve()
    pages = included(docs)

    def read(app: Any, name: str, source: list[str]) -> None:
        source[0] = rewritten(source[0], docs / f"{name}.md", docs, pages)

    app.connect("source-read", read)
    return {"parallel_read_safe": True}
