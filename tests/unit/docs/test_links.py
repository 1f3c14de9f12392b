"""Links and anchors of README and docs/ lead somewhere, on the site too; every page is in its navigation; pictures read in the dark."""

import xml.etree.ElementTree as ElementTree

import pytest
import yaml

from tests.unit.docs.pages import DOCS, PAGES, README, ROOT, anchors, label, links, prose

SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
DRAWN = sorted((DOCS / "pictures").iterdir())
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=label)


def in_nav(entries):
    for entry in entries:
        for target in entry.values() if isinstance(entry, dict) else [entry]:
            yield from in_nav(target) if isinstance(target, list) else [target]


def relative(page):
    """Link, file, anchor."""
    for link in links(page):
        if "://" not in link and not link.startswith("mailto:"):
            path, _, anchor = link.partition("#")
            yield link, (page.parent / path).resolve() if path else page, anchor


@EVERY_PAGE
def test_every_link_leads_to_a_file_and_an_anchor_that_exist(page):
    for link, target, anchor in relative(page):
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", [page for page in PAGES if page != README], ids=label)
def test_a_page_links_only_to_what_the_site_has(page):
    for link, target, _ in relative(page):
        inside = target.relative_to(ROOT).parts
        assert inside[0] == "docs" or (inside[0] == "deploy" and target.is_file() and target.suffix != ".md"), link


def test_every_page_is_once_in_the_navigation():
    assert sorted(in_nav(SITE["nav"])) == sorted(str(page.relative_to(DOCS)) for page in PAGES if page != README)


def test_the_site_is_built_where_git_ignores_it_and_beside_deploy():
    """`make site` copies deploy/ beside it."""
    assert SITE["site_dir"] == "build/site/docs"
    assert "/build/" in (ROOT / ".gitignore").read_text().splitlines()


def test_nothing_is_fetched_from_elsewhere_when_a_page_is_read():
    assert SITE["theme"]["font"] is False
    assert SITE["plugins"] == ["search"], "offline, for one, loads a script for the search"
    assert not {"extra_css", "extra_javascript"} & set(SITE)
    for page in PAGES:
        assert not [line for line in prose(page).splitlines() if "](http" in line and "![" in line], label(page)
        assert 'src="http' not in prose(page), label(page)
        assert "```mermaid" not in page.read_text(), "the site would load a script for it"


@pytest.mark.parametrize("picture", DRAWN, ids=lambda picture: picture.name)
def test_a_picture_is_shown_has_a_text_and_reads_in_light_and_dark(picture):
    text = picture.read_text()
    assert any(target == picture for page in PAGES for _, target, _ in relative(page))
    root = ElementTree.fromstring(text)
    names = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert {"title", "desc", "style"} <= set(names)
    assert not {"script", "image", "use", "foreignObject"} & set(names)
    assert "prefers-color-scheme:dark" in text
    light, dark = text.split("@media (prefers-color-scheme:dark)")
    for colour in ("card", "t", "m"):
        assert f".{colour}{{fill:#" in light, colour
        assert f".{colour}{{fill:#" in dark, colour
