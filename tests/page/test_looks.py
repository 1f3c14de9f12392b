"""How the page looks: readable in light and dark, at every width; and its pictures for the documents."""

from pathlib import Path

import msgspec
import pytest

from tests.page.crowd import NIGHT, announced, hostile
from tests.page.reading import clicked

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "page"
WIDE = "2001:db8:1234:5678:9abc:def0:1234:5678"


@pytest.mark.parametrize("width", [360, 390, 768, 1024, 1280, 1400, 1440, 1920])
async def test_no_width_needs_scrolling_sideways(show, tab, width):
    await tab.look(width=width, height=844, phone=width < 760)
    await show(msgspec.structs.replace(NIGHT, vips=(*NIGHT.vips, *hostile().vips, announced(WIDE, "default/" + "x" * 240))))
    assert await tab.value("document.documentElement.scrollWidth") <= width
    table, section = [
        await tab.value(f"document.querySelector({selector!r}).getBoundingClientRect().right") for selector in ("table", "main > section")
    ]
    assert table <= section + 1


async def contrast(tab, selector):
    """WCAG 2.1: the ratio of the luminances of text and ground."""
    return await tab.value(
        """(() => {
          const found = document.querySelector(SELECTOR);
          const numbers = text => text.match(/[\\d.]+/g).map(Number);
          let ground = found;
          while (ground && (numbers(getComputedStyle(ground).backgroundColor)[3] ?? 1) === 0) ground = ground.parentElement;
          const light = ([red, green, blue]) => [red, green, blue].map(each => each / 255)
            .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
            .reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place], 0);
          const pair = [getComputedStyle(found).color, getComputedStyle(ground).backgroundColor].map(each => light(numbers(each)));
          return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        })()""".replace("SELECTOR", repr(selector))
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_every_text_can_be_read(show, tab, dark):
    await tab.look(width=1280, height=800, dark=dark)
    await show(NIGHT)
    for selector in (
        "#verdict",
        "dt",
        "dd",
        "#asof",
        "td.state",
        "tr[data-level=ok] td.state",
        "td.reason",
        "th button",
        "#changelist .muted",
    ):
        assert await contrast(tab, selector) >= 4.5, selector


@pytest.mark.parametrize(
    ("name", "width", "height", "dark"), [("light", 1440, 700, False), ("dark", 1440, 700, True), ("phone", 390, 844, False)]
)
async def test_pictures_for_the_documents(show, tab, name, width, height, dark):
    await tab.look(width=width, height=height, dark=dark, phone=name == "phone")
    await show(NIGHT)
    await clicked(tab, "#pause")
    PICTURES.mkdir(exist_ok=True)
    await tab.picture(PICTURES / f"{name}.png")
    assert 10_000 < (PICTURES / f"{name}.png").stat().st_size < 300_000
