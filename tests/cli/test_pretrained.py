"""The header of a reference brings the model to ``graft fit`` and to Python, checked as ``graft sample`` checks it."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from called import QUIET, done, run
from trained import rollouts_of

import graft
from graft import GraftError, GraftModule
from graft.commands import sample_chunks
from graft.io.checksum import file_checksum
from graft.io.tensors import read_tensors, write_tensors
from graft.policy import Tuning
from graft.runs.config_of_objects import configuration

SMALL = ["--data.draws", "32", "--data.batch_size", "16", "--data.train_batch_size", "8", "--data.steps_per_round", "2"]
SMALL += [
    "--data.evaluation.validation_draws",
    "0",
    "--data.evaluation.test_draws",
    "8",
    "--trainer.max_epochs",
    "1",
    *QUIET,
]
MINE = "data: {reward: domains.mixture.Rightmost, accept: {class_path: TopFraction, init_args: {fraction: 0.5}}}\n"
FIT = ["--config", "mine.yaml", "--model.weights", "run/reference.safetensors"]


@pytest.fixture
def work(toy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy domain with a reference, a configuration of the data alone, and modules that weights must not import."""
    for name in ("evil", "own", "domains.mixture", "domains"):  # of another folder
        monkeypatch.delitem(sys.modules, name, raising=False)
    (toy / "mine.yaml").write_text(MINE)
    (toy / "evil.py").write_text("from pathlib import Path\nPath('taken over').mkdir()\nclass Plain: pass\n")
    (toy / "own.py").write_text(
        "from domains.mixture import Mixture, Network\nclass Net(Network): pass\n"
        "class Mine(Mixture): pass\nclass Other(Mixture): pass\n"
    )
    monkeypatch.syspath_prepend(toy)
    return toy


def changed(work: Path, **settings: Any) -> str:
    """A reference with changed settings of the model in its header."""
    tensors, about = read_tensors(work / "run" / "reference.safetensors")
    about["architecture"]["init_args"].update(settings)
    write_tensors(work / "theirs.safetensors", tensors, about)
    return "theirs.safetensors"


def model(*args: object, command: str = "fit") -> dict[str, Any]:
    return yaml.safe_load(done(command, *args, "--print_config").out)["model"]


def test_a_configuration_of_the_data_alone(work: Path) -> None:
    """The run is the same as that of a configuration with the whole model."""
    found = model(*FIT)
    assert found["class_path"] == "domains.mixture.Mixture" and found["init_args"]["steps"] == 8
    done("fit", *FIT, *SMALL, "--model.level", "0.25", "--run_dir", "short")
    whole = yaml.safe_load(Path("short/config.yaml").read_text())
    Path("whole.yaml").write_text(yaml.safe_dump(whole))
    done("fit", "--config", "whole.yaml", *QUIET, "--run_dir", "long")
    assert file_checksum("short/tuned.safetensors") == file_checksum("long/tuned.safetensors")
    Path("short/summary.json").unlink()
    again = ["fit", "--config", "short/config.yaml", "--run_dir", "short", "--ckpt_path", "last"]
    done(*again)
    assert (
        "holds tuned weights"
        in run("fit", "--config", "mine.yaml", "--model.weights", "short/tuned.safetensors").message
    )


@pytest.mark.parametrize("command", ["fit", "levels", "python"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backbone", {"class_path": "evil.Plain"}),
        ("backbone", {"class_path": "os.system", "init_args": {"command": "mkdir 'taken over'"}}),
        ("process", {"class_path": "domains.molecules.rewards.ExternalProgram", "init_args": {"command": "mkdir"}}),
        ("process", "{class_path: evil.Plain}"),
        ("solver", "Program"),
        ("solver", {"class_path": "evil.Plain"}),
        ("__path__", "mine.yaml"),
        ("brief", "file:notes.json"),
    ],
)
def test_a_header_is_checked(command: str, name: str, value: Any, work: Path) -> None:
    weights = changed(work, **{name: value})
    if command == "python":
        with pytest.raises(GraftError, match=r"theirs\.safetensors"):
            GraftModule.from_pretrained(weights)
    else:
        assert "theirs.safetensors" in run(command, "--config", "mine.yaml", "--model.weights", weights).message
    assert not (work / "taken over").exists() and "evil" not in sys.modules


def test_settings_that_the_user_gives_are_not_looked_at(work: Path) -> None:
    weights = ["--config", "mine.yaml", "--model.weights", changed(work, backbone={"class_path": "evil.Plain"})]
    assert "names evil.Plain" in run("fit", *weights).message
    found = model(*weights, "--model.backbone", "own.Net", "--model.backbone.width", "32")["init_args"]["backbone"]
    assert found == {"class_path": "own.Net", "init_args": {"width": 32}} and "evil" not in sys.modules


def test_classes_of_the_user_s_own(work: Path) -> None:
    """With ``--trust``, or if the user names the class of the model and of the network."""
    net = ["--model.backbone.class_path", "own.Net", "--model.class_path", "own.Mine"]
    done(
        "pretrain",
        "--config",
        "domains/mixture/pretrain.yaml",
        *net,
        "--trainer.max_epochs",
        "1",
        *QUIET,
        "--run_dir",
        "a",
    )
    fit = ["--config", "mine.yaml", "--model.weights", "a/reference.safetensors"]
    assert "names own.Mine" in run("fit", *fit).message
    assert "names own.Net" in run("fit", *fit, "--model.class_path", "own.Mine").message
    assert model(*fit, "--trust")["init_args"]["backbone"]["class_path"] == "own.Net"
    assert model(*fit, "--model.class_path", "own.Mine", "--model.backbone", "own.Net")["init_args"]["steps"] == 8
    assert "are of own.Mine" in run("fit", *fit[:2], "--model.class_path", "own.Other", *fit[2:]).message
    shutil.copy("a/reference.safetensors", "b.safetensors")
    assert "--trust is for the folder" in run("fit", *fit, "--model.weights", "b.safetensors", "--trust").message
    import own  # type: ignore[import-not-found]

    with pytest.raises(GraftError, match=r"names own\.Net"):
        own.Mine.from_pretrained("a")
    for made in (own.Mine.from_pretrained("a", trust=True), own.Mine.from_pretrained("a", backbone=own.Net(32))):
        assert type(made) is own.Mine and type(made.policy.backbone) is own.Net and made.policy.steps == 8
    sub = model(*FIT, "--model.class_path", "own.Other")  # a subclass of the weights' class
    assert (sub["class_path"], sub["init_args"]["backbone"]["class_path"]) == ("own.Other", "domains.mixture.Network")
    assert type(own.Mine.from_pretrained("run/reference.safetensors")) is own.Mine
    with pytest.raises(GraftError, match="no weights of Other"):
        own.Other.from_pretrained("a", trust=True)


def test_from_pretrained(work: Path) -> None:
    """A reference is frozen below the tuned network; tuned weights are loaded; the run is recorded and resumed."""
    from domains.mixture import Mixture  # type: ignore[import-not-found]

    made = Mixture.from_pretrained("run/reference.safetensors", level=0.25, tuning=Tuning(ema_decay=0.9))
    policy = made.policy
    assert (policy.interval.low, policy.steps, policy.ema.decay) == (0.25, 8, 0.9) and policy.reference is not None
    data = rollouts_of("domains.mixture.Rightmost", draws=32, batch_size=16, steps_per_round=2, test_draws=8)
    trainer = graft.trainer(1, accelerator="cpu", enable_progress_bar=False)
    message = yaml.safe_load(configuration(made, data, trainer))["model"]
    assert message["init_args"]["backbone"] == {"class_path": "domains.mixture.Network", "init_args": {"width": 32}}
    done("fit", *FIT, *SMALL, "--model.level", "0.25", "--run_dir", "cli")
    tuned = GraftModule.from_pretrained("cli")
    assert type(tuned) is Mixture and tuned.policy.interval.low == 0.25 and tuned.policy.reference is not None
    pairs = zip(tuned.policy.backbone.parameters(), policy.backbone.parameters(), strict=True)
    assert any((a != b).any() for a, b in pairs)
    done("sample", "--weights", "cli", "-n", "4", "--out", "a.csv")
    objects = sample_chunks(tuned, trainer, 4)
    rows = [line.split(",") for line in Path("a.csv").read_text().splitlines()]
    drawn = [item for part, _ in objects for item in part]
    assert [float(row[0]) for row in rows[-4:]] == pytest.approx([float(item[0]) for item in drawn], abs=1e-4)


def test_pretraining_takes_nothing_from_weights(work: Path) -> None:
    text = Path("domains/mixture/pretrain.yaml").read_text().replace("steps: 8", "weights: run/reference.safetensors")
    Path("again.yaml").write_text(text)
    assert model("--config", "again.yaml", command="pretrain")["init_args"]["steps"] == 24
