"""What a reader sees on the page, and what he does with his hands."""

ROWS = "[...document.querySelectorAll('#rows tr')]"


async def cells(tab, column):
    return await tab.value(f"{ROWS}.map(row => row.querySelector('td.{column}').textContent)")


async def verdict(tab):
    return await tab.value("document.querySelector('#verdict').textContent")


async def filtered(tab, text):
    await tab.value("document.querySelector('#filter').value = ''; document.querySelector('#filter').focus()")
    await tab.write(text)


async def clicked(tab, selector):
    await tab.value(f"document.querySelector({selector!r}).click()")


async def sorted_by(tab, label):
    await tab.value(f"[...document.querySelectorAll('#columns button')].find(each => each.textContent === {label!r}).click()")
