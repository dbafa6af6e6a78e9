"""Own classes: no distance uses another data set's classes, and the user's feature network is used."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from domains.layouts import features, reference_statistics
from domains.layouts.backbone import LayoutTransformer
from domains.layouts.layout import PUBLAYNET, RICO, classes_of, layout
from domains.layouts.module import Layouts
from domains.layouts.readers import LayoutSet, read_layouts
from domains.layouts.train_features import train
from graft import cli
from graft.errors import GraftError
from graft.process import CosineSchedule, Gaussian, MaskProjection, MultiFieldProcess

OWN: dict[str, Any] = {
    "eleven": [
        "Caption",
        "Footnote",
        "Formula",
        "List",
        "Footer",
        "Header",
        "Picture",
        "Section",
        "Table",
        "Text",
        "T",
    ],
    "five": ["a", "b", "c", "d", "e"],
    "five in another order": [*PUBLAYNET[1:], PUBLAYNET[0]],
    "three of the five": list(PUBLAYNET[:3]),
    "two": ["a", "b"],
    "one": ["a"],
    "numbers": [1, 2, 3],
    "a number": 4,
}


def process(names: tuple[str, ...]) -> MultiFieldProcess:
    box = Gaussian(CosineSchedule(), "v", [20, 4], projection=MaskProjection("free_box"))
    return MultiFieldProcess(
        {
            "box": box,
            "label": Gaussian(CosineSchedule(), "logits", [20, len(names)], projection=MaskProjection("free_label")),
        }
    )


def module(classes: Any, **settings: Any) -> Layouts:
    names = classes_of(classes)
    return Layouts(LayoutTransformer(len(names), 16, 2, 2), process(names), steps=4, classes=classes, **settings)


def pages(names: tuple[str, ...], count: int = 40) -> LayoutSet:
    """Pages that are made, their classes counted through the names."""
    made = read_layouts("generated", PUBLAYNET, 20, count)
    labels = made.labels * 7 % len(names) * (np.arange(20) < made.counts[:, None])
    return LayoutSet(labels, made.boxes, made.counts, names)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (None, PUBLAYNET),
        ("rico", RICO),
        ("PubLayNet", PUBLAYNET),
        (3, ("0", "1", "2")),
        ("3", ("0", "1", "2")),
        ([1, 2, "x"], ("1", "2", "x")),
        (["a"], ("a",)),
    ],
)
def test_names_and_numbers(given: Any, names: tuple[str, ...]) -> None:
    assert classes_of(given) == names


@pytest.mark.parametrize("given", [0, -1, 10**9, True, [], ["a", "a"], [1, "1"], [True, "no"], "papers"])
def test_classes_that_are_none(given: Any) -> None:
    with pytest.raises(GraftError):
        classes_of(given)


@pytest.mark.parametrize("kind", OWN)
def test_no_features_of_other_classes(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The network that ships knows five classes by their places: none of its features are of others."""
    made = module(OWN[kind])
    own = pages(made.names)
    made.dataset_statistics = {"histogram": torch.ones(21)} | reference_statistics.compute_statistics(own)
    assert not made.supports("features") and "real_moments" not in made.dataset_statistics
    assert set(made.distances()) == {"sliced_wasserstein"}
    found = made.metrics()
    assert "fid" not in found and {"w_class", "w_bbox", "alignment"} <= set(found)
    for metric in found.values():
        metric.update(own.layouts())
        assert torch.isfinite(torch.as_tensor(metric.compute()))
    with pytest.raises(GraftError, match=r"no feature network of layouts of the classes .* model\.features"):
        made.features([])
    made._report_features(), made._report_features()
    assert capsys.readouterr().out.count("the feature network that ships is of other classes") == 1


def test_features_of_the_shipped_classes(capsys: pytest.CaptureFixture[str]) -> None:
    made = module(None)
    made.dataset_statistics = {"histogram": torch.ones(21)} | reference_statistics.compute_statistics(pages(PUBLAYNET))
    assert made.supports("features") and set(made.distances()) == {"frechet"} and "fid" in made.metrics()
    assert made.features(pages(PUBLAYNET).layouts()).shape == (40, features.load_encoder().width)
    made._report_features()
    assert capsys.readouterr().out == ""


def feature_network(names: tuple[str, ...], path: str = "own.safetensors") -> str:
    torch.manual_seed(0)
    features.Encoder(names, 8, 1, 2).save(path, {})
    return path


def test_own_feature_network() -> None:
    names = classes_of(OWN["eleven"])
    path = feature_network(names)
    made = module(OWN["eleven"], features=path)
    own = pages(names)
    made.dataset_statistics = {"histogram": torch.ones(21)} | reference_statistics.compute_statistics(
        own, features.network_of(names, path)
    )
    assert made.supports("features") and made.features(own.layouts()).shape == (40, 8)
    torch.testing.assert_close(
        made.features(own.layouts()), features.layout_features(own.layouts(), features.load_encoder(path))
    )
    found = made.metrics()
    found["fid"].update(own.layouts())
    assert float(found["fid"].compute()) == pytest.approx(0, abs=1e-4)  # of the real layouts themselves
    assert "fid" not in reference_statistics.make_metrics(
        made.dataset_statistics, names, "layoutformer"
    )  # without the network


def test_moments_of_another_network(capsys: pytest.CaptureFixture[str]) -> None:
    """Real layouts that one network summarised are compared by no other one."""
    made = module(None, features=feature_network(PUBLAYNET))
    facts = reference_statistics.compute_statistics(pages(PUBLAYNET))
    for moments in (facts, {name: value for name, value in facts.items() if name != "real_network"}):
        made.dataset_statistics = {"histogram": torch.ones(21)} | moments
        assert (
            made.supports("features")
            and "fid" not in made.metrics()
            and "fid" in reference_statistics.make_metrics(moments, PUBLAYNET, "layoutdm")
        )
    made._report_features()
    assert "summarised by another feature network" in capsys.readouterr().out


def test_feature_network_that_is_none(folder: Path) -> None:
    feature_network(PUBLAYNET)
    with pytest.raises(GraftError, match=r"network of the classes text, title, .* but the model's are a, b"):
        module(["a", "b"], features="own.safetensors")
    with pytest.raises(GraftError, match=r"no file 'none\.safetensors'"):
        module(["a", "b"], features="none.safetensors")
    with pytest.raises(GraftError, match="holds no feature network of layouts"):
        module(None, features="domains/layouts/reference/publaynet.safetensors")


def test_labels_that_are_numbers() -> None:
    """Arrays have the place of the class among the names; COCO has its name."""
    boxes = np.tile([0.5, 0.5, 0.4, 0.4], (3, 2, 1))
    np.savez("a.npz", bbox=boxes, type=np.array([[0, 1], [2, 2], [1, 0]]), length=np.array([2, 1, 2]))
    assert read_layouts("a.npz", classes_of(3), 20).labels[:, :2].tolist() == [[0, 1], [2, 0], [1, 0]]
    assert layout(["10", "30"], [[0, 0, 1, 1]] * 2, classes_of([10, 20, 30])).labels.tolist() == [0, 2]
    categories = [{"id": i, "name": name} for i, name in enumerate((10, 20, 30))]
    annotations = [{"image_id": 1, "category_id": i, "bbox": [i, 0, 9, 9]} for i in range(3)]
    images = [{"id": 1, "width": 20, "height": 20}]
    Path("a.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    assert read_layouts("a.json", classes_of([30, 10, 20]), 20).labels[0, :3].tolist() == [1, 2, 0]


def run(*args: object) -> str:
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        assert cli.main([str(arg) for arg in args]) == 0, out.getvalue()
    return out.getvalue()


def test_a_whole_run_with_own_classes(folder: Path) -> None:
    """Pre-training, tuning with alarms and sampling: three classes, without features, then with an own network."""
    names = (1, 2, "footnote")
    own = pages(classes_of(names), 60)
    columns = [{"id": i, "name": name} for i, name in enumerate(names)]
    images = [{"id": i, "width": 100, "height": 100} for i in range(60)]
    annotations = [
        {"image_id": i, "category_id": int(label), "bbox": [100 * left, 100 * top, 100 * (r - left), 100 * (b - top)]}
        for i, item in enumerate(own.layouts())
        for label, (left, top, r, b) in zip(item.labels, item.boxes.tolist(), strict=True)
    ]
    Path("pages.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": columns}))
    field = {
        "class_path": "graft.process.Gaussian",
        "init_args": {"schedule": {"class_path": "graft.process.CosineSchedule"}},
    }
    fields = {
        name: {**field, "init_args": {**field["init_args"], **given, "warp": 2}}
        for name, given in {
            "box": {"prediction_type": "v", "shape": [20, 4]},
            "label": {"prediction_type": "logits", "shape": [20, 3], "one_hot_scale": 2.0},
        }.items()
    }
    for name, given in fields.items():
        project = {"class_path": "graft.process.MaskProjection", "init_args": {"key": f"free_{name}"}}
        given["init_args"]["projection"] = project
    network = {"class_path": "domains.layouts.backbone.LayoutTransformer", "init_args": {"classes": 3, "width": 16}}
    mixed = {"class_path": "graft.process.MultiFieldProcess", "init_args": {"fields": fields}}
    model = {"classes": list(names), "backbone": network, "process": mixed, "steps": 2}
    Path("own.yaml").write_text(yaml.safe_dump({"model": {"init_args": model}}))
    quiet = ["--config", "own.yaml", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
    data = ["--data.source", "pages.json", "--data.classes", json.dumps(names), "--data.batch_size", "16"]
    run("pretrain", "--config", "domains/layout_pretrain.yaml", *quiet, *data, "--run_dir", "reference")
    small = [
        *[
            "--data.draws",
            "24",
            "--data.batch_size",
            "24",
            "--data.train_batch_size",
            "8",
            "--data.steps_per_round",
            "2",
        ],
        *[
            "--data.evaluation.validation_draws",
            "24",
            "--data.evaluation.test_draws",
            "24",
            "--model.weights",
            "reference/reference.safetensors",
        ],
    ]
    train("net.safetensors", "pages.json", list(names), width=8, layers=2, heads=2, steps=4, batch_size=8)
    for folder_, more in (("plain", []), ("own", ["--model.features", "net.safetensors"])):
        message = run("fit", "--config", "domains/layout.yaml", *quiet, *small, *more, "--run_dir", folder_)
        assert message.count("the feature network that ships is of other classes") == (folder_ == "plain")
        text = (Path(folder_) / "metrics.csv").read_text()
        assert ("internal_diversity" in text) == ("feature_distance" in text) == (folder_ == "own")
        summary = json.loads((Path(folder_) / "summary.json").read_text())
        assert "fid" not in summary["tuned"] and np.isfinite(summary["tuned"]["w_class"])
