"""README and the pages under docs/ as text: their links, anchors and code. In: a page. Out: strings. It must not judge."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
GENERATED = {"annotations.md", "configuration.md", "doctor.md", "metrics.md", "mutants.md", "performance.md", "soak.md", "transcripts.md"}
WRITTEN = [page for page in PAGES if page.name not in GENERATED]

_FENCED = re.compile(r"^```[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)|\bsrc=\"([^\"]+)\"|\bhref=\"([^\"]+)\"")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


def label(page: Path) -> str:
    """How a failure names the page."""
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its fenced code."""
    return _FENCED.sub("", page.read_text())


def links(page: Path) -> list[str]:
    """The targets of its links and pictures, as they are written."""
    return [next(filter(None, found)) for found in _LINK.findall(_SPAN.sub("code", prose(page)))]


def spans(page: Path) -> list[str]:
    """Its inline code."""
    return _SPAN.findall(prose(page))


def blocks(page: Path) -> list[str]:
    """Its fenced code."""
    return _FENCED.findall(page.read_text())


def section_code(page: Path, heading: str) -> str:
    """The first fenced code under a heading."""
    _, _, rest = page.read_text().partition(f"\n## {heading}\n")
    return _FENCED.findall(rest.partition("\n## ")[0])[0]


def code(page: Path) -> list[str]:
    """Every piece of code: inline, and line by line."""
    return [*spans(page), *(line for block in blocks(page) for line in block.splitlines())]


def anchors(page: Path) -> set[str]:
    """The headings that a link can name both at GitHub and on the site."""
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").replace("*", "") for title in _HEADING.findall(prose(page))]
    return {_github(title) for title in titles} & {_site(title) for title in titles}


def _github(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def _site(title: str) -> str:
    # Python-Markdown's toc extension (slugify).
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())
