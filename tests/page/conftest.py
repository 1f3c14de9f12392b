"""A browser and a server of the page for each test. Without a browser every test is skipped, loudly."""

import socket
import subprocess
from contextlib import asynccontextmanager
from email.utils import format_datetime

import msgspec
import pytest
from aiohttp import web

from kvip.observe import page
from kvip.observe.http import running
from lab import browser
from tests.page.crowd import WALL


def pytest_collection_modifyitems(items):
    missing = not browser.find()
    for item in items:
        if "tests/page" in str(item.path):
            item.add_marker(pytest.mark.timeout(180))
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"THE PAGE IS NOT TESTED: {browser.HOW}"))


class Served:
    """The page at `url`, with the document of the test."""

    def __init__(self):
        self.view = None
        self.url = ""
        self.asked = 0
        self.broken = False

    async def state(self):
        self.asked += 1
        if self.broken:
            raise ConnectionResetError
        return msgspec.json.encode(self.view)

    @asynccontextmanager
    async def listening(self):
        async with running(page.pages(self.state, loopback_only=True)) as runner:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"{site.name}/"
            yield


@pytest.fixture(scope="session")
def loopback():
    """In a network namespace of its own even the loopback is down at first."""
    if [name for _, name in socket.if_nameindex()] == ["lo"]:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@pytest.fixture
async def served(loopback, monkeypatch):
    """Where the document is put; answered at the instant of the made-up documents."""
    monkeypatch.setitem(page.COMMON, "Date", format_datetime(WALL, usegmt=True))
    one = Served()
    async with one.listening():
        yield one


@pytest.fixture
async def tab(served):
    """A browser."""
    async with browser.browsing(browser.find()) as one:
        await one.look(width=1280, height=800)
        yield one


@pytest.fixture
def show(served, tab):
    """Puts a document there and opens the page; returns once it is drawn."""

    async def opened(view):
        served.view = view
        await tab.open(served.url)
        await tab.until("document.querySelector('#asof')?.textContent.startsWith('as of')")
        return tab

    return opened
