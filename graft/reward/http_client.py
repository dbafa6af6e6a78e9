"""Send JSON to a server and read its answer as JSON: with a time limit, and again after faults that may pass."""

import contextlib
import http.client
import json
import os
import socket
import threading
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

from graft.core import limits
from graft.errors import GraftError
from graft.io.json_files import parse_json
from graft.reward.scores import bounded, format_error
from graft.version import __version__

TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which a request is sent again."""
MOST_BYTES = 16_000_000
"""Largest size of an answer."""
LONGEST_PAUSE = 60.0
"""Largest pause between two tries in seconds."""
EXAMPLE = "https://example.com/score"
LOCAL = ("localhost", "127.0.0.1", "::1")


class NoAnswer(Exception):
    """A request without an answer: the server is not reachable, busy or too slow."""


class Refused(Exception):
    """A request that the server answered with an error or with no JSON."""


class JSONClient:
    """Posts JSON to one address.

    The key of the server is read from the environment for each request, and stands in no message.

    Args:
        url: Address, https or http.
        key_variable: Environment variable with the server's key, sent as a bearer token; None for no key.
        timeout: Time limit of one try in seconds, from the connection to the whole answer.
        retries: Number of times that a request is sent again.

    Raises:
        GraftError: The address or a number is not usable, or the key would be sent unencrypted.
    """

    def __init__(self, url: str, key_variable: "str | None", timeout: float, retries: int) -> None:
        limits.check("data.reward.timeout", timeout, 0, above=True)
        limits.check("data.reward.retries", retries, 0, 100)
        self.url, self.key_variable, self.timeout, self.retries = url, key_variable, timeout, retries
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise GraftError(f"data.reward.url is {url!r} ({error}); it must be an address such as {EXAMPLE}") from None
        if parts.username is not None or parts.password is not None:  # the message must not repeat it
            raise GraftError(
                "data.reward.url holds a name or password, which would be written into the run's files. Name the "
                "environment variable of the key with data.reward.key_variable"
            )
        if parts.scheme not in ("http", "https") or not host:
            raise GraftError(f"data.reward.url is {url!r}; it must be an address such as {EXAMPLE}")
        if key_variable is not None and parts.scheme == "http" and host not in LOCAL:
            raise GraftError(f"data.reward.url is {url!r}; with a key it must be https, or a server of this machine")
        self._secure, self.host, self._port = parts.scheme == "https", host, port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def check(self) -> None:
        """Raise GraftError if the environment has no key."""
        if self.key_variable is not None and not os.environ.get(self.key_variable):
            raise GraftError(
                f"the environment variable {self.key_variable}, which data.reward.key_variable names, is not set; it "
                "must hold the key of the server. Export it"
            )
        if not self._key().isascii() or not self._key().isprintable():  # http.client would repeat it in its message
            raise GraftError(f"the key in {self.key_variable} has characters that no key has. Export it again")

    def post(self, payload: Any, retries: "int | None" = None) -> Any:
        """Return the parsed answer to a request.

        Args:
            payload: Content of the request.
            retries: Number of times that it is sent again; the client's own if not given.

        Raises:
            Unanswered: There was no answer within the tries.
            Refused: The answer is an error, or no JSON.
        """
        body, pause, why = json.dumps(payload).encode(), 1.0, ""
        retries = self.retries if retries is None else retries
        for attempt in range(retries + 1):
            try:
                status, wait, answer = self._exchange(body)
            except (OSError, http.client.HTTPException) as error:
                why, wait, passing = self._without_key(format_error(error)), None, True
            else:
                if 200 <= status < 300:
                    try:
                        return parse_json(answer)
                    except ValueError:
                        raise Refused("the server's answer is no JSON") from None
                why, passing = self._reason(status, answer), status in TRANSIENT_STATUSES
                if not passing or (status == 500 and attempt == retries):
                    raise Refused(why)
            if attempt < retries:
                sleep(min(LONGEST_PAUSE, pause if wait is None else max(pause, wait)))
                pause *= 2
        tries = "1 try" if retries == 0 else f"{retries + 1} tries"
        raise NoAnswer(f"no answer from {self.host} in {tries}: {why}")

    def _exchange(self, body: bytes) -> "tuple[int, float | None, bytes]":
        """Return (status, seconds to wait before the next try, content) of the answer to one try.

        Raises:
            OSError: The connection failed or took too long.
            HTTPException: The server does not speak HTTP.
        """
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self.host, self._port, timeout=self.timeout)
        late = threading.Event()
        try:
            start = monotonic()
            connection.connect()
            channel = connection.sock

            def end() -> None:
                late.set()
                with contextlib.suppress(OSError):
                    channel.shutdown(socket.SHUT_RDWR)

            timer = threading.Timer(max(0.0, self.timeout - (monotonic() - start)), end)
            timer.daemon = True  # a socket's own limit starts again with each byte
            timer.start()
            try:
                connection.request("POST", self._path, body, self._headers())
                answer = connection.getresponse()
                content = answer.read(MOST_BYTES + 1)
                if answer.length and len(content) <= MOST_BYTES:  # the rest that was announced did not come
                    raise OSError("the answer ended early")
            finally:
                timer.cancel()
            if late.is_set():
                raise TimeoutError
        except Exception as error:
            if late.is_set() or isinstance(error, TimeoutError):
                raise TimeoutError(f"not within {self.timeout:g} s") from None
            raise
        finally:
            connection.close()
        if len(content) > MOST_BYTES:
            raise OSError(f"the answer has more than {MOST_BYTES:,} bytes")
        wait = answer.headers.get("Retry-After", "")
        return answer.status, float(wait) if wait.isascii() and wait.isdigit() else None, content

    def _headers(self) -> dict[str, str]:
        own = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": f"graft/{__version__}"}
        key = self._key()
        return own | ({"Authorization": f"Bearer {key}"} if key else {})

    def _key(self) -> str:
        return os.environ.get(self.key_variable, "").strip() if self.key_variable is not None else ""

    def _reason(self, status: int, answer: bytes) -> str:
        """Return the status with the server's own words, if there are any."""
        if 300 <= status < 400:
            return f"the server answers with status {status}, a redirection, which is not followed"
        text = answer[:10_000].decode(errors="replace")
        with contextlib.suppress(ValueError):
            found = parse_json(text)
            for name in ("error", "message", "detail"):
                found = found.get(name, found) if isinstance(found, dict) else found
            text = found if isinstance(found, str) else text
        words = " ".join(text.split())
        detail = f": {bounded(self._without_key(words), 300)}" if words else ""
        return f"the server answers with status {status}{detail}"

    def _without_key(self, text: str) -> str:
        key = self._key()
        return text.replace(key, "…") if key else text
