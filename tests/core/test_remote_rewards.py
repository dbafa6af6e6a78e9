"""Rewards by a server: JSON for any domain, and a vision model as the judge; failures cost their objects alone."""

from __future__ import annotations

import base64
import json
import math
import pickle
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import plane
import pytest

import graft
from graft import GraftError, cli
from graft.io.fingerprint import fingerprint, fingerprint_hash
from graft.reward import HTTPReward, ModelJudge, WeightedSum, bind, score_objects
from graft.reward.remote_calls import MOST_UNANSWERED

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in cli.IGNORED_WARNINGS]  # Lightning's

KEY = "s3cret-key"
Answer = tuple[int, Any]


class Server:
    """A server on this machine; `answer` gives status and content (JSON or bytes) of the answer to each request."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.answer: Callable[[Any], Answer] = score_all
        self.headers: dict[str, str] = {}
        self.hang = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, dict(self.headers), content))
                status, body = outer.answer(content)
                if status == 0:  # one byte at a time, so that each read of the client succeeds
                    self.send_response(200)
                    self.end_headers()
                    while not outer.hang.wait(0.02):
                        try:
                            self.wfile.write(b" ")
                        except OSError:
                            return
                    return
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.hang.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def first(thing: dict[str, Any]) -> float:
    """Return the first coordinate of a point from its file."""
    return float(thing["text"].split(",")[0])


def score_all(content: Any) -> Answer:
    return 200, {"scores": [first(each) for each in content["objects"]]}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr("graft.reward.http_client.sleep", found.append)
    return found


class Captioned(plane.Plane):
    def caption(self, item: Any) -> str:
        return f"at {item[1]:g}"

    def render(self, items: Any, legends: Any = None) -> bytes:
        return b"\x89PNG" + repr(items[0]).encode()


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return plane.made(tmp_path_factory.mktemp("plane"), Captioned)


def bound(reward: Any, domain: Any) -> Any:
    bind(reward, domain)
    return reward


POINTS = [[float(i), 0.5] for i in range(7)]


def test_scores_of_a_server(server: Server, domain: Any) -> None:
    reward = bound(HTTPReward(server.url + "/score?v=1", batch_size=3, concurrency=2), domain)
    scores = score_objects(reward, POINTS)
    assert scores.values == [0, 1, 2, 3, 4, 5, 6] and not scores.failures
    assert sorted(len(content["objects"]) for _, _, content in server.requests) == [1, 3, 3]
    path, headers, content = next(each for each in server.requests if len(each[2]["objects"]) == 1)
    assert path == "/score?v=1" and "Authorization" not in headers
    assert content == {"objects": [{"format": "csv", "caption": "at 0.5", "text": "6.0,0.5\n"}]}
    assert reward.name == "score by 127.0.0.1" and reward.score([4.0, 0.0]) == 4


def test_failures_of_single_objects(server: Server, domain: Any) -> None:
    values: list[Any] = [1.5, None, "2", True, 1e300, [3], 2]
    server.answer = lambda content: (200, {"scores": values, "errors": {"1": "too dark", "6": "odd"}})
    scores = score_objects(bound(HTTPReward(server.url), domain), POINTS)
    assert scores.values[0] == 1.5 and all(map(math.isnan, scores.values[1:]))
    assert scores.failures[1] == "too dark" and scores.failures[6] == "odd"
    assert "not a number" in scores.failures[2] and "beyond" in scores.failures[4]
    assert scores.failures[3] == "the score is a truth value, not a number"
    assert scores.failures[5] == "the score is a list, not a number"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ((400, {"error": {"message": "no such format"}}), "status 400: no such format"),
        ((200, b"<html>"), "the server's answer is no JSON"),
        ((200, [1, 2]), "the answer is a list, not an object with the list scores"),
        ((200, {"scores": [1, 2, 3]}), "3 scores for 1 objects"),
        ((200, {"error": "out of memory"}), "out of memory"),
        ((302, b""), "a redirection, which is not followed"),
    ],
)
def test_a_refused_request_is_split(server: Server, domain: Any, pauses: list[float], bad: Answer, words: str) -> None:
    """Only the object that the server refuses fails, and it is not sent again."""

    def answer(content: Any) -> Answer:
        return bad if any(first(each) == 2 for each in content["objects"]) else score_all(content)

    server.answer = answer
    scores = score_objects(bound(HTTPReward(server.url, batch_size=4), domain), POINTS)
    assert list(scores.failures) == [2] and words in scores.failures[2]
    assert [value for value in scores.values if not math.isnan(value)] == [0, 1, 3, 4, 5, 6]
    assert len(server.requests) == 1 + 4 + 1 and not pauses


def test_busy_servers_get_the_request_again(server: Server, domain: Any, pauses: list[float]) -> None:
    answers = iter([(503, b""), (429, b""), (200, {"scores": [5]})])
    server.answer, server.headers = lambda content: next(answers), {"Retry-After": "7"}
    assert score_objects(bound(HTTPReward(server.url), domain), POINTS[:1]).values == [5]
    assert pauses == [7, 7]
    server.answer, server.headers = lambda content: (503, b"busy"), {}
    scores = score_objects(bound(HTTPReward(server.url, retries=2), domain), POINTS[:1])
    assert scores.failures == {0: "no answer from 127.0.0.1 in 3 tries: the server answers with status 503: busy"}
    assert pauses[2:] == [1, 2]


def test_requests_with_truncated_answers_are_repeated(server: Server, domain: Any, pauses: list[float]) -> None:
    def answer(content: Any) -> Answer:
        server.headers = {"Content-Length": "10000"} if len(server.requests) == 1 else {}  # the first one counts
        return 200, {"scores": [5]}

    server.answer = answer
    assert score_objects(bound(HTTPReward(server.url), domain), POINTS[:1]).values == [5]
    assert pauses == [1] and len(server.requests) == 2


def test_silent_servers_are_left_alone(domain: Any, pauses: list[float]) -> None:
    """The objects of a call fail, without a try for each of them."""
    gone = Server()
    gone.close()
    scores = score_objects(bound(HTTPReward(gone.url, batch_size=1, retries=1), domain), POINTS)
    assert set(scores.failures) == set(range(7)) and len(pauses) == MOST_UNANSWERED
    assert "in 2 tries: " in scores.failures[0] and "not sent, because 3 requests" in scores.failures[6]


def test_a_slow_answer_ends_at_the_time_limit(server: Server, domain: Any) -> None:
    """The limit holds for the whole answer, although each byte arrives in time."""
    server.answer = lambda content: (0, None)
    scores = score_objects(bound(HTTPReward(server.url, timeout=0.3, retries=0), domain), POINTS[:1])
    assert scores.failures == {0: "no answer from 127.0.0.1 in 1 try: not within 0.3 s"}


def test_the_key_is_in_the_header_only(server: Server, domain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = bound(HTTPReward(server.url, key_variable="GRAFT_TEST_KEY"), domain)
    with pytest.raises(GraftError, match=r"GRAFT_TEST_KEY, which data\.reward\.key_variable names, is not set"):
        reward.setup()
    monkeypatch.setenv("GRAFT_TEST_KEY", "two\nlines")
    with pytest.raises(GraftError, match="characters that no key has") as caught:
        reward.setup()
    assert "two" not in str(caught.value)
    monkeypatch.setenv("GRAFT_TEST_KEY", KEY)
    reward.setup()
    server.answer = lambda content: (401, {"error": f"{KEY} is no key"})
    scores = score_objects(reward, POINTS[:1])
    assert server.requests[0][1]["Authorization"] == f"Bearer {KEY}"
    assert scores.failures == {0: "the server answers with status 401: … is no key"}
    assert KEY not in repr(vars(reward)) + repr(vars(reward.client)) + json.dumps(fingerprint(reward))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "ftp://x"}, "must be an address such as"),
        ({"url": "http://[x"}, "must be an address such as"),
        ({"url": "https://me:secret@x/y"}, "holds a name or password"),
        ({"url": "http://example.com", "key_variable": "K"}, "with a key it must be https"),
        ({"url": "https://x", "timeout": 0}, "data.reward.timeout is 0"),
        ({"url": "https://x", "retries": -1}, "data.reward.retries is -1"),
        ({"url": "https://x", "batch_size": 0}, "data.reward.batch_size is 0"),
        ({"url": "https://x", "concurrency": 0}, "data.reward.concurrency is 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(GraftError, match=words) as caught:
        HTTPReward(**settings)
    assert "secret" not in str(caught.value)


def test_without_a_domain_it_is_refused(server: Server, domain: Any) -> None:
    with pytest.raises(GraftError, match="has no domain that writes its objects"):
        HTTPReward(server.url).setup()
    copy = pickle.loads(pickle.dumps(bound(HTTPReward(server.url), domain)))
    with pytest.raises(GraftError, match="has no domain"):
        copy.setup()
    both = WeightedSum([HTTPReward(server.url), HTTPReward(server.url)], [1.0, 2.0])
    assert score_objects(bound(both, domain), POINTS[:2]).values == [0, 3]


class Picky(plane.Plane):
    def write(self, items: Any, path: Path, rewards: Any = None) -> None:
        if items[0][0] == 1:
            raise ValueError("cannot write ones")
        super().write(items, path)


def test_an_object_that_cannot_be_written_fails_alone(server: Server, tmp_path: Path) -> None:
    scores = score_objects(bound(HTTPReward(server.url), plane.made(tmp_path, Picky)), POINTS[:3])
    assert list(scores.failures) == [1] and "cannot write ones" in scores.failures[1]
    assert scores.calls == {"score by 127.0.0.1": 2}


def test_a_run_with_a_server(server: Server, tmp_path: Path) -> None:
    """The run gives the reward its domain, and the server's address is part of the fingerprint."""
    reward = HTTPReward(server.url, batch_size=8)
    summary = graft.fit(plane.made(tmp_path), plane.data(reward), tmp_path / "run", plane.trainer())
    assert summary["accepted_reward"] > summary["reference"]["reward"] and max(map(len, server.requests)) > 1
    same = HTTPReward(server.url, batch_size=2, timeout=9, name="x")
    assert fingerprint_hash(same) == fingerprint_hash(reward) != fingerprint_hash(HTTPReward(server.url + "/b"))


def chat(text: Any) -> Answer:
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}


def test_a_model_judges(server: Server, domain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_TEST_KEY", KEY)
    server.answer = lambda content: chat('I see it.\n```json\n{"score": 7.5}\n```')
    made = ModelJudge(
        "eyes-1", "Does it show {caption}?", server.url + "/v1/", "GRAFT_TEST_KEY", options={"max_tokens": 9}
    )
    judge = bound(made, domain)
    assert (
        score_objects(judge, POINTS[:1]).values == [7.5] and judge.name == "rating by eyes-1" and judge.worst_value == 0
    )
    path, headers, content = server.requests[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    assert content["model"] == "eyes-1" and content["temperature"] == 0 and content["max_tokens"] == 9
    text, picture = content["messages"][0]["content"]
    assert text["text"].startswith("Does it show at 0.5?") and "from 0 (worst) to 10 (best)" in text["text"]
    start, _, data = picture["image_url"]["url"].partition(",")
    assert start == "data:image/png;base64" and base64.b64decode(data) == b"\x89PNG[0.0, 0.5]"
    score_objects(bound(ModelJudge("m", "Good?", server.url, show="both"), domain), POINTS[:1])
    assert "in the format csv:\n0.0,0.5" in server.requests[-1][2]["messages"][0]["content"][0]["text"]
    assert len(server.requests[-1][2]["messages"][0]["content"]) == 2
    score_objects(bound(ModelJudge("m", "Good?", server.url, show="text"), domain), POINTS[:1])
    assert len(server.requests[-1][2]["messages"][0]["content"]) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (chat("It is lovely."), "the judge gave no score but 'It is lovely.'"),
        (chat('{"score": 11}'), "the judge gave 11, which is not from 0 to 10"),
        (chat('{"score": "9"}'), "not a number"),
        (chat('{"score": true}'), "not a number"),
        (chat(None), "the answer is none of a chat"),
        ((200, {"choices": []}), "the answer is none of a chat"),
        ((200, [3]), "the answer is none of a chat"),
    ],
)
def test_a_judge_without_a_score_fails(server: Server, domain: Any, answer: Answer, words: str) -> None:
    good = chat([{"type": "text", "text": '{"score": 3}'}])
    server.answer = lambda content: answer if "[1.0" in seen(content) else good
    scores = score_objects(bound(ModelJudge("m", "Good?", server.url, concurrency=3), domain), POINTS[:3])
    assert list(scores.failures) == [1] and words in scores.failures[1]
    assert [scores.values[0], scores.values[2]] == [3, 3]


def seen(content: Any) -> str:
    address = content["messages"][0]["content"][1]["image_url"]["url"]
    return base64.b64decode(address.partition(",")[2]).decode(errors="replace")


def test_settings_of_a_judge_are_checked(server: Server, tmp_path: Path) -> None:
    with pytest.raises(GraftError, match="rubric is empty"):
        ModelJudge("m", " ")
    with pytest.raises(GraftError, match="show is 'sound'"):
        ModelJudge("m", "Good?", show="sound")  # type: ignore[arg-type]
    with pytest.raises(GraftError, match="high is 0"):
        ModelJudge("m", "Good?", high=0)
    blind = bound(ModelJudge("m", "Good?", server.url), plane.made(tmp_path))
    assert "renders no pictures: set data.reward.show to text" in score_objects(blind, POINTS[:1]).failures[0]
    assert not server.requests
