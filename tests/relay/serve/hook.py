"""Where a webhook arrives: an HTTP server on loopback that answers as it is told and keeps what came."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Came(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


class Hook:
    """`answers` are the codes to come, then 204 for ever; a redirect leads to /elsewhere of the same server."""

    def __init__(self, *answers: int, tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.came: list[Came] = []
        self.gate = threading.Event()  # while it is not set, who asks waits for his answer
        self.gate.set()
        self._changed = threading.Condition()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with hook._changed:
                    hook.came.append(Came(self.path, dict(self.headers.items()), body))
                    code = hook.answers.pop(0) if hook.answers else 204
                    hook._changed.notify_all()
                hook.gate.wait(30)
                self.send_response(code)
                if 300 <= code < 400:
                    self.send_header("Location", f"{hook.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *_: object) -> None:
                """The test looks at `came`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
            self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that trust it not
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def wait(self, count: int, seconds: float) -> list[Came]:
        """What came, as soon as there are `count`, or whatever there is after `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.came) >= count, seconds)
            return list(self.came)

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
