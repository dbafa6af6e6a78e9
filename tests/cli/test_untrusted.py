"""A foreign weights file builds networks, processes and domains from plain settings, and runs no code."""

import json
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from called import QUIET, TOY, done, run

from graft.io.paths import find_file
from graft.io.tensors import read_metadata, read_tensors, write_tensors
from graft.module import GraftModule
from graft.runs.architecture import portable
from graft.solvers import Euler

SMALL = ["--data.draws", "32", "--data.batch_size", "16", "--data.train_batch_size", "8", "--data.steps_per_round", "2"]
SMALL += [
    "--data.evaluation.validation_draws",
    "8",
    "--data.evaluation.test_draws",
    "8",
    "--model.steps",
    "4",
    "--trainer.max_epochs",
    "1",
]
FIT = ["--config", "domains/mixture/mixture.yaml", "--model.weights", "given/reference.safetensors", *SMALL, *QUIET]
REWARD = ["--data.reward", "domains.mixture.Rightmost"]
TWO = ["-n", "2", "--out", "a.csv"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the domain, a reference and a finished run."""
    folder = tmp_path_factory.mktemp("toy")
    shutil.copytree(TOY / "domains", folder / "domains")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("domains.mixture", "domains"):  # of another folder: rewards are compared by where they are found
            patch.delitem(sys.modules, name, raising=False)
        patch.chdir(folder)
        done(
            "pretrain",
            "--config",
            "domains/mixture/pretrain.yaml",
            "--trainer.max_epochs",
            "1",
            *QUIET,
            "--run_dir",
            "given",
        )
        done("fit", *FIT, "--run_dir", "run")
    return folder


@pytest.fixture
def work(toy: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("evil", "nets", "domains.mixture", "domains"):  # of another folder
        monkeypatch.delitem(sys.modules, name, raising=False)
    shutil.copytree(toy, folder, dirs_exist_ok=True)
    (folder / "evil.py").write_text(
        "import os\nfrom pathlib import Path\nfrom torch import nn\nfrom graft.reward import Reward\n"
        "Path('taken over').mkdir(exist_ok=True)\n"
        "def run(*args, **kwargs): Path('taken over').mkdir(exist_ok=True)\n"
        "class Plain:\n    def __init__(self, *args, **kwargs): run()\n"
        "class Score(Reward):\n    def score(self, item):\n        return 1.0\n"
    )
    (folder / "nets.py").write_text(
        "from pathlib import Path\nfrom torch import nn\n"
        "class Reads(nn.Module):\n    def __init__(self, file):\n        super().__init__()\n"
        "        Path('taken over').mkdir(exist_ok=True)\n"
    )
    (folder / "notes.yaml").write_text("class_path: evil.Plain\n")
    return folder


def changed(work: Path, change: "Callable[[dict[str, Any]], Any]", **more: Any) -> str:
    """Weights with a changed header and a new checksum.

    Args:
        work: Folder.
        change: Of the run's configuration, whose model alone becomes the architecture.
        more: Other entries of the header.
    """
    tensors, about = read_tensors(work / "run" / "tuned.safetensors")
    architecture = about.pop("architecture")
    config = yaml.safe_load((work / "run" / "config.yaml").read_text())
    config["model"] = architecture
    change(config)
    message = {"architecture": config["model"], "data": config["data"]}
    write_tensors(work / "theirs.safetensors", tensors, {**about, **message, **more})
    return "theirs.safetensors"


def spec(name: str, **settings: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": settings}


PROGRAM = spec("domains.molecules.rewards.ExternalProgram", command=["mkdir", "taken over"], pattern="(1)")
REWARDS = {
    "program": PROGRAM,
    "weighted": spec("graft.reward.WeightedSum", terms=[PROGRAM], weights=[1.0]),
    "cached": spec("graft.reward.CachedReward", reward=PROGRAM),
    "function": spec("graft.reward.FunctionReward", path="evil.run", timeout=None),
    "own": spec("evil.Score"),
    "text": "evil.run",
}


@pytest.mark.parametrize("command", ["sample", "hits", "evaluate"])
@pytest.mark.parametrize("kind", REWARDS)
def test_no_reward_comes_from_a_weights_file(command: str, kind: str, work: Path) -> None:
    weights = changed(work, lambda config: config["data"].update(reward=REWARDS[kind]))
    if command == "evaluate":
        done("evaluate", "--weights", weights, "-n", "4", "--runs", "1")
    else:
        flags = ["--best_of", "2"] if command == "sample" else ["--draws", "4"]
        message = run(command, "--weights", weights, *TWO, *flags).message
        assert (
            "has no reward" in message
            and "--data.reward package.module.function" in message
            and "--trust" not in message
        )
        done(command, "--weights", weights, *TWO, *flags, *REWARD)
    assert not (work / "taken over").exists() and "evil" not in sys.modules


@pytest.mark.parametrize("kind", REWARDS)
@pytest.mark.parametrize(
    "place", ["backbone", "process", "solver", "corrector", "features", "reward", "process.anything"]
)
def test_a_reward_in_the_place_of_a_part_of_the_model(place: str, kind: str, work: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        inner = config["model"]["init_args"]
        if place == "process.anything":
            inner["process"]["dict_kwargs"] = {"anything": [REWARDS[kind]]}
        else:
            inner[place] = REWARDS[kind]

    run("sample", "--weights", changed(work, change), *TWO).message  # noqa: B018
    assert not (work / "taken over").exists() and "evil" not in sys.modules


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[
            ("backbone.class_path", name)
            for name in ("evil.Plain", "domains.molecules.rewards.ExternalProgram", "os.system")
        ],
        *[("backbone.init_args.command", "mkdir"), ("__path__", "notes.yaml"), ("backbone+", "evil.Plain")],
        *[("objective", spec("evil.Plain")), ("callbacks", [spec("evil.Plain")]), ("optimizer", spec("evil.Plain"))],
        *[("solver", "Program"), ("solver", "Heun.evil"), ("solver", spec("Program")), ("process", "Program")],
    ],
)
def test_other_ways_to_name_a_class(name: str, value: Any, work: Path) -> None:
    """Dotted names of settings, settings of training (which are dropped), and short names of classes."""
    weights = changed(work, lambda config: config["model"]["init_args"].update({name: value}))
    if name in ("objective", "optimizer"):
        done("sample", "--weights", weights, *TWO)
    else:
        run("sample", "--weights", weights, *TWO).message  # noqa: B018
    assert not (work / "taken over").exists() and "evil" not in sys.modules


def test_classes_are_looked_at_again_before_they_are_built(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is of the names after the parser has expanded them."""
    weights = changed(work, lambda config: config["model"]["init_args"].update(solver="Mine"))
    built = []

    class Mine(Euler):
        def __init__(self) -> None:
            super().__init__()
            built.append(self)

    Mine.__module__, Mine.__qualname__ = "nets", "Mine"
    monkeypatch.setitem(sys.modules, "nets", types.SimpleNamespace(Mine=Mine))  # type: ignore[arg-type]
    assert "theirs.safetensors names nets.Mine" in run("sample", "--weights", weights, *TWO).message
    assert not built


def test_what_a_header_says(work: Path) -> None:
    """The architecture, what training was like in numbers and names, no reward's settings, and no folder."""
    (work / "scores.py").write_text("def one(item, condition=None): return float(item[0])\n")
    done(
        "fit",
        *FIT,
        "--run_dir",
        "other",
        "--data.reward",
        "graft.reward.FunctionReward",
        "--data.reward.path",
        "scores.one",
    )
    for file in ("given/reference", "run/tuned", "other/tuned"):
        about = read_metadata(work / f"{file}.safetensors")
        assert set(about) == {"reference", "level", "architecture", "training", "format", "sha256"}
        assert not set(about["architecture"]["init_args"]) & {*GraftModule.only_training}
        assert about["training"]["model.optimizer.init_args.lr"] > 0 and about["training"]["seed_everything"] == 0
        assert all(isinstance(value, int | float | str) for value in about["training"].values())
        text = json.dumps(about)
        assert str(work) not in text and "scores" not in text and "command" not in text
    assert about["training"]["data.reward"] == "graft.reward.FunctionReward"
    assert about["reference"]["path"] == "given/reference.safetensors"
    assert about["reference"]["relative_path"] == "../given/reference.safetensors"


def test_files_of_the_machine_are_named_and_not_found(work: Path) -> None:
    """A setting that named a file must be given; one that names a shipped file stays."""
    brief = str(work / "notes.yaml")
    shipped = "domains/images/reference/features.safetensors"
    found = portable({"a": brief, "b": ["notes.yaml", "plain", shipped], "c": str(find_file(shipped)), "d": "~/x"})
    assert found == {"a": "file:notes.yaml", "b": ["file:notes.yaml", "plain", shipped], "c": shipped, "d": "file:x"}
    weights = changed(work, lambda config: config["model"]["init_args"].update(brief=found["a"]))
    assert "give it with --model.brief" in run("sample", "--weights", weights, *TWO).message


def test_a_reference_is_found_from_other_folders(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the weights, and from the place in the run's settings; never another file."""
    (work / "else").mkdir()
    monkeypatch.chdir(work / "else")
    shutil.copytree(TOY / "domains", "domains")
    done("sample", "--weights", work / "run", *TWO)
    shutil.move(work / "run", work / "else" / "deeper" / "run")
    assert "--model.weights FILE" in run("sample", "--weights", "deeper/run", *TWO).message
    done("sample", "--weights", "deeper/run", *TWO, "--model.weights", work / "given" / "reference.safetensors")
    config = Path("deeper/run/config.yaml")
    config.write_text(config.read_text().replace("given/ref", f"{work}/given/ref"))
    done("sample", "--weights", "deeper/run", *TWO)
    tensors, about = read_tensors(work / "given" / "reference.safetensors")
    write_tensors(work / "given" / "reference.safetensors", tensors, {**about, "another": 1})
    assert "--model.weights FILE" in run("sample", "--weights", "deeper/run", *TWO).message


def test_rounds_and_classes_of_the_user_s_own(work: Path) -> None:
    """A class of another package is built with --trust, or when the command line names it."""
    (work / "own.py").write_text("from domains.mixture import *\nclass Net(Network): pass\n")
    done(
        "fit",
        *FIT,
        "--run_dir",
        "own",
        "--model.backbone.class_path",
        "own.Net",
        "--data.storage.save_round_weights",
        "true",
    )
    for folder in ("own", "own/rounds/0"):
        assert "names own.Net" in run("sample", "--weights", folder, *TWO).message
        done("sample", "--weights", folder, *TWO, "--trust", "--best_of", "2")
    done("sample", "--weights", "own", *TWO, "--model.backbone", "{class_path: own.Net, init_args: {width: 32}}")


def test_the_run_s_own_reward_with_the_folder_and_trust(work: Path) -> None:
    for command, flags in (("sample", ["--best_of", "2"]), ("hits", [])):
        message = run(command, "--weights", "run", *TWO, *flags).message
        assert "add --trust to take that of run" in message
        done(command, "--weights", "run", *TWO, *flags, "--trust")
        assert (
            "--trust is for the folder" in run(command, "--weights", "run/tuned.safetensors", *TWO, "--trust").message
        )
    done("hits", "--weights", "run", *TWO, *REWARD)  # the same reward: its stored scores count
    done("sample", "--weights", "run", *TWO)
    done("sample", "--weights", "run", *TWO, "--trust")


NAMES = [
    *["os.system", "subprocess.Popen", "builtins.exec", "antigravity.Net", "importlib.import_module", "posix.system"],
    *[
        "torch.load",
        "torch.hub.load",
        "torch.jit.load",
        "torch.package.PackageImporter",
        "torch.nn.Module.load_state_dict",
    ],
    *["evil.run", "evil.Plain", "evil.Score", "evil.nothing", "evil.os.system", "__main__.Net", "nowhere.Net", "evil"],
    *[
        "graft.reward.FunctionReward",
        "graft.reward.worker.Worker",
        "graft.io.checksum.checksum",
        "graft.__main__.x",
    ],
    *[
        "domains.molecules.rewards.ExternalProgram",
        "graft.rollouts.Rollouts",
        "pathlib.Path",
        "yaml.load",
        "numpy.load",
    ],
    *["graft.process.base.importlib.import_module", "jsonargparse.set_parsing_settings", "torch.nn.functional.relu"],
    *["a b.c", "../evil.Plain", "", "Network", "os . system", "evil.Plain\n"],
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["backbone", "process.init_args.schedule", "anything", "model"])
def test_what_a_model_is_not_made_of(name: str, place: str, work: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        if place == "model":
            config["model"]["class_path"] = name
            return
        inner = config["model"]["init_args"]
        *above, last = place.split(".")
        for each in above:
            inner = inner[each]
        inner[last] = spec(name, command="mkdir", file="x")

    if place != "backbone" and name in NAMES[8:]:
        pytest.skip("one place for these")
    message = run("sample", "--weights", changed(work, change), *TWO).message
    assert "theirs.safetensors" in message
    assert not (work / "taken over").exists() and "evil" not in sys.modules


TEXTS = [
    *[
        "/etc/passwd",
        "~/notes.yaml",
        "notes.yaml",
        "./notes.yaml",
        "run/../notes.yaml",
        "../x",
        "domains/mixture/mixture.yaml",
    ],
    *[
        "http://127.0.0.1:1/x",
        "file:///etc/passwd",
        "s3://bucket/x",
        "\\\\host\\share",
        "//host/share",
        "C:\\x",
        "hf://a/b",
    ],
    *["{class_path: evil.Plain}", "class_path: evil.Plain", "[{class_path: evil.Plain}]", "evil.Plain", "evil.run"],
    *["os.system", "{class_path: subprocess.Popen, init_args: {args: [mkdir, taken over]}}", "a\0b", "&a [*a]"],
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("place", ["backbone", "process"])
def test_text_that_is_more_than_text(text: str, place: str, work: Path) -> None:
    """Files, addresses, settings and names of classes in place of plain settings."""
    weights = changed(work, lambda config: config["model"]["init_args"].update({place: text}))
    message = run("sample", "--weights", weights, *TWO).message
    assert "theirs.safetensors" in message
    assert not (work / "taken over").exists() and "evil" not in sys.modules


def test_networks_of_the_user_s(work: Path) -> None:
    """A network of a module in the current folder is not even imported, for that runs the module."""
    theirs = spec("nets.Reads", file="x")
    weights = changed(work, lambda config: config["model"]["init_args"].update(backbone=theirs))
    assert "names nets.Reads" in run("sample", "--weights", weights, *TWO).message
    assert not (work / "taken over").exists() and "nets" not in sys.modules


@pytest.mark.parametrize(
    "reference", [{"path": "nowhere.safetensors"}, {"path": "notes.yaml"}, {"path": "http://x/y"}, 3, "x"]
)
def test_references_that_are_not_here(reference: Any, work: Path) -> None:
    if isinstance(reference, dict):
        reference = {**reference, "sha256": "0" * 64}
    weights = changed(work, lambda config: None, reference=reference)
    message = run("sample", "--weights", weights, *TWO).message
    assert "--model.weights FILE" in message or "damaged" in message


@pytest.mark.parametrize(
    "config", [3, [], {"model": 1}, "a: b", "model: {class_path: [1]}", "model: x", "&a [*a]", "a: 1\na: 2"]
)
def test_headers_of_another_kind(config: Any, work: Path) -> None:
    tensors, about = read_tensors(work / "run" / "tuned.safetensors")
    about.pop("architecture")
    write_tensors(work / "theirs.safetensors", tensors, {**about, "architecture": config})
    assert "theirs.safetensors" in run("sample", "--weights", "theirs.safetensors", *TWO).message
