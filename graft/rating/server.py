"""RatingServer: the page of a rating session, for the browser of this machine alone.

The server listens on the loopback address. A request must have the token of the session in its address and a name of
this machine as its host, so that neither other users nor pages of other sites reach it. A request can set a rating of
a draw that is shown, and nothing else.
"""

import errno
import hmac
import json
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from typing_extensions import override

from graft.errors import GraftError
from graft.io.json_files import parse_json
from graft.io.page import policy, render_page
from graft.rating import page
from graft.rating.session import RatingSession

ADDRESS = "127.0.0.1"
HOSTS = (ADDRESS, "localhost")
LARGEST = 4096  # bytes of a request's body
MOST_UNREAD = 65536  # bytes of a refused request that are read
PATIENCE = 30.0  # seconds in which a request must arrive

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address has the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class RatingServer:
    """Serves a rating session on the loopback address until it is closed.

    Args:
        session: The session.
        port: Port to listen on; 0 for a free one.
        token: Token of the address; a random one if not given.

    Attributes:
        url: Address of the page.

    Raises:
        GraftError: The port is taken or out of range.
    """

    def __init__(self, session: RatingSession, port: int = 0, token: "str | None" = None) -> None:
        self.token = token or secrets.token_urlsafe(32)
        if not 0 <= port < 65536:
            raise GraftError(f"the port is {port}; it must be a number from 0 to 65535. Choose another one")
        try:
            self._server = _Server((ADDRESS, port), _handler(session, self.token))
        except OSError as error:
            taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
            why = "it is taken, or needs rights" if taken else str(error.strerror)
            raise GraftError(f"the page cannot be served at port {port} ({why}): choose another port") from None
        self.port = self._server.server_port
        self.url = f"http://{ADDRESS}:{self.port}/{self.token}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a browser may keep a connection open

    @override
    def server_bind(self) -> None:
        """Bind without a look-up of this machine's name, which may ask the network."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, int(self.socket.getsockname()[1])

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no error if a browser closes the connection."""


def _handler(session: RatingSession, token: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"  # a connection for each request, so that none outlives the server
        timeout = PATIENCE
        unread = 0  # bytes of the body that are not read yet
        server_version, sys_version = "graft", ""

        def do_GET(self) -> None:
            name, _, draw = self._route().partition("/")
            if name == "":
                text = page.render(session.title)
                self._answer(text.encode(), "text/html; charset=utf-8", page.DIRECTIVES)
            elif name == "state" and not draw:
                self._json(session.state())
            elif name == "picture" and (png := session.picture(draw)) is not None:
                self._answer(png, "image/png")
            elif name == "view" and (view := session.view(draw)):
                text = render_page(session.title, [view])
                self._answer(text.encode(), "text/html; charset=utf-8", None)
            else:
                self._refuse(HTTPStatus.NOT_FOUND)

        def do_POST(self) -> None:
            acts: dict[str, Callable[[dict[str, Any]], Any]] = {
                "rate": lambda given: session.rate(given.get("draw"), given.get("rating")),
                "undo": lambda given: session.undo(),
                "finish": lambda given: session.finish(),
            }
            name, given = self._route(), self._body()
            if name not in acts or given is None:
                return self._refuse(HTTPStatus.BAD_REQUEST if name in acts else HTTPStatus.NOT_FOUND)
            try:
                done = acts[name](given)
            except GraftError as error:  # the disk is full
                return self._json({"error": str(error)}, HTTPStatus.INSUFFICIENT_STORAGE)
            if done is False:
                return self._refuse(HTTPStatus.BAD_REQUEST)
            self._json({"done": done})

        @override
        def parse_request(self) -> bool:
            """Return True for a request of this machine's browser with the token; refuse all others."""
            if not super().parse_request():
                return False
            length = self.headers.get("Content-Length", "")
            self.unread = int(length[:10]) if length.isascii() and length.isdigit() else 0
            given = self.path.split("/")[1] if self.path.startswith("/") else ""
            with_token = hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
            if not (self._from_here() and with_token):
                self._refuse(HTTPStatus.FORBIDDEN)
                return False
            return True

        def _from_here(self) -> bool:
            """Return True if the request was made for this host, by its own page or by a person."""
            hosts = [f"{name}:{port}" for name in HOSTS for port in [self.connection.getsockname()[1]]]
            if self.headers.get_all("Host", []) not in [[host] for host in hosts]:
                return False
            origin = self.headers.get("Origin")
            from_page = origin is None or origin in [f"http://{host}" for host in hosts]
            site = self.headers.get("Sec-Fetch-Site", "same-origin")
            return from_page and (self.command == "GET" or site == "same-origin")

        def _route(self) -> str:
            return self.path.split("?")[0].partition("/")[2].partition("/")[2]

        def _body(self) -> "dict[str, Any] | None":
            """Return the JSON object in the body; None if there is none, or it is too long."""
            length = self.headers.get("Content-Length", "")
            kind = self.headers.get("Content-Type", "").split(";")[0].strip()
            # another site's form cannot send this type
            if kind != "application/json" or not length.isascii() or not length.isdigit() or self.unread > LARGEST:
                return None
            body, self.unread = self.rfile.read(self.unread), 0
            try:
                found = parse_json(body)
            except ValueError:
                return None
            return found if isinstance(found, dict) else None

        def _json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
            self._answer(json.dumps(value).encode(), "application/json", status=status)

        def _refuse(self, status: HTTPStatus) -> None:
            self.rfile.read(min(self.unread, MOST_UNREAD))  # else the client may not get the answer
            self._answer(status.phrase.encode(), "text/plain", status=status)

        def _answer(
            self,
            body: bytes,
            kind: str,
            directives: "dict[str, str] | None" = page.NOTHING,
            status: HTTPStatus = HTTPStatus.OK,
        ) -> None:
            self.send_response(status)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            if directives is not None:  # else the policy of the page itself
                self.send_header("Content-Security-Policy", policy(directives))
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: an address has the token."""

    return Handler
