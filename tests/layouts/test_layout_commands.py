"""The domain through the command line: train, tune, sample, complete a partial layout; statistics of the samples."""

import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from domains import layouts
from domains.layouts.layout import PUBLAYNET, RICO
from domains.layouts.model_card import _split, card
from domains.layouts.readers import read_layouts
from graft import cli
from graft.io.paths import find_file
from graft.io.tensors import read_metadata

TINY = ["--model.steps", "2", "--model.backbone.width", "16", "--model.backbone.layers", "2"]
SMALL = [
    *["--data.draws", "48", "--data.batch_size", "24", "--data.train_batch_size", "16", "--data.steps_per_round", "3"],
    *[
        "--data.evaluation.validation_draws",
        "24",
        "--data.evaluation.test_draws",
        "24",
        "--trainer.max_epochs",
        "1",
        *TINY,
    ],
    *["--trainer.enable_progress_bar", "false"],
]


def graft(*args: object, status: int = 0) -> str:
    """Return the output of a command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        found = cli.main([str(arg) for arg in args])
    assert found == status, err.getvalue()
    return err.getvalue() if status else out.getvalue()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny pre-training and a tiny fit of the shipped configurations."""
    folder = tmp_path_factory.mktemp("runs")
    few = ["--data.count", "80", "--trainer.max_epochs", "1", *TINY]
    quiet = ["--trainer.enable_progress_bar", "false"]
    graft("pretrain", "--config", "domains/layout_pretrain.yaml", *few, *quiet, "--run_dir", folder / "reference")
    weights = folder / "reference" / "reference.safetensors"
    fit = ["--config", "domains/layout.yaml", "--model.weights", weights, *SMALL]
    graft("fit", *fit, "--run_dir", folder / "tuned")
    return folder


def test_summary_and_samples(runs: Path) -> None:
    summary = json.loads((runs / "tuned" / "summary.json").read_text())
    names = {
        "reward",
        "alignment",
        "overlap",
        "elements",
        "w_class",
        "w_bbox",
        "w_elements",
        "fid",
        "alignment_formula",
    }
    for side in ("reference", "tuned"):
        assert names <= set(summary[side])
        samples = runs / "tuned" / "samples" / f"{side}.json"
        assert len(json.loads(samples.read_text())["images"]) == 24
        assert samples.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert summary["reference"]["elements"] == summary["tuned"]["elements"]  # given, not learned


BRIEF = {
    "page": [612, 792],
    "elements": [{"class": "figure", "box": [36, 36, 122.4, 79.2]}, {"class": "title"}, {"class": "text"}, {}],
}


def test_a_brief_is_completed(runs: Path, folder: Path) -> None:
    (folder / "brief.json").write_text(json.dumps(BRIEF))
    for name in ("pages.json", "pages.svg", "pages.png"):
        graft("sample", "--weights", runs / "tuned", "--condition", "brief.json", "-n", 5, "--out", name)
    pages = json.loads((folder / "pages.json").read_text())
    assert [(image["width"], image["height"]) for image in pages["images"]] == [(612, 792)] * 5
    for image in pages["images"]:
        found = [each for each in pages["annotations"] if each["image_id"] == image["id"]]
        assert [each["given"] for each in found] == [True, False, False, False]
        np.testing.assert_allclose(found[0]["bbox"], BRIEF["elements"][0]["box"], atol=0.01)
        assert [PUBLAYNET[each["category_id"] - 1] for each in found[:3]] == ["figure", "title", "text"]


def test_examples_of_the_readme(runs: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The brief with a logo in its place, and the reward in ten lines."""
    monkeypatch.syspath_prepend(folder)
    text = Path(layouts.__file__).with_name("README.md").read_text(encoding="utf-8")
    brief, reward = (re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1] for kind in ("json", "python"))
    assert len(reward.splitlines()) <= 10
    (folder / "brief.json").write_text(brief)
    (folder / "rewards.py").write_text(reward)
    fit = ["--config", "domains/layout.yaml", "--model.weights", runs / "reference/reference.safetensors", *SMALL]
    graft("fit", *fit, "--data.reward", "rewards.balanced", "--model.brief", "brief.json", "--run_dir", "run")
    summary = json.loads((folder / "run/summary.json").read_text())
    assert -0.5 <= summary["reference"]["reward"] <= 0 and not summary["rounds"][0]["failed_rewards"]
    graft(
        "sample",
        "--weights",
        "run",
        "--condition",
        "brief.json",
        "--trust",
        "--best_of",
        2,
        "-n",
        2,
        "--out",
        "pages.json",
    )
    pages = json.loads((folder / "pages.json").read_text())
    np.testing.assert_allclose(pages["annotations"][0]["bbox"], [60, 50, 120, 60], atol=0.01)
    sizes = [each["bbox"][2:] for each in pages["annotations"] if each["category_id"] == PUBLAYNET.index("table") + 1]
    np.testing.assert_allclose(sizes, [[300, 150]] * 2, atol=0.01)


def test_a_bad_brief_costs_nothing(runs: Path, folder: Path) -> None:
    (folder / "brief.json").write_text(json.dumps({"elements": [{"class": "logo"}]}))
    command = ["sample", "--weights", runs / "tuned", "--condition", "brief.json", "--out", "pages.json"]
    message = graft(*command, status=2)
    assert message.count("\n") == 1 and "unknown class 'logo'" in message
    assert not (folder / "pages.json").exists()
    missing = ["sample", "--weights", runs / "tuned", "--condition", "no.json", "--out", "a.json"]
    assert "no.json" in graft(*missing, status=2)


@pytest.mark.slow
def test_a_task_is_tuned_like_any_other(runs: Path, task: str = "completion") -> None:
    weights = runs / "reference" / "reference.safetensors"
    fit = ["--config", "domains/layout.yaml", "--model.weights", weights, *SMALL]
    graft("fit", *fit, "--model.task", task, "--data.steps_per_round", "2", "--run_dir", task)
    assert json.loads(Path(task, "summary.json").read_text())["tuned"]["n"] == 24


@pytest.mark.parametrize("process", ["masked", pytest.param("flow", marks=pytest.mark.slow)])
def test_other_processes(runs: Path, process: str) -> None:
    """The same domain with its classes as a discrete field, and as a deterministic flow, through the same commands."""
    few = ["--data.count", "80", "--trainer.max_epochs", "1", *TINY]
    other = ["--config", f"process/layout_{process}.yaml"]
    pretrain = ["--config", "domains/layout_pretrain.yaml", *other, *few, "--trainer.enable_progress_bar", "false"]
    graft("pretrain", *pretrain, "--run_dir", "reference")
    fit = ["--config", "domains/layout.yaml", *other, *SMALL, "--model.weights", "reference/reference.safetensors"]
    how = (
        ["--config", "layout/graft.yaml", "--model.level", "0.5"]
        if process == "flow"
        else ["--model.upper_level", "0.5"]
    )
    graft("fit", *fit, *how, "--run_dir", "tuned")
    items = read_layouts("tuned/samples/tuned.json", PUBLAYNET, 20).layouts()
    assert items


def test_split_of_the_shipped_reference() -> None:
    """The names in the header are those of `LayoutData`."""
    about = read_metadata(find_file("domains/layouts/reference/publaynet.safetensors"))
    assert _split(about) == {"val_fraction": 0.15, "seed": 0, "count": 20000}


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # lightning 2.6 under a newer torch
def test_card_has_real_layouts_and_draws(runs: Path) -> None:
    message = card(
        str(runs / "reference" / "reference.safetensors"), "generated", str(runs / "tuned/samples/tuned.json"), 24
    )
    assert "n = 6" in message and message.count("layoutformer") == 2
    rows = [line.split("|")[1].strip() for line in message.splitlines() if line.startswith("| ")]
    assert rows[1:3] == ["the other half of the held-out, n = 6", "draws, n = 6"]


SCREEN = {
    "bounds": [0, 0, 1440, 2560],
    "children": [
        {"componentLabel": "Toolbar", "bounds": [0, 0, 1440, 200]},
        {"componentLabel": "Card", "bounds": [40, 300, 1400, 900], "children": []},
    ],
}


def test_other_classes_and_more_elements(folder: Path) -> None:
    """App screens: 25 classes, 25 elements, the other family's convention; no feature network is of them."""
    screens = folder / "screens"
    screens.mkdir()
    for i in range(20):
        items = [{"componentLabel": "Text", "bounds": [60, 320 + 20 * j, 900, 330 + 20 * j]} for j in range(i + 4)]
        (screens / f"{i}.json").write_text(json.dumps(SCREEN | {"children": SCREEN["children"] + items}))
    rico = ["--config", "layout/rico.yaml", "--trainer.enable_progress_bar", "false"]
    data = ["--data.source", screens, "--data.classes", "rico", "--data.elements", "25", "--data.batch_size", "8"]
    few = ["--trainer.max_epochs", "1", "--run_dir", "screens_run", *TINY]
    graft("pretrain", "--config", "domains/layout_pretrain.yaml", *rico, *data, *few)
    graft("sample", "--weights", "screens_run/reference.safetensors", "-n", 6, "--out", "screens.json")
    drawn = read_layouts("screens.json", RICO, 25)
    assert drawn.names[0] == "Text" and len(drawn) + drawn.left_out.get("empty layouts", 0) == 6
