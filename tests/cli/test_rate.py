"""graft rate and graft.reward.Rated on the toy domain: pages, files of ratings, and fine-tuning on them."""

import json
import re
import shlex
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import torch
from called import HALF, MIXTURE, QUIET, SMALL, done, run

from graft import cli
from graft.commands.rate import by_screens
from graft.core import seeding
from graft.io.tensors import read_tensors, write_tensors
from graft.rating import RatingServer, RatingSession
from graft.reward import Rated

TUNED = ["--data.reward", "null", "--data.accept", "graft.accept.Threshold", "--data.accept.minimum", "1"]


def request(server: RatingServer, name: str, given: Any = None) -> Any:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    body, headers = (None, {}) if given is None else (json.dumps(given), {"Content-Type": "application/json"})
    connection.request("GET" if given is None else "POST", f"/{server.token}/{name}", body, headers)
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    return found


def vote(server: RatingServer, rating: Any, most: int = 10**6) -> None:
    """Rate the draws on the page that are not rated, as a person does, and finish where that is possible."""
    state = request(server, "state")
    left = [each for screen in state["screens"] for each in screen["draws"] if each["draw"] not in state["ratings"]]
    for each in left[:most]:
        request(server, "rate", {"draw": each["draw"], "rating": rating(each["text"])})
    if state["can_finish"]:
        request(server, "finish", {})


@contextmanager
def people(rating: Any, most: int = 10**6) -> Iterator[list[int]]:
    """Within the block a thread rates the draws of each page when it opens; yield the numbers of draws on them."""
    shown: list[int] = []
    waits = RatingSession.wait

    def wait(session: RatingSession) -> None:
        (server,) = servers
        shown.append(sum(len(screen["draws"]) for screen in request(server, "state")["screens"]))
        person = threading.Thread(target=vote, args=(server, rating, most))
        person.start()
        waits(session)
        person.join()

    servers: list[RatingServer] = []
    begin, close = RatingServer.__init__, RatingServer.close

    def begun(server: RatingServer, *args: Any, **kwargs: Any) -> None:
        begin(server, *args, **kwargs)
        servers.append(server)

    def closed(server: RatingServer) -> None:
        servers.remove(server)
        close(server)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RatingServer, "__init__", begun)
        patch.setattr(RatingServer, "close", closed)
        patch.setattr(RatingSession, "wait", wait)
        yield shown


def right(text: str) -> int:
    """1 for a point on the right, from the words on its card."""
    return int(float(re.findall(r"-?[\d.]+", text)[0]) > 0)


@pytest.fixture
def copied(mixture_run: Path, folder: Path) -> Path:
    """A copy of the finished run, which recorded the states at its level, 0.25."""
    return Path(shutil.copytree(mixture_run, folder / "run"))


def small(mixture_fit: list[str]) -> list[str]:
    kept = mixture_fit[: mixture_fit.index("--data.reward")]
    return [arg for arg in kept if arg not in HALF] + ["--trainer.max_epochs", "1"]


def test_from_a_run_to_a_run(copied: Path, mixture_fit: list[str]) -> None:
    with people(right, most=10) as shown:
        message = done("rate", copied, "-n", 24).out
    assert shown == [24] and re.search(r"http://127\.0\.0\.1:\d+/[\w-]{40,}/", message)
    assert "10 ratings" in message and "24 draws, 0 of them rated" in message
    with people(right) as shown:  # resumes where it ended
        message = done("rate", copied, "-n", 24).out
    assert "24 draws, 10 of them rated" in message and "24 ratings" in message
    path = copied / "ratings/round_2.safetensors"
    tensors, about = read_tensors(path)
    round_, _ = read_tensors(copied / "rounds/1/chunk_00000.safetensors")
    assert about["scores"] == "rating" and about["recorded"] == [6] and len(about["keys"]) == 24
    rated = {tuple(row) for row in tensors["state"].tolist()}
    states = {tuple(row): i for i, row in enumerate(round_["state"].tolist())}
    assert len(rated) == 24 and rated & states.keys()
    for state, at_level, label, score in zip(
        tensors["state"], tensors["step/6"], tensors["condition/label"], tensors["score"], strict=True
    ):
        assert float(score) == float(state[0] > 0)
        if (row := states.get(tuple(state.tolist()))) is not None:  # all of a draw is the draw's own
            assert torch.equal(at_level, round_["step/6"][row]) and label == round_["condition/label"][row]
    kept = int(tensors["score"].sum())
    flags = [*small(mixture_fit), *TUNED, "--data.source.path", path, "--data.source.score_column", "rating"]
    message = done("fit", *flags, "--run_dir", "tuned").out
    (account,) = json.loads(Path("tuned/summary.json").read_text())["rounds"]
    assert (account["draws"], account["accepted"], account["reward_calls"]) == (24, kept, 0)
    accepted, about = read_tensors(Path("tuned/rounds/0/accepted.safetensors"))
    assert about["recorded"] == [6] and len(accepted["step/6"]) == kept  # the states at the level are learned from
    # at a level that the run did not record, and with a sampler of other steps, the objects are noised
    for other in (["--model.level", "0.5"], ["--model.steps", "16"]):
        name = other[1]
        message = done("fit", *flags, *other, "--run_dir", name).out
        assert ("are of another steps, and are not used" in message) == (name == "16")
        assert read_tensors(Path(name, "rounds/0/accepted.safetensors"))[1]["recorded"] == []


def test_a_deterministic_sampler_needs_the_states(copied: Path, mixture_fit: list[str]) -> None:
    with people(right):
        done("rate", copied, "-n", 8, "--round", 1)
    flags = [*small(mixture_fit), *TUNED, "--data.source.path", copied / "ratings/round_1.safetensors"]
    flags += ["--data.source.score_column", "rating", "--model.process.init_args.eta", "0"]
    message = run("fit", *flags).message
    assert "has no states at model.level 0.25" in message and "eta=1" in message


def test_refusals(copied: Path, mixture_fit: list[str], folder: Path) -> None:
    assert "no draw is rated" in run("rate", copied, "--write_only").message
    with people(right, most=5):
        done("rate", copied, "-n", 8)
    assert "5 ratings" in done("rate", copied, "--write_only").out
    assert "on the scale 'keep', not 'stars'" in run("rate", copied, "--scale", "stars").message
    assert "must be one of keep, stars" in run("rate", copied, "--scale", "grades").message
    assert "rounds/6 holds no draws" in run("rate", copied, "--round", 7).message
    assert "--round" in run("rate", copied, "--round", 0).message
    done("rate", copied, "--write_only", "--out", "a.csv")
    assert len(Path("a.csv").read_text().splitlines()) == 5
    path = copied / "ratings/round_2.safetensors"
    flags = [*small(mixture_fit), *TUNED, "--data.source.path", path, "--data.source.score_column"]
    assert "has no scores 'x'; there are: rating" in run("fit", *flags, "x").message
    assert "filters is set" in run("fit", *flags, "rating", "--data.source.filters", "{a: 1}").message
    tensors, about = read_tensors(path)
    about["origin"]["reference"] = "0" * 64
    write_tensors(path, tensors, {k: v for k, v in about.items() if k not in ("sha256", "format")})
    assert "made with another reference: use the settings of the run" in run("fit", *flags, "rating").message
    weights = run("fit", *flags[:-2], copied / "tuned.safetensors", "--data.source.score_column", "rating").message
    assert "holds no scored draws" in weights


def test_ratings_of_other_draws_are_not_taken(copied: Path) -> None:
    """A round in the same folder with other draws: the old ratings stay in the file and count for no new draw."""
    with people(right):
        done("rate", copied, "-n", 8)
    (copied / "rounds/1").rename(copied / "rounds/old")
    (copied / "rounds/0").rename(copied / "rounds/1")
    assert "no draw is rated" in run("rate", copied, "--write_only").message


def test_people_as_the_reward(mixture_fit: list[str], mixture_reference: Path) -> None:
    """The run waits for people, and a rating is request once."""
    flags = [*MIXTURE, "--model.weights", mixture_reference, *SMALL, *QUIET, *HALF]
    flags += ["--data.reward", "graft.reward.Rated", "--data.reward.scale", "stars", "--data.draws", "16"]
    flags += ["--data.batch_size", "8", "--data.evaluation.validation_draws", "0"]
    flags += ["--data.evaluation.test_draws", "8", "--trainer.max_epochs", "1", "--run_dir", "run"]
    with people(lambda text: 5 if right(text) else 2) as shown:
        message = done("fit", *flags).out
    assert shown == [8, 8, 8, 8] and message.count("8 draws to rate at http://127.0.0.1:") == 4
    assert len(set(re.findall(r"http://\S+", message))) == 1  # the open tab continues
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["reward"]["name"] == "rating" and summary["reward_calls"] == 16
    lines = [json.loads(line) for line in Path("run/ratings/rated.jsonl").read_text().splitlines()]
    assert lines[0]["scale"] == "stars" and len(lines) == 33 and {line["rating"] for line in lines[1:]} == {2, 5}
    values = json.loads(Path("run/rounds/0/scores_00000.json").read_text())["values"]
    state = read_tensors(Path("run/rounds/0/chunk_00000.safetensors"))[0]["state"]
    assert values == [5.0 if x > 0 else 2.0 for x in state[:, 0].tolist()]
    with people(right) as shown:  # the same draws in another run, with the ratings of the first
        done("fit", *flags[:-2], "--data.reward.path", "run/ratings/rated.jsonl", "--run_dir", "again")
    assert shown == []


def test_rated_needs_a_run(mixture_run: Path) -> None:
    message = run("hits", "--weights", mixture_run, "--data.reward", "graft.reward.Rated", "--out", "a.csv").message
    assert "use it with graft fit, or rate a finished run with graft rate" in message


PAGE = (Path(__file__).parents[2] / "docs/guides/rating.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^graft (.*)$", re.sub(r"\\\n *", "", PAGE), re.MULTILINE)
PICTURES = pytest.mark.needs("diffusers>=0.42", "transformers", "accelerate")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=PICTURES if "text_to_image" in line else [])
        for line in COMMANDS
        if line.startswith("fit ")
    ],
)
def test_commands_of_the_page_that_fit(line: str) -> None:
    """The settings are there; the other tests here run the same settings on the toy domain."""
    _, flag, config, *flags = shlex.split(line)
    assert flag == "--config"
    _, data, _ = cli.load(config, *flags)
    assert not data.source.is_model or isinstance(data.reward, Rated)


def test_flags_of_the_page() -> None:
    known = run("rate", "--help").out
    lines = [shlex.split(line) for line in COMMANDS if line.startswith("rate ")]
    assert len(lines) == 3
    flags = {arg for line in lines for arg in line if arg.startswith("-")}
    for flag in flags | {"--scale", "--out", "--write_only"}:
        assert flag in PAGE and re.search(rf"(?<![\w-]){flag}(?![\w-])", known)


def test_screens() -> None:
    """Every draw once; a screen has one condition; any first part has each condition in proportion."""
    groups = torch.tensor([0] * 80 + [1] * 40 + [2] * 8).repeat(4)
    order = by_screens(groups, seeding.make_generator(0, "a"))
    assert sorted(order) == [*range(len(groups))] and order == by_screens(groups, seeding.make_generator(0, "a"))
    assert order != by_screens(groups, seeding.make_generator(1, "a"))
    named = groups[order].reshape(-1, 8)
    assert bool((named == named[:, :1]).all())
    half = groups[order[:256]]
    assert [int((half == group).sum()) for group in range(3)] == pytest.approx([160, 80, 16], abs=8)
