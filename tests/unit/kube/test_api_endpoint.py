"""The addresses behind the API server's URL: literal, by name, and not at all."""

import asyncio
import socket

import pytest

from kvip.core.model import Vip
from kvip.errors import ApiError
from kvip.kube import endpoint
from kvip.kube.endpoint import server_addresses


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("https://192.0.2.250:6443", "192.0.2.250"),
        ("https://192.0.2.250", "192.0.2.250"),
        ("https://[2001:DB8::000a]:6443", "2001:db8::a"),
        ("https://[2001:db8::a]/k8s/clusters/c-1", "2001:db8::a"),
        ("192.0.2.250:6443", "192.0.2.250"),
        ("http://127.0.0.1:8080", "127.0.0.1"),
    ],
)
async def test_an_address_in_the_url_is_taken_as_it_is(host, address):
    assert await server_addresses(host) == {Vip(address)}


def resolve_to(monkeypatch, answer):
    asked = []

    async def getaddrinfo(host, port, **_):
        asked.append(host)
        await asyncio.sleep(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


async def test_a_name_stands_for_all_its_addresses_in_canonical_form(monkeypatch):
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.250", 0)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8:0::a", 0, 0, 0)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1%2", 0, 0, 2)),
    ]
    asked = resolve_to(monkeypatch, found)
    assert await server_addresses("https://api.example.org:6443") == {Vip("192.0.2.250"), Vip("2001:db8::a")}
    assert asked == ["api.example.org"]


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long"), TimeoutError()])
async def test_a_name_that_does_not_resolve_is_an_error_and_not_an_empty_answer(monkeypatch, failure):
    resolve_to(monkeypatch, failure)
    with pytest.raises(ApiError, match=r"api\.example\.org") as caught:
        await server_addresses("https://api.example.org")
    assert caught.value.status == 0


async def test_a_resolver_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(endpoint, "RESOLVE_DEADLINE_S", 0.01)

    async def getaddrinfo(host, port, **_):
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(ApiError, match="TimeoutError"):
        await server_addresses("https://api.example.org")
