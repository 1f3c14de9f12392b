"""What can be done on the page: filter, sort, choose, pause, by mouse, keyboard and on a phone."""

import asyncio

from tests.page.crowd import NIGHT, THREE
from tests.page.reading import cells, clicked, filtered, sorted_by


async def test_paused_it_asks_no_more(show, served):
    tab = await show(THREE)
    await clicked(tab, "#pause")
    await asyncio.sleep(0.5)
    asked = served.asked
    await asyncio.sleep(3)
    assert served.asked == asked
    await clicked(tab, "#pause")
    await tab.until("document.querySelector('#pause').textContent === 'Pause'")
    async with asyncio.timeout(10):
        while served.asked == asked:
            await asyncio.sleep(0.05)


async def test_a_filter_takes_words_in_any_order_and_covers_the_changes(show):
    tab = await show(NIGHT)
    await filtered(tab, "n2 MEDIA")
    assert await cells(tab, "services") == ["media/ingest", "media/edge", "media/transcode", "media/ingest"]
    await filtered(tab, "shop/cart")
    assert await cells(tab, "vip") == ["10.10.0.207"]
    assert await tab.value("document.querySelectorAll('#changelist li').length") == 1
    await filtered(tab, "nowhere")
    assert await tab.value("document.querySelector('#nothing').textContent") == "No VIP matches."
    assert await tab.value("document.querySelector('#nochange').textContent") == "No change matches."


async def test_one_state_alone_can_be_shown(show):
    tab = await show(NIGHT)
    await clicked(tab, "#kinds [data-kind=pending]")
    assert await cells(tab, "vip") == ["10.10.0.209"]
    assert await tab.value("document.querySelector('#kinds [data-kind=pending]').ariaPressed") == "true"
    await clicked(tab, "#kinds [data-kind=pending]")
    assert len(await cells(tab, "vip")) == 17


async def test_every_column_sorts_both_ways(show):
    tab = await show(NIGHT)
    await sorted_by(tab, "VIP")
    assert (await cells(tab, "vip"))[0] == "10.10.0.200"
    assert await tab.value("document.querySelector('th[aria-sort=ascending]').textContent") == "VIP"
    await sorted_by(tab, "VIP")
    assert (await cells(tab, "vip"))[0] == "10.10.0.2OO"
    assert await tab.value("document.querySelector('th[aria-sort=descending]').textContent") == "VIP"
    await sorted_by(tab, "Since")
    since = await cells(tab, "since")
    assert since[0].endswith("64 s")
    assert since[-1] == ""
    await sorted_by(tab, "Reason")
    reasons = [each for each in await cells(tab, "reason") if each]
    assert reasons == sorted(reasons)


async def test_the_keyboard_reaches_everything(show):
    tab = await show(NIGHT)
    await tab.value("document.activeElement.blur()")
    await tab.press("/", "/")
    assert await tab.value("document.activeElement.id") == "filter"
    await tab.write("grafana")
    assert await cells(tab, "vip") == ["10.10.0.210"]
    await tab.press("Escape")
    assert len(await cells(tab, "vip")) == 17
    reached = []
    for _ in range(30):
        await tab.press("Tab")
        reached.append(await tab.value("document.activeElement.id || document.activeElement.textContent"))
        if reached.count("VIP") == 1 and reached[-1] == "VIP":
            await tab.press("Enter", "\r")
    assert {"conflict 1", "all 17", "State", "VIP", "Reason", "changelist"} <= set(reached)
    assert (await cells(tab, "vip"))[0] == "10.10.0.200"


async def test_a_phone_can_sort(show, tab):
    await tab.look(width=390, height=844, phone=True)
    await show(NIGHT)
    assert await tab.value("document.querySelector('#sortby').checkVisibility()")
    await tab.value("{ const box = document.querySelector('#sortby'); box.value = 'vip'; box.dispatchEvent(new Event('change')); }")
    assert (await cells(tab, "vip"))[0] == "10.10.0.200"
