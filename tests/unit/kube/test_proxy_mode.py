"""What kube-proxy says of its mode, and what is no such answer."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from kvip.kube import proxy


@pytest.fixture
def serve(monkeypatch):
    """Something that listens where kube-proxy does."""
    servers = []

    def start(code, body):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                assert self.path == "/proxyMode"
                self.send_response(code)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setattr(proxy, "PORT", server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_its_mode(serve):
    serve(200, b"ipvs")
    assert proxy.mode() == "ipvs"


@pytest.mark.parametrize(("code", "body"), [(404, b"ipvs"), (200, b""), (200, b"<html>"), (200, b"\xff\x00")])
def test_another_program_there_is_no_answer(serve, code, body):
    serve(code, body)
    with pytest.raises(OSError):
        proxy.mode()


def test_nothing_there_is_no_answer(monkeypatch):
    monkeypatch.setattr(proxy, "PORT", 1)
    with pytest.raises(OSError):
        proxy.mode()
