"""Finds the API server, proves who we are, and opens the HTTP session: the only importer of `kubernetes.aio`.

In: a kubeconfig path, or the files of a pod's service account. Out: a `Connection` with an aiohttp session whose sockets
notice a dead peer within 5 s, and the headers of each request. Must not send requests, and must not import the generated
API classes and models (a second and tens of MiB; the modules imported here cost 0.2 s).
"""

from __future__ import annotations

import asyncio
import logging
import os
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.incluster_config import (
    SERVICE_CERT_FILENAME,
    SERVICE_HOST_ENV_NAME,
    SERVICE_PORT_ENV_NAME,
    SERVICE_TOKEN_FILENAME,
    InClusterConfigLoader,
)
from kubernetes.aio.config.kube_config import ENV_KUBECONFIG_PATH_SEPARATOR, load_kube_config

from kvip.errors import ConfigError
from kvip.kube.connector import Connector

log = logging.getLogger(__name__)

Reload = Callable[[Configuration], Awaitable[None]]
"""Reads the credentials again into a `Configuration`."""

REFRESH_S = 60.0
"""Credentials are read again at most this often; client-go reads a pod's token file each minute too."""
LOAD_DEADLINE_S = 30.0
"""For a credential plugin to answer."""


def _proxy_of_the_environment(host: str) -> str | None:
    """HTTPS_PROXY, HTTP_PROXY and NO_PROXY count, as with client-go. Read once: with `trust_env` aiohttp has a thread read them for each
    request, and a heartbeat would wait for a free thread and for its turn with the interpreter."""
    url = urlsplit(host)
    if url.hostname is None or urllib.request.proxy_bypass(url.hostname):
        return None
    return urllib.request.getproxies().get(url.scheme)


class Connection:
    """One pool of sockets to one API server, with the credentials for it.

    `host` is the server's URL without a trailing slash; `tls_server_name`, `proxy` and `proxy_headers` are per-request
    options of aiohttp. Close it, or use it as an async context manager.
    """

    def __init__(self, client: ApiClient, reload: Reload) -> None:
        configuration = client.configuration
        self.host: str = configuration.host.rstrip("/")
        self.tls_server_name: str | None = configuration.tls_server_name or None
        self.proxy: str | None = configuration.proxy or _proxy_of_the_environment(self.host)
        self.proxy_headers: dict[str, str] | None = configuration.proxy_headers
        self._client = client
        self._reload = reload
        self._loaded_at = asyncio.get_running_loop().time()
        self._refresh: asyncio.Task[None] | None = None
        self._refresh_failed = False
        self.session = aiohttp.ClientSession(
            connector=Connector(ssl=client.rest_client.ssl_context),
            connector_owner=True,
            cookie_jar=aiohttp.DummyCookieJar(),
            # An object may be 1.5 MiB (etcd's limit); aiohttp pauses the socket at twice this size.
            read_bufsize=1 << 20,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        # ApiClient uses and closes the session that it finds here.
        client.rest_client.pool_manager = self.session

    async def headers(self) -> dict[str, str]:
        """The headers every request carries. Never waits for a refresh: the credentials in hand are used meanwhile."""
        now = asyncio.get_running_loop().time()
        if now - self._loaded_at >= REFRESH_S and (self._refresh is None or self._refresh.done()):
            self._loaded_at = now
            self._refresh = asyncio.create_task(self._reload_credentials(), name="kube-credentials")
        found = {"User-Agent": "kvip", "Accept": "application/json", "Accept-Encoding": "identity"}
        token = await self._client.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:
            # A token file may end in a newline, which is not allowed in a header.
            found["Authorization"] = token.strip()
        return found

    async def close(self) -> None:
        """Close the sockets and stop a refresh under way."""
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.wait([self._refresh])
        await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _reload_credentials(self) -> None:
        try:
            async with asyncio.timeout(LOAD_DEADLINE_S):
                await self._reload(self._client.configuration)
        # The loader raises whatever its plugins, files and parsers raise; the old credentials stay in use.
        except Exception as error:
            if not self._refresh_failed:
                log.warning("credentials not refreshed", extra={"error": f"{type(error).__name__}: {error}", "retry_s": REFRESH_S})
            self._refresh_failed = True
        else:
            if self._refresh_failed:
                log.info("credentials refreshed again")
            self._refresh_failed = False


async def connect(*, kubeconfig: str | None) -> Connection:
    """Open a connection: to what `kubeconfig` names (paths joined by `:`, as in KUBECONFIG), else as a pod does.

    Sends nothing yet; a credential plugin is run at once, for up to 30 s. Raises `ConfigError` naming what was looked for.
    """
    configuration = Configuration()
    try:
        async with asyncio.timeout(LOAD_DEADLINE_S):
            reload = await (_from_kubeconfig(kubeconfig, configuration) if kubeconfig else _from_pod(configuration))
        return Connection(ApiClient(configuration), reload)
    except ConfigError:
        raise
    except TimeoutError as error:
        problem = f"credentials did not arrive within {LOAD_DEADLINE_S:g} s"
        raise ConfigError("kubeconfig", problem, source=kubeconfig or "pod") from error
    # yaml, base64, ssl, plugins and the loader itself (a TypeError for a missing user) each raise their own kind.
    except Exception as error:
        raise ConfigError("kubeconfig", f"cannot be used: {type(error).__name__}: {error}", source=kubeconfig or "pod") from error


async def _from_kubeconfig(paths: str, configuration: Configuration) -> Reload:
    if not _any_exists(paths):
        raise ConfigError("kubeconfig", "no such file", source=paths)
    # persist_config: the file is the operator's; a refreshed token is kept in memory only.
    loader = await load_kube_config(config_file=paths, client_configuration=configuration, persist_config=False)

    async def reload(target: Configuration) -> None:
        await loader.load_and_set(target)

    return reload


async def _from_pod(configuration: Configuration) -> Reload:
    # The loader's own refresh runs by the wall clock, which may jump: refused, `Connection` does it by the monotonic one.
    loader = InClusterConfigLoader(SERVICE_TOKEN_FILENAME, SERVICE_CERT_FILENAME, try_refresh_token=False)
    missing = _missing_in_pod()
    if missing:
        wanted = ", ".join(missing)
        raise ConfigError("kubeconfig", f"none given, and this is no pod of a cluster: {wanted} not found; give a kubeconfig file")

    async def reload(target: Configuration) -> None:
        loader.load_and_set(target)

    await reload(configuration)
    return reload


def _any_exists(paths: str) -> bool:
    return any(os.path.exists(os.path.expanduser(path)) for path in paths.split(ENV_KUBECONFIG_PATH_SEPARATOR) if path)


def _missing_in_pod() -> list[str]:
    missing = [name for name in (SERVICE_HOST_ENV_NAME, SERVICE_PORT_ENV_NAME) if not os.environ.get(name)]
    return missing + [name for name in (SERVICE_TOKEN_FILENAME, SERVICE_CERT_FILENAME) if not os.path.isfile(name)]
