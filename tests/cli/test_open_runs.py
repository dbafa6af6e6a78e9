"""`graft.load_run`, `graft.from_pretrained` and `graft.sample`: runs as objects and tables of Python."""

import csv
from pathlib import Path

import pytest
import yaml
from called import done

import graft
from graft import GraftError
from graft.report import format_number


def points(path: str) -> list[tuple[float, ...]]:
    return [tuple(map(float, line.split(","))) for line in Path(path).read_text().splitlines()]


def test_names() -> None:
    """Every name that `dir` lists can be imported and has a docstring."""
    assert {"fit", "load", "load_run", "from_pretrained", "sample", "table", "levels", "Run"} <= set(dir(graft))
    for name in graft.__all__:
        assert name in dir(graft) and getattr(graft, name).__doc__, name


def test_a_run_is_opened(mixture_run: Path) -> None:
    run = graft.load_run(mixture_run, trust=True)
    assert run.is_finished and run.summary["reward_calls"] > 0
    assert run.config["data"]["draws"] == run.summary["rounds"][0]["draws"] == 64
    assert run.rounds == run.summary["rounds"] and len(run.rounds) == 2
    with (mixture_run / "metrics.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert len(run.metrics) == len(written) > 0
    for row, texts in zip(run.metrics, written, strict=True):
        assert {name: value for name, value in row.items() if value is not None} == {
            name: float(text) for name, text in texts.items() if text
        }
    accepted = run.accepted(1)
    assert len(accepted) == run.rounds[1]["accepted"] and isinstance(accepted[0]["reward"], float)
    assert run.hits[0]["rank"] == 1 and len(run.hits) > 1
    with pytest.raises(GraftError, match="finished round"):
        run.accepted(2)


def test_samples_are_those_of_the_command_line(mixture_run: Path, folder: Path) -> None:
    for seed in (0, 3):
        done("sample", "--weights", mixture_run, "-n", 5, "--out", f"{seed}.csv", "--seed", seed)
    run = graft.load_run(mixture_run)
    first, other = run.sample(5), run.sample(5, seed=3)
    assert [first, other] == [
        [pytest.approx(point, abs=1e-6) for point in points("0.csv")],
        [pytest.approx(point, abs=1e-6) for point in points("3.csv")],
    ]
    module = graft.from_pretrained(mixture_run)
    assert module.seed == 0 and graft.sample(module, 5, seed=3) == other and module.seed == 0
    assert graft.sample(module, 5, seed=3, weights="reference") != other
    assert graft.from_pretrained(mixture_run, steps=4).policy.steps == 4


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of what pandas imports
def test_tables_are_data_frames(mixture_run: Path) -> None:
    pandas = pytest.importorskip("pandas")
    run = graft.load_run(mixture_run)
    points = run.sample(3)
    frame = pandas.DataFrame(graft.table(run.module, points, rewards=[x for x, _ in points]))
    assert list(frame.columns) == ["reward", "object_1", "object_2"] and len(frame) == 3
    assert frame["reward"].tolist() == [x for x, _ in points]
    for rows in (run.hits, run.metrics, run.rounds, run.accepted(0)):
        assert len(pandas.DataFrame(rows)) == len(rows) > 0
    assert pandas.DataFrame(run.hits)["reward"].dtype == float
    with pytest.raises(GraftError, match="rewards has 1 numbers for 3 objects"):
        graft.table(run.module, points, rewards=[1.0])


def test_text_that_looks_like_a_number_stays_text(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "hits.csv").write_text("rank,key,reward,times,origin,smiles\n1,007,0.5,2,1_0,1e3\n")
    accepted = tmp_path / "rounds/0/accepted.csv"
    accepted.parent.mkdir(parents=True)
    accepted.write_text("draw,key,reward,weight\n3,007,-0.5,1\n")
    run = graft.load_run(tmp_path)
    assert run.hits == [{"rank": 1, "key": "007", "reward": 0.5, "times": 2, "origin": "1_0", "smiles": "1e3"}]
    assert run.accepted(0) == [{"draw": 3, "key": "007", "reward": -0.5, "weight": 1}]


def test_what_is_no_run(mixture_run: Path, folder: Path) -> None:
    with pytest.raises(GraftError, match=r"holds no run\. Give the folder of a run"):
        graft.load_run(folder)
    (folder / "config.yaml").write_text("seed_everything: 0")
    unfinished = graft.load_run(folder)
    assert not unfinished.is_finished and unfinished.rounds == unfinished.metrics == unfinished.hits == []
    with pytest.raises(GraftError, match="is not finished: resume it"):
        _ = unfinished.summary
    with pytest.raises(GraftError, match="count is 0"):
        graft.sample(graft.from_pretrained(mixture_run), 0)


def test_the_card_of_the_weights(mixture_run: Path) -> None:
    """The figures are those of the summary; the card has front matter and no folder of the machine."""
    text = (mixture_run / "CARD.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "graft" and body.startswith("\n# tuned.safetensors")
    summary = graft.load_run(mixture_run).summary
    row = next(line for line in body.splitlines() if line.startswith("| spread |"))
    values = [f"{format_number(summary[side]['reward'])} ±" for side in ("reference", "tuned")]
    assert all(value in row for value in values)
    assert "| `domains.mixture.Mixture` |" in body and "| `reference.safetensors` |" in body
    assert "graft fit --config" in body and str(mixture_run.parents[2]) not in body.replace(repeated(body), "")
    assert [line for line in body.splitlines() if line.startswith("|") and line.count("|") < 3] == []


def test_the_card_of_a_reference(mixture: Path) -> None:
    text = (mixture / "run/CARD.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["tags"] == ["graft", "pre-trained"]
    assert body.startswith("\n# reference.safetensors") and "| `domains.mixture.Mixture` |" in body
    summary = graft.load_run(mixture / "run").summary
    assert f"| optimizer steps | {summary['steps']:,} |" in body and f"{summary['reference']['n']:,} samples" in body
    assert "graft pretrain --config domains/mixture/pretrain.yaml" in body and str(mixture.parent) not in body.replace(
        repeated(body), ""
    )


def repeated(body: str) -> str:
    """Return the command that repeats the run, as the user typed it."""
    return body.partition("## Repeat it")[2].partition("## Limits")[0]
