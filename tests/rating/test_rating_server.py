"""The page over HTTP: who may send requests, which values may be set, and that nothing else happens."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import Client, session

from graft.io.page import policy
from graft.rating import RatingServer, RatingSession, page


@pytest.fixture
def shown(tmp_path: Path) -> RatingSession:
    return session(tmp_path / "ratings.jsonl")


@pytest.fixture
def client(shown: RatingSession) -> Iterator[Client]:
    server = RatingServer(shown)
    yield Client(server)
    server.close()


def test_the_page(client: Client) -> None:
    status, body, headers = client.request("")
    assert status == 200 and headers["Content-Security-Policy"] == policy(page.DIRECTIVES)
    assert "unsafe" not in headers["Content-Security-Policy"] and "http" not in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer" and headers["Cache-Control"] == "no-store"
    text = body.decode()
    assert client.server.token not in text and "Numbers" in text
    state = client.state()
    assert [len(each["draws"]) for each in state["screens"]] == [6, 6] and state["ratings"] == {}
    assert [each["condition"] for each in state["screens"]] == ["<i>0</i>", "<i>1</i>"]
    status, png, headers = client.request("picture/d3")
    assert status == 200 and png.startswith(b"\x89PNG") and headers["Content-Type"] == "image/png"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_it_listens_on_the_loopback_address_alone(client: Client) -> None:
    assert client.server.url.startswith("http://127.0.0.1:")
    others = {each[4][0] for each in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in others - {"127.0.0.1"}:
        with pytest.raises(OSError):
            socket.create_connection((address, client.server.port), timeout=2).close()


@pytest.mark.parametrize("token", ["", "x", "..", "A" * 43, "%2e%2e"])
def test_without_the_token(token: str, client: Client, shown: RatingSession) -> None:
    path = f"/{token}/state"
    for given in (None, {"draw": "d1", "rating": 1}):
        status, body, _ = client.request("", given, path=path if given is None else path.replace("state", "rate"))
        assert (status, body) == (403, b"Forbidden")
    assert not shown.ratings.values


def test_a_token_that_begins_right_is_refused(client: Client) -> None:
    assert client.request("state", token=client.server.token[:-1])[0] == 403
    assert client.request("state", token=client.server.token + "a")[0] == 403
    assert client.request("", path="http://127.0.0.1/" + client.server.token + "/state")[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]:{port}"])
def test_another_host(host: str, client: Client) -> None:
    """A page of another site that made its name point here (DNS rebinding) still sends its own name."""
    host = host.format(port=client.server.port)
    assert client.request("state", Host=host)[0] == 403
    assert client.request("rate", {"draw": "d1", "rating": 1}, Host=host)[0] == 403
    assert client.request("state", Host=f"localhost:{client.server.port}")[0] == 200


def test_another_site(client: Client, shown: RatingSession) -> None:
    for changed in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}):
        assert client.request("rate", {"draw": "d1", "rating": 1}, **changed)[0] == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert client.request("rate", {"draw": "d1", "rating": 1}, Content_Type=kind)[0] == 400
    assert not shown.ratings.values
    here = f"http://127.0.0.1:{client.server.port}"
    assert client.request("rate", {"draw": "d1", "rating": 1}, Origin=here, Sec_Fetch_Site="same-origin")[0] == 200


@pytest.mark.parametrize(
    "given",
    [
        {"draw": "d1", "rating": 2},
        {"draw": "d1", "rating": True},
        {"draw": "d1", "rating": 1.0},
        {"draw": "d1", "rating": "1"},
        {"draw": "d1", "rating": [1]},
        {"draw": "none", "rating": 1},
        {"draw": ["d1"], "rating": 1},
        {"draw": {"a": 1}, "rating": 1},
        {"rating": 1},
        [1],
        "text",
    ],
)
def test_what_is_no_rating(given: object, client: Client, shown: RatingSession) -> None:
    before = shown.ratings.path.read_bytes()
    assert client.request("rate", given)[0] == 400
    assert shown.ratings.path.read_bytes() == before


def test_bodies_that_are_no_json(client: Client, shown: RatingSession) -> None:
    for body in (b"", b"{", b"[" * 3000, b"\xff\xfe", b'{"draw": "d1", "rating": 1}' + b" " * 5000):
        assert client.request("rate", body=body)[0] == 400
    assert client.request("rate", body=b"{}", Content_Length="-1")[0] == 400
    assert client.request("rate", body=b"{}", Content_Length="x")[0] == 400
    assert client.state()["ratings"] == {}


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "picture/none",
        "picture/",
        "picture/../../etc/passwd",
        "view/d1",
        "rate",
        "state/d1",
        "page.py",
        "rate.js",
    ],
)
def test_there_is_nothing_else(name: str, client: Client) -> None:
    assert client.request(name)[0] == 404
    assert client.request("state", {})[0] == 404
    assert client.request("state", method="PUT")[0] == 501


def test_ratings_and_undo(client: Client, shown: RatingSession) -> None:
    for draw, value in (("d0", 1), ("d2", 0), ("d0", 0), ("d4", None)):
        assert client.request("rate", {"draw": draw, "rating": value})[0] == 200
    assert client.state()["ratings"] == {"d0": 0, "d2": 0}
    assert b'"done": "d4"' in client.request("undo", {})[1]
    assert b'"done": "d0"' in client.request("undo", {})[1]
    assert client.state()["ratings"] == {"d0": 1, "d2": 0}
    client.request("undo", {})
    client.request("undo", {})
    assert client.state()["ratings"] == {} and b'"done": null' in client.request("undo", {})[1]
    client.request("finish", {})
    assert client.state()["finished"] and client.request("rate", {"draw": "d0", "rating": 1})[0] == 400
    shown.wait()


def test_a_run_that_waits_cannot_be_finished(tmp_path: Path) -> None:
    shown = session(tmp_path / "a.jsonl", "stars", count=2, can_finish=False)
    server = RatingServer(shown)
    client = Client(server)
    assert client.request("finish", {})[0] == 400
    assert client.request("rate", {"draw": "d0", "rating": 0})[0] == 400
    for draw in ("d0", "d1"):
        assert client.request("rate", {"draw": draw, "rating": 5})[0] == 200
    shown.wait()
    server.close()


def test_a_taken_port(client: Client, shown: RatingSession) -> None:
    from graft import GraftError

    with pytest.raises(GraftError, match="choose another port"):
        RatingServer(shown, client.server.port)
    with pytest.raises(GraftError, match="0 to 65535"):
        RatingServer(shown, 70000)


def test_the_port_and_the_token_come_again(shown: RatingSession) -> None:
    first = RatingServer(shown)
    Client(first).request("state")
    first.close()
    second = RatingServer(shown, first.port, first.token)
    assert second.url == first.url and Client(second).request("state")[0] == 200
    second.close()
