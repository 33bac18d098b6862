"""A proxy before the S3 server that does what networks and servers do on bad days. Requests pass through unchanged."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    status, code, body: answer with this error or body, unasked. slow: answer after so many seconds. lost: ask, and
    hang up without an answer. short: send so few bytes of the body. says: ask, and give another status than the server.
    """

    status: int = 0
    code: str = ""
    body: str = ""
    slow: float = 0.0
    lost: bool = False
    short: int | None = None
    says: dict[int, int] = field(default_factory=dict)


Faults = Callable[[str, str, int], Fault | None]


@dataclass
class Proxy:
    """`faults(method, path, number)` decides; `seen` lists the requests."""

    target: str
    faults: Faults = lambda *_: None
    seen: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""
    lock: Lock = field(default_factory=Lock)

    def fault(self, method: str, path: str) -> Fault:
        with self.lock:
            self.seen.append((method, path))
            return self.faults(method, path, len(self.seen)) or Fault()


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.fault(self.command, self.path)
            time.sleep(fault.slow)
            if fault.status:
                error = f"<Error><Code>{fault.code}</Code><Message>as arranged</Message></Error>"
                return self.send(fault.status, {"Content-Type": "application/xml"}, (fault.body or error).encode())
            status, headers, text = self.forward(body)
            if fault.lost:
                self.close_connection = True
                return None
            if status in fault.says:
                return self.send(fault.says[status], {}, b"")
            return self.send(status, headers, text, fault.short)

        def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            there = http.client.HTTPConnection(urlsplit(proxy.target).netloc, timeout=10)
            try:
                there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    there.putheader(name, value)
                there.endheaders(body)
                answer = there.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read()
            finally:
                there.close()

        def send(self, status: int, headers: dict[str, str], body: bytes, short: int | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                    self.send_header(name, value)
            length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[:short])
            if short is not None:
                self.close_connection = True

    for method in ("GET", "PUT", "HEAD", "DELETE", "POST"):
        setattr(Handler, f"do_{method}", Handler.answer)
    return Handler


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up when they have waited enough, and servers are killed."""


@contextmanager
def proxied(target: str) -> Iterator[Proxy]:
    """Run a proxy before the server at `target`."""
    proxy = Proxy(target)
    server = _Quiet(("127.0.0.1", 0), _handler(proxy))
    proxy.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
