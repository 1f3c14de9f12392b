"""An embedded API server on loopback, and a client of it."""

from collections.abc import AsyncIterator

import pytest

from lab.apiserver import ApiServer
from lab.kubeapi import KubeApi


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as running:
        yield running


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[KubeApi]:
    async with KubeApi(server.url) as client:
        yield client
