import asyncio
import datetime
import socket
import ssl
import stat
import subprocess

import pytest
from aiohttp import web

from kvip.errors import ApiError, ConfigError
from kvip.kube import auth
from kvip.kube.api import Api
from kvip.kube.auth import connect
from tests.unit.kube.kube_server import answer, kube_server, until, write_kubeconfig


async def test_a_token_is_sent(tmp_path):
    async with kube_server(answer(200, b"{}")) as server:
        path = write_kubeconfig(tmp_path / "k", server.url, user={"token": "secret"})
        async with await connect(kubeconfig=path) as connection:
            await Api(connection).get("/version", deadline_s=2)
    assert server.seen[0].headers["Authorization"] == "Bearer secret"


async def test_a_request_needs_no_thread(tmp_path, monkeypatch):
    """All of them may be stuck, in name resolution or on a disk, and a heartbeat must go out all the same."""
    async with (
        kube_server(answer(200, b"{}")) as server,
        await connect(kubeconfig=write_kubeconfig(tmp_path / "k", server.url)) as connection,
    ):
        monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", None)
        await Api(connection).get("/version", deadline_s=2)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("env", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ({"https_proxy": "http://u:p@proxy.example:3128", "HTTP_PROXY": "http://other.example"}, "http://u:p@proxy.example:3128"),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "10.0.0.1,.example"}, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "elsewhere.test"}, "http://proxy.example:3128"),
    ],
)
async def test_the_proxy_of_the_environment_counts(tmp_path, monkeypatch, env, proxy):
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    path = write_kubeconfig(tmp_path / "k", "https://api.example:6443")
    async with await connect(kubeconfig=path) as connection:
        assert connection.proxy == proxy


async def test_requests_go_through_the_proxy(tmp_path, monkeypatch):
    async with kube_server(answer(200, b"{}")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with await connect(kubeconfig=write_kubeconfig(tmp_path / "k", "http://api.example:6443")) as connection:
            await Api(connection).get("/version", deadline_s=2)
    assert len(proxy.seen) == 1


async def test_a_token_file_is_read_again_without_holding_a_request_up(tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("one\n")
    async with kube_server() as server:
        server.default = answer(200, b"{}")
        path = write_kubeconfig(tmp_path / "k", server.url, user={"tokenFile": str(token)})
        async with await connect(kubeconfig=path) as connection:
            api = Api(connection)
            await api.get("/a", deadline_s=2)
            token.write_text("two\n")
            monkeypatch.setattr(auth, "REFRESH_S", 0.0)
            await api.get("/b", deadline_s=2)
            await api.get("/c", deadline_s=2)
    assert [seen.headers["Authorization"] for seen in server.seen] == ["Bearer one", "Bearer one", "Bearer two"]


async def test_credentials_that_cannot_be_read_again_stay_in_use(tmp_path, monkeypatch, caplog):
    token = tmp_path / "token"
    token.write_text("one")
    async with kube_server() as server:
        server.default = answer(200, b"{}")
        path = write_kubeconfig(tmp_path / "k", server.url, user={"tokenFile": str(token)})
        async with await connect(kubeconfig=path) as connection:
            monkeypatch.setattr(auth, "REFRESH_S", 0.0)
            token.unlink()
            for _ in range(3):
                await Api(connection).get("/a", deadline_s=2)
            await until(lambda: caplog.records)
    assert {seen.headers["Authorization"] for seen in server.seen} == {"Bearer one"}
    assert [record.message for record in caplog.records] == ["credentials not refreshed"]


async def test_a_credential_plugin_is_run(tmp_path):
    expires = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    plugin = tmp_path / "plugin"
    plugin.write_text(
        '#!/bin/sh\necho \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",'
        f'"status":{{"token":"made","expirationTimestamp":"{expires}"}}}}\'\n'
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}}
    async with kube_server(answer(200, b"{}")) as server:
        path = write_kubeconfig(tmp_path / "k", server.url, user=user)
        async with await connect(kubeconfig=path) as connection:
            await Api(connection).get("/version", deadline_s=2)
    assert server.seen[0].headers["Authorization"] == "Bearer made"


async def test_a_plugin_that_does_not_answer_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(auth, "LOAD_DEADLINE_S", 0.05)

    async def never(**_):
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(auth, "load_kube_config", never)
    with pytest.raises(ConfigError, match=r"did not arrive within 0\.05 s"):
        await connect(kubeconfig=write_kubeconfig(tmp_path / "k", "http://127.0.0.1:1"))


async def test_a_pod_uses_its_service_account(tmp_path, monkeypatch):
    token, ca = tmp_path / "token", tmp_path / "ca.crt"
    make_certificate(tmp_path)
    token.write_text("pod-token\n")
    ca.write_text((tmp_path / "cert.pem").read_text())
    monkeypatch.setattr(auth, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(auth, "SERVICE_CERT_FILENAME", str(ca))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    async with await connect(kubeconfig=None) as connection:
        assert connection.host == "https://[fd00::1]:443"
        assert (await connection.headers())["Authorization"] == "bearer pod-token"
        token.write_text("rotated")
        monkeypatch.setattr(auth, "REFRESH_S", 0.0)
        await connection.headers()
        monkeypatch.setattr(auth, "REFRESH_S", 60.0)
        await asyncio.sleep(0)
        assert (await connection.headers())["Authorization"] == "bearer rotated"


async def test_outside_of_a_cluster_the_error_names_what_was_looked_for(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match=r"KUBERNETES_SERVICE_HOST.*serviceaccount/token"):
        await connect(kubeconfig=None)


async def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no such file.*nowhere"):
        await connect(kubeconfig=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("text", ["", "[]", "a: b: c", "current-context: x\ncontexts: []\nclusters: []\nusers: []\n", "\x00"])
async def test_a_file_that_is_no_kubeconfig_is_a_config_error(tmp_path, text):
    (tmp_path / "k").write_text(text)
    with pytest.raises(ConfigError, match="kubeconfig: cannot be used"):
        await connect(kubeconfig=str(tmp_path / "k"))


async def test_a_certificate_that_does_not_exist_is_a_config_error(tmp_path):
    path = write_kubeconfig(tmp_path / "k", "https://127.0.0.1:1", cluster={"certificate-authority": "/nowhere.crt"})
    with pytest.raises(ConfigError, match="nowhere"):
        await connect(kubeconfig=path)


async def test_tls_is_verified_unless_told_otherwise(tmp_path):
    make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    app = web.Application()
    app.router.add_get("/version", answer(200, b"ok"))
    runner = web.AppRunner(app, shutdown_timeout=0.001)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with await connect(kubeconfig=write_kubeconfig(tmp_path / "a", url)) as connection:
            with pytest.raises(ApiError) as caught:
                await Api(connection).get("/version", deadline_s=2)
            assert (caught.value.status, caught.value.reason) == (0, "ClientConnectorCertificateError")
        path = write_kubeconfig(tmp_path / "b", url, cluster={"insecure-skip-tls-verify": True})
        async with await connect(kubeconfig=path) as connection:
            assert await Api(connection).get("/version", deadline_s=2) == b"ok"
        path = write_kubeconfig(
            tmp_path / "c", url, cluster={"certificate-authority": str(tmp_path / "cert.pem"), "tls-server-name": "kube.test"}
        )
        async with await connect(kubeconfig=path) as connection:
            assert await Api(connection).get("/version", deadline_s=2) == b"ok"
    finally:
        await runner.cleanup()


async def test_sockets_notice_a_silent_peer(tmp_path):
    async with kube_server(answer(200, b"ok")) as server:
        path = write_kubeconfig(tmp_path / "k", server.url)
        async with await connect(kubeconfig=path) as connection:
            await Api(connection).get("/version", deadline_s=2)
            ((handler, _),) = next(iter(connection.session.connector._conns.values()))
            sock = handler.transport.get_extra_info("socket")
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [2, 1, 3, 5000]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_the_pool_is_large(tmp_path):
    async with await connect(kubeconfig=write_kubeconfig(tmp_path / "k", "http://127.0.0.1:1")) as connection:
        assert connection.session.connector.limit >= 100


async def test_the_event_loop_makes_the_sockets(tmp_path, monkeypatch):
    """uvloop closes that of a socket object that it was given twice when the peer resets at once, the second time whosever it is."""
    loop = asyncio.get_running_loop()
    connected, made = [], loop.create_connection

    async def create_connection(*args, **options):
        connected.append(options)
        return await made(*args, **options)

    monkeypatch.setattr(loop, "create_connection", create_connection)
    async with (
        kube_server(answer(200, b"ok")) as server,
        await connect(kubeconfig=write_kubeconfig(tmp_path / "k", server.url)) as connection,
    ):
        await Api(connection).get("/version", deadline_s=2)
    assert [options.get("sock") for options in connected] == [None]


def make_certificate(directory) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=kube.test"
    names = "subjectAltName=DNS:kube.test"
    files = ["-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
    subprocess.run([*command.split(), "-addext", names, *files], check=True, capture_output=True)


async def test_every_address_of_a_name_is_tried_whatever_its_family(tmp_path, monkeypatch):
    """A name with addresses of both families, and the server listens on one of them."""
    async with kube_server(answer(200, b"{}")) as server:
        port = int(server.url.rpartition(":")[2])
        url = f"http://api.example:{port}"
        async with await connect(kubeconfig=write_kubeconfig(tmp_path / "k", url)) as connection:

            async def resolve(*_, **__):
                return [{"host": host, "port": port} for host in ("::1", "127.0.0.1")]

            monkeypatch.setattr(connection.session.connector, "_resolve_host", resolve)
            await Api(connection).get("/version", deadline_s=2)
    assert len(server.seen) == 1
