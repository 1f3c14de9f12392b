"""Connections to a name with several addresses: none of them may use up a request's deadline."""

import asyncio
import socket
from functools import partial

import pytest

from kvip.errors import ApiError
from kvip.kube import connector
from kvip.kube.api import Api
from kvip.kube.auth import connect
from tests.unit.kube.kube_server import answer, kube_server, write_kubeconfig


async def test_an_address_that_does_not_answer_does_not_use_up_the_deadline(tmp_path, monkeypatch):
    """The path of one family is black-holed: neither accepted nor refused."""
    loop = asyncio.get_running_loop()
    made = loop.create_connection

    async def create_connection(*args, host, **options):
        if host == "::1":
            await asyncio.sleep(60)
        return await made(*args, host=host, **options)

    monkeypatch.setattr(loop, "create_connection", create_connection)
    async with kube_server(answer(200, b"{}")) as server:
        port = int(server.url.rpartition(":")[2])
        async with await connect(kubeconfig=write_kubeconfig(tmp_path / "k", f"http://api.example:{port}")) as connection:
            _addresses(monkeypatch, connection, "::1", "127.0.0.1", port=port)
            await Api(connection).get("/version", deadline_s=1)
    assert len(server.seen) == 1


async def test_a_name_of_which_no_address_answers_is_an_error_within_the_deadline(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with await connect(kubeconfig=write_kubeconfig(tmp_path / "k", f"http://api.example:{port}")) as connection:
        _addresses(monkeypatch, connection, "127.0.0.2", "127.0.0.1", port=port)
        with pytest.raises(ApiError) as caught:
            await Api(connection).get("/version", deadline_s=2)
    assert (caught.value.status, caught.value.reason) == (0, "ClientConnectorError")


async def test_of_two_connections_made_at_once_one_is_dropped():
    dropped = []

    class Transport:
        def __init__(self, name):
            self.name = name

        def abort(self):
            dropped.append(self.name)

    async def slow(name):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            # It was made just as it was given up.
            return Transport(name), None

    async def quick(name):
        return Transport(name), None

    transport, _ = await connector._first([partial(slow, "first"), partial(quick, "second")])
    assert (transport.name, dropped) == ("second", ["first"])


def _addresses(monkeypatch, connection, *hosts, port):
    async def resolve(*_, **__):
        return [{"host": host, "port": port} for host in hosts]

    monkeypatch.setattr(connection.session.connector, "_resolve_host", resolve)
