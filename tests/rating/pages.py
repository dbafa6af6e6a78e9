"""A domain of numbers with pictures, and a session of its draws, for tests of the page."""

import io
import json
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from PIL import Image

from graft.rating import SCALES, RatingServer, RatingSession, RatingsFile, cards_of


class Numbers:
    """The hooks that a session needs. An object is a number; its picture is as bright as it is large."""

    def supports(self, hook: str) -> bool:
        return hook == "render"

    def table_columns(self, items: Sequence[int]) -> dict[str, list[str]]:
        return {"number": [f"<b>{item}</b>" for item in items]}

    def caption(self, item: int) -> str:
        return f"<i>{item % 2}</i>"

    def render(self, items: Sequence[int], legends: "Sequence[str] | None" = None) -> bytes:
        out = io.BytesIO()
        Image.new("L", (64, 64), 10 * items[0]).save(out, "PNG")
        return out.getvalue()

    def render_html(self, items: Sequence[int], legends: "Sequence[str] | None" = None) -> str:
        return ""


def session(path: Path, scale: str = "keep", count: int = 12, can_finish: bool = True) -> RatingSession:
    """A session of the numbers 0 to ``count``, the even ones first; draw ``d3`` is the number 3."""
    domain: Any = Numbers()
    made = RatingSession("Numbers", domain, RatingsFile(path, SCALES[scale]), can_finish)
    items = [*range(0, count, 2), *range(1, count, 2)]
    made.show(cards_of(domain, items, [f"d{item}" for item in items], [domain.caption(item) for item in items]))
    return made


class Client:
    """Send the page's requests, with any change of a test."""

    def __init__(self, server: RatingServer) -> None:
        self.server = server
        self.headers: dict[str, str] = {}

    def request(self, name: str, given: Any = None, **changed: Any) -> tuple[int, bytes, dict[str, str]]:
        """(status, body, headers) of a GET, or of a POST of JSON."""
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        body = changed.pop("body", None if given is None else json.dumps(given).encode())
        headers = {"Content-Type": "application/json"} if body is not None else {}
        token = changed.pop("token", self.server.token)
        method = changed.pop("method", "GET" if body is None else "POST")
        path = changed.pop("path", f"/{token}/{name}")
        headers |= {each.replace("_", "-"): value for each, value in changed.items()}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def state(self) -> dict[str, Any]:
        return json.loads(self.request("state")[1])
