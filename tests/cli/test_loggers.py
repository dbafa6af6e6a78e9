"""The user's loggers get what metrics.csv gets, the configuration and pictures, in every command that trains."""

import csv
import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from called import done, run
from test_correct import CONFIG
from tracked import EVERY, FIT, TRACKER, Tracker, tracked

import graft
from graft import GraftModule, report
from graft.commands.compare import show
from graft.runs.loggers import pixels

COMMANDS = {
    "pretrain": ["--config", "domains/mixture/pretrain.yaml", "--trainer.max_epochs", "1", *EVERY],
    "correct": [
        *[
            "--config",
            "toy.yaml",
            "--data.train_longer_baseline",
            "false",
            "--data.num_repeats",
            "1",
            "--trainer.max_epochs",
            "1",
            *EVERY,
        ]
    ],
    "compare": [*FIT, "--methods", "graft", "--seeds", "0", "--trainer.max_epochs", "1"],
}

COLUMNS = ["reward", "object_1", "object_2"]  # the domain writes CSV files without a header


@pytest.fixture(autouse=True)
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the toy domain pictures of samples, and leave out the reports, which take seconds."""
    from io import BytesIO

    from PIL import Image

    def draw(self: GraftModule, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> bytes:
        out = BytesIO()
        Image.new("RGB", (4, 3), (10 * min(len(items), 24), 0, 255)).save(out, "PNG")
        return out.getvalue()

    monkeypatch.setattr(GraftModule, "render", draw)
    monkeypatch.setattr(report, "write_report", lambda *_: None)
    monkeypatch.setattr(show, "render_figure", lambda *_: b"<svg></svg>")


def rows(run: "str | Path") -> list[dict[str, float]]:
    with Path(run, "metrics.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_fit(toy: Path) -> None:
    done("fit", *FIT, *TRACKER, "--run_dir", "made")
    found = tracked()
    (parameters,) = (each["values"] for each in found["hyperparameters"])
    assert parameters["model"]["init_args"]["level"] == 0.25 and parameters["data"]["draws"] == 64
    assert parameters["seed_everything"] == 0 and not {"run_dir", "config", "ckpt_path"} & parameters.keys()
    # the same rows as in the run's own file
    logged = [{"step": each["step"], **each["values"]} for each in found["metrics"]]
    own = rows("made")
    assert len(logged) == len(own)
    for ours, theirs in zip(logged, own, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    names = {name for row in logged for name in row}
    assert {"rollout/accepted_reward", "train/loss", "validation/reward", "test/tuned/reward"} <= names
    summary = json.loads(Path("made/summary.json").read_text())
    assert next(row for row in logged if "test/tuned/reward" in row)["test/tuned/reward"] == pytest.approx(
        summary["tuned"]["reward"]
    )
    drawn = [(each["key"], each["step"]) for each in found["picture"]]
    rounds = [("validation/samples", 2), ("validation/samples", 4)]
    assert drawn == [*rounds, ("test/reference/samples", 4), ("test/tuned/samples", 4)]
    assert all((each["shape"], each["dtype"], each["n"]) == ([3, 4, 3], "uint8", 1) for each in found["picture"])
    assert [(each["key"], each["step"]) for each in found["table"]] == [(f"{key}_table", step) for key, step in drawn]
    last = found["table"][-1]
    assert last["columns"] == COLUMNS and len(last["rows"]) == 24
    written = Path("made/samples/tuned.csv").read_text().splitlines()[:24]
    assert [f"{x},{y}" for _, x, y in last["rows"]] == written
    assert [reward for reward, _, _ in last["rows"]] == pytest.approx([float(x) for _, x, _ in last["rows"]], abs=1e-6)
    assert {each["status"] for each in found["finalize"]} == {"success"}


@pytest.mark.parametrize("command", COMMANDS)
def test_other_commands_that_train(command: str, toy: Path) -> None:
    """Runs that a comparison trains are logged, and samples of its table are not."""
    (toy / "toy.yaml").write_text(CONFIG.replace("reference.safetensors", "run/reference.safetensors"))
    done(command, *COMMANDS[command], *TRACKER, "--run_dir", "made")
    found = tracked()
    place = Path("made/runs/graft_seed0" if command == "compare" else "made")
    (parameters,) = (each["values"] for each in found["hyperparameters"])
    assert parameters["model"]["class_path"] == "domains.mixture.Mixture"
    own = [{name: value for name, value in row.items() if name != "step"} for row in rows(place)]
    assert [each["values"] for each in found["metrics"]] == [pytest.approx(row, rel=1e-6) for row in own]
    assert any("train/loss" in row for row in own)
    wanted = {"test/reference/samples"} | ({"test/tuned/samples"} if command != "pretrain" else set())
    assert {each["key"] for each in found["picture"]} == wanted
    assert {each["key"] for each in found["table"]} == {f"{key}_table" for key in wanted}


def test_from_python(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(toy)
    module, data, _ = graft.load(*FIT[1:])
    trainer = graft.trainer(1, accelerator="cpu", logger=Tracker(), enable_progress_bar=False)
    graft.fit(module, data, "made", trainer)
    assert isinstance(trainer.logger, Tracker)  # a user's callbacks find the user's
    found = tracked()
    (parameters,) = (each["values"] for each in found["hyperparameters"])
    model = parameters["model"]["init_args"]
    assert (model["level"], model["steps"], parameters["seed_everything"]) == (0.25, 8, 0)
    assert model["process"]["class_path"] == "graft.process.Gaussian" and parameters["data"]["draws"] == 64
    assert any("rollout/reward" in each["values"] for each in found["metrics"]) and len(found["picture"]) == 3


def test_lightnings_csv_logger(toy: Path) -> None:
    logger = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs", "--trainer.logger.name", "mine"]
    done("fit", *FIT, *logger, "--run_dir", "made")
    (folder,) = Path("logs/mine").iterdir()
    ours, theirs = rows("made"), rows(folder)
    names = {name for row in ours for name in row} - {"step"}
    assert names == {name for row in theirs for name in row} - {"step"} and "rollout/reward" in names
    for name in names:
        values = [[row[name] for row in run if name in row] for run in (ours, theirs)]
        assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert "level: 0.25" in (folder / "hparams.yaml").read_text()
    for name in ("validation/samples/000002", "test/reference/samples/000004", "test/tuned/samples/000004"):
        assert pixels((folder / f"{name}.png").read_bytes())[0, 0].tolist() == [240, 0, 255]
        path = folder / f"{name.replace('samples', 'samples_table')}.csv"
        table = list(csv.DictReader(path.read_text().splitlines()))
        assert len(table) == 24 and list(table[0]) == COLUMNS


def test_two_loggers_in_a_file(toy: Path) -> None:
    both = [{"class_path": "tracked.Tracker", "init_args": {"path": f"{name}.jsonl"}} for name in "ab"]
    Path("loggers.yaml").write_text(yaml.safe_dump({"trainer": {"logger": both}}))
    done("fit", *FIT, "--config", "loggers.yaml", "--run_dir", "made")
    assert [each["values"] for each in tracked("a.jsonl")["metrics"]] == [
        each["values"] for each in tracked("b.jsonl")["metrics"]
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own
def test_tensorboard(toy: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "logs"]
    done("fit", *FIT, *logger, "--run_dir", "made")
    (folder,) = Path("logs/lightning_logs").iterdir()
    found = EventAccumulator(str(folder), {"images": 0, "scalars": 0, "tensors": 0})
    found.Reload()
    tags = found.Tags()
    assert {"rollout/reward", "train/loss", "validation/reward", "test/tuned/reward"} <= {*tags["scalars"]}
    own = [row["validation/reward"] for row in rows("made") if "validation/reward" in row]
    assert [each.value for each in found.Scalars("validation/reward")] == pytest.approx(own, rel=1e-6)
    assert {*tags["images"]} == {"validation/samples", "test/reference/samples", "test/tuned/samples"}
    first = found.Images("validation/samples")[0]
    assert (first.width, first.height, first.step) == (4, 3, 2)
    assert pixels(first.encoded_image_string)[0, 0].tolist() == [240, 0, 255]
    (text,) = found.Tensors("test/tuned/samples_table/text_summary")
    lines = text.tensor_proto.string_val[0].decode().splitlines()
    assert lines[0] == f"| {' | '.join(COLUMNS)} |" and len(lines) == 26
    assert "level: 0.25" in (folder / "hparams.yaml").read_text()


def records(content: bytes) -> Iterator[bytes]:
    """Return the records of a file of Weights & Biases, which is a log of LevelDB after a head of seven bytes."""
    place, block, whole = 7, 32768, b""
    while place < len(content):
        if block - place % block < 7:  # no head fits: the rest of the block is empty
            place += block - place % block
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or its last part
            yield whole
            whole = b""


@pytest.mark.slow  # the service of Weights & Biases takes ten seconds to start and to end
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of its own
def test_weights_and_biases_offline(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of an offline run, which ``wandb sync`` sends, has scalars, settings, pictures and tables."""
    pytest.importorskip("wandb", reason="Weights & Biases is not installed")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = ["--trainer.logger", "WandbLogger", "--trainer.logger.offline", "true", "--trainer.logger.save_dir", "."]
    done("fit", *FIT, *logger, "--run_dir", "made")
    import wandb

    wandb.finish()
    (folder,) = Path("wandb").glob("offline-run-*")
    (stored,) = folder.glob("*.wandb")
    history, settings = dict[str, list[str]](), ""
    for content in records(stored.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        for item in record.history.item:
            history.setdefault("/".join(item.nested_key) or item.key, []).append(item.value_json)
        settings += "".join(item.value_json for item in [*record.config.update, *record.run.config.update])
    own = [row["validation/reward"] for row in rows("made") if "validation/reward" in row]
    assert [float(each) for each in history["validation/reward"]] == pytest.approx(own, rel=1e-6)
    assert '"level": 0.25' in settings.replace('":', '": ').replace("  ", " ")
    for weights in ("reference", "tuned"):
        assert any(f"test/{weights}/samples" in name for name in history)
    tables = [json.loads(path.read_text()) for path in folder.rglob("*.table.json")]
    assert len(tables) == 4 and all(each["columns"] == COLUMNS and len(each["data"]) == 24 for each in tables)
    assert len(list(folder.rglob("*.png"))) == 4


@pytest.mark.parametrize("logger", ["true", "false"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own
@pytest.mark.filterwarnings("ignore:Starting from v1.9.0:UserWarning")  # where TensorBoard is not installed
def test_without_a_class(logger: str, toy: Path) -> None:
    """``true`` is Lightning's default logger; ``false`` leaves the run's own."""
    done("fit", *FIT, "--trainer.logger", logger, "--run_dir", "made")
    assert Path("lightning_logs/version_0").exists() == (logger == "true")
    assert any("validation/reward" in row for row in rows("made"))


def test_a_logger_may_change_when_a_run_goes_on(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that are logged again go to the new logger; the run's own file has no repetition."""
    done("fit", *FIT, "--run_dir", "whole")

    def dies(self: GraftModule) -> None:
        if self.current_epoch == 1:
            raise RuntimeError("the machine is lost")

    with monkeypatch.context() as patch:
        patch.setattr(GraftModule, "on_train_epoch_start", dies)
        with pytest.raises(RuntimeError):
            run("fit", *FIT, *TRACKER, "--trainer.logger.path", "first.jsonl", "--run_dir", "made")
    assert tracked("first.jsonl")["finalize"][-1]["status"] == "failed"
    done("fit", *FIT, *TRACKER, "--run_dir", "made", "--ckpt_path", "last")
    assert rows("made") == rows("whole")
    steps = [each["step"] for each in tracked()["metrics"]]
    assert min(steps) == 2 and any("test/tuned/reward" in each["values"] for each in tracked()["metrics"])


def test_a_table_is_not_worth_the_run(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Tracker, key: str, columns: Any, data: Any, step: "int | None" = None) -> None:
        raise OSError("the table is too long")

    monkeypatch.setattr(Tracker, "log_table", refuse)
    out = done("fit", *FIT, *TRACKER, "--run_dir", "made").out
    assert out.count("no tables for the loggers (OSError: the table is too long)") == 1
    assert len(tracked()["picture"]) == 4


def test_a_picture_is_not_worth_the_run(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Tracker, key: str, images: Any, step: "int | None" = None) -> None:
        raise OSError("the server is away")

    monkeypatch.setattr(Tracker, "log_image", refuse)
    out = done("fit", *FIT, *TRACKER, "--run_dir", "made").out
    assert out.count("the server is away") == 1


def test_what_is_refused(toy: Path) -> None:
    logger = ("save_dir", "."), ("name", "made"), ("version", "")
    flags = [each for name, value in logger for each in (f"--trainer.logger.{name}", value)]
    message = run("fit", *FIT, "--trainer.logger", "CSVLogger", *flags, "--run_dir", "made").message
    assert "metrics.csv" in message and "save_dir" in message
    assert not Path("made/metrics.csv").exists()


@pytest.mark.parametrize("which", ["tracked.Tracker", "domains.mixture.Network"])
def test_a_package_that_is_missing(which: str, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package of a logger, such as Weights & Biases, is named; so is any other one."""

    def missing(self: Any, *_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("Requirement 'wandb>=0.12.10' not met. HINT: Try running `pip install -U 'wandb'`")

    monkeypatch.syspath_prepend(toy)
    module, _, name = which.rpartition(".")
    monkeypatch.setattr(getattr(importlib.import_module(module), name), "__init__", missing)
    message = run("fit", *FIT, *TRACKER).message
    assert "Requirement 'wandb>=0.12.10' not met" in message and "Expected" not in message


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_pixels(mode: str) -> None:
    from io import BytesIO

    from PIL import Image

    out = BytesIO()
    Image.new("RGBA", (5, 2), (255, 255, 255, 255)).convert(mode).save(out, "PNG")
    found = pixels(out.getvalue())
    assert found.shape == (2, 5, 3) and found.dtype.name == "uint8" and (found == 255).all()
    out = BytesIO()
    Image.new("RGBA", (1, 1), (200, 100, 0, 0)).save(out, "PNG")
    assert (pixels(out.getvalue()) == 255).all()  # transparent: the page's white
