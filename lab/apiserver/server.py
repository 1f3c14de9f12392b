"""The HTTP side: verbs, watches, errors as `metav1.Status`, and the lab's own switches.

Inputs: requests. Outputs: JSON as kube-apiserver sends it. Bearer tokens are accepted and ignored: every client may do
everything. Discovery, server-side apply, JSON patch, protobuf and Tables are not served.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from aiohttp import web

from lab.apiserver.faults import FaultRequest, Faults, Rule
from lab.apiserver.lists import Lister, list_body
from lab.apiserver.patch import merge_patch
from lab.apiserver.paths import Target, checked_object, decode_object, is_true, number_of, parse_path, selection, version_of
from lab.apiserver.reviews import answered, is_review
from lab.apiserver.status import StatusError, injected, invalid, no_such_path
from lab.apiserver.store import State, Store
from lab.apiserver.watch import WatchOptions, serve_watch

MAX_BODY_BYTES = 3 * 1024 * 1024
"""The real server's limit of a request body."""
DEFAULT_WATCH_TIMEOUT_S = 1800
_PATCH_TYPES = frozenset({"application/merge-patch+json", "application/strategic-merge-patch+json"})
_HEALTH_PATHS = frozenset({"/readyz", "/livez", "/healthz"})


class ApiServer:
    """The embedded API server; `async with` starts and stops it."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        bookmark_period_s: float = 60.0,
        history_limit: int = 10_000,
        state: State | None = None,
    ) -> None:
        self.host = host
        self.port = port
        """The port; 0 until started when a free one was asked for."""
        self.faults = Faults()
        self._bookmark_period_s = bookmark_period_s
        self._history_limit = history_limit
        self._lister = Lister()
        self._watches: dict[int, tuple[asyncio.Transport, str]] = {}
        self._runner: web.AppRunner | None = None
        self.store = self._new_store(state)

    @property
    def url(self) -> str:
        """http://host:port, once started."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    async def __aenter__(self) -> ApiServer:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. Errors: OSError when the address cannot be used."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # A handler ends when its client goes: stalled requests and idle watches would stay otherwise.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, reuse_address=True)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Cut the watches and stop listening; stalled requests are never carried out."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        self.drop_watches("")
        async with asyncio.timeout(5):
            await runner.cleanup()

    def drop_watches(self, client: str) -> None:
        """Cut the connections of all watches, or of one client's ("" = all)."""
        for transport, remote in list(self._watches.values()):
            if client in {"", remote}:
                transport.abort()

    def restore_empty(self) -> None:
        """Start the cluster's history anew, as after a restore of etcd: no objects, low versions; watches are cut."""
        self.drop_watches("")
        self._lister.clear()
        self.store = self._new_store(None)

    def _new_store(self, state: State | None) -> Store:
        store = Store(history_limit=self._history_limit, state=state)
        store.hidden_from = self.faults.hidden_from
        return store

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        client = request.remote or ""
        if request.path.startswith("/_lab/"):
            return await self._control(request)
        if request.path in _HEALTH_PATHS:
            await self.faults.gate(client)
            return web.Response(text="ok")
        verb, resource, code = request.method, request.path, 0
        try:
            if is_review(verb, resource):
                body = await request.read()
                await self.faults.gate(client)
                response, code = _json(answered(resource, decode_object(body)), status=201), 201
                return response
            target = parse_path(request.path)
            resource = target.resource.plural + (f"/{target.subresource}" if target.subresource else "")
            if verb == "GET":
                verb = "WATCH" if is_true(request.query.get("watch")) else "GET" if target.name else "LIST"
            body = await request.read()
            await self.faults.gate(client)
            rule = self.faults.take_rule(client, request.method, request.path_qs)
            if rule is not None and not rule.apply:
                return self._fail(request, rule)
            if verb == "WATCH":
                return await self._watch(request, target)
            response = self._serve(request, target, verb, body)
            if rule is not None:
                return self._fail(request, rule)
            code = response.status
            return response
        except StatusError as error:
            code = error.code
            headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else None
            return _json(error.body(), status=error.code, headers=headers)
        finally:
            if verb != "WATCH" or code:  # a watch that began has been counted then
                self.faults.count(client, verb, resource, code)

    def _fail(self, request: web.Request, rule: Rule) -> web.Response:
        """What a fault rule does to a request. Errors: the rule's."""
        if rule.code:
            raise injected(rule.code)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    def _serve(self, request: web.Request, target: Target, verb: str, body: bytes) -> web.Response:
        resource, store = target.resource, self.store
        if verb == "LIST":
            return _json(self._lister.list(store, target, request.query))
        if verb == "GET":
            return _json(store.get(resource, target.namespace, target.name))
        if verb == "DELETE" and not target.subresource:
            return self._delete(request, target, body)
        if verb == "PATCH" and target.name:
            if request.content_type not in _PATCH_TYPES:
                raise StatusError(415, "415: Unsupported Media Type", details={})
            old = store.get(resource, target.namespace, target.name)
            merged = checked_object(merge_patch(old, decode_object(body)), target)
            return _json(store.update(resource, old, merged, subresource=target.subresource, patched=True))
        if verb == "PUT" and target.name:
            given = checked_object(decode_object(body), target)
            if not target.subresource and not store.has(resource, target.namespace, target.name):
                return _json(store.put_missing(resource, given, target.namespace), status=201)
            old = store.get(resource, target.namespace, target.name)
            return _json(store.update(resource, old, given, subresource=target.subresource))
        if verb == "POST" and not target.name and bool(target.namespace) == resource.namespaced:
            return _json(store.create(resource, checked_object(decode_object(body), target), target.namespace), status=201)
        raise StatusError(405, "the server does not allow this method on the requested resource", details={})

    def _delete(self, request: web.Request, target: Target, body: bytes) -> web.Response:
        resource, store = target.resource, self.store
        if not target.name:
            matches = selection(request.query, target)
            chosen = [obj for obj in store.list(resource, target.namespace) if matches(obj)]
            for obj in chosen:
                store.delete(resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
            return _json(list_body(resource, chosen, version=store.version))
        options = decode_object(body) if body else {}
        gone = store.delete(resource, target.namespace, target.name, preconditions=options.get("preconditions"))
        if resource.returns_deleted or gone["metadata"].get("deletionTimestamp"):
            return _json(gone)
        details = {"name": target.name, "kind": resource.plural, "uid": gone["metadata"]["uid"]}
        if resource.group:
            details["group"] = resource.group
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        query, client = request.query, request.remote or ""
        send_initial = query.get("sendInitialEvents")
        if send_initial is not None:
            self._check_watchlist(client, query.get("resourceVersionMatch"))
        since, streamed, bookmarks = version_of(query), is_true(send_initial), is_true(query.get("allowWatchBookmarks"))
        options = WatchOptions(
            resource=target.resource,
            namespace=target.namespace,
            matches=selection(query, target),
            since=since or None,
            initial=streamed or (send_initial is None and since == 0),
            initial_bookmark=streamed and bookmarks,
            bookmarks=bookmarks,
            timeout_s=number_of(query, "timeoutSeconds") or DEFAULT_WATCH_TIMEOUT_S,
            bookmark_period_s=self._bookmark_period_s,
        )
        if request.transport is None:
            return web.Response()  # the client left already
        self._watches[id(request)] = (request.transport, client)
        try:
            with suppress(ConnectionResetError):  # the client left, or `drop_watches` cut it
                return await serve_watch(
                    request,
                    self.store,
                    self.faults,
                    options,
                    started=lambda: self.faults.count(client, "WATCH", target.resource.plural, 200),
                )
            return web.Response()
        finally:
            del self._watches[id(request)]

    def _check_watchlist(self, client: str, version_match: str | None) -> None:
        field = "sendInitialEvents"
        if self.faults.on(client, "no_watchlist"):
            problem = "Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
        elif version_match != "NotOlderThan":
            field, problem = "resourceVersionMatch", "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        else:
            return
        raise invalid("ListOptions", "meta.k8s.io", "", field, problem)

    async def _control(self, request: web.Request) -> web.Response:
        """`/_lab/faults` GET and PUT, `/_lab/requests` GET, `/_lab/reset` POST (`?store=true` empties the cluster as well)."""
        match (request.method, request.path):
            case ("GET", "/_lab/faults"):
                pass
            case ("PUT", "/_lab/faults"):
                try:
                    wanted = msgspec.json.decode(await request.read(), type=FaultRequest)
                    self.faults.change(wanted)
                except (msgspec.MsgspecError, ValueError) as error:
                    return _json({"error": str(error)}, status=400)
                if wanted.compact:
                    self.store.compact()
                if wanted.drop_watches:
                    self.drop_watches(wanted.client)
            case ("GET", "/_lab/requests"):
                return _json(self.faults.counts())
            case ("POST", "/_lab/reset"):
                self.faults.clear()
                if is_true(request.query.get("store")):
                    self.restore_empty()
            case _:
                return _json(no_such_path().body(), status=404)
        return _json({client or "*": faults for client, faults in self.faults.in_force().items()})


def _json(body: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/json")
