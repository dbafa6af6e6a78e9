"""Fixed parts stay fixed: conditions of the tasks, the network's symmetry, partial layouts."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from domains.layouts import partial_layout
from domains.layouts.backbone import LayoutTransformer
from domains.layouts.conditioning import SPREAD, TASKS, Task, make_condition, to_boxes, to_state
from domains.layouts.data import LayoutData, batch
from domains.layouts.layout import PUBLAYNET
from domains.layouts.module import Layouts
from domains.layouts.readers import read_layouts
from graft.errors import GraftError
from graft.process import CosineSchedule, Gaussian, MaskProjection, MultiFieldProcess


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def process() -> MultiFieldProcess:
    shape = [20, 4], [20, 5]
    box = Gaussian(CosineSchedule(), "v", shape[0], projection=MaskProjection("free_box"))
    return MultiFieldProcess(
        {"box": box, "label": Gaussian(CosineSchedule(), "logits", shape[1], projection=MaskProjection("free_label"))}
    )


def module(**settings: object) -> Layouts:
    torch.manual_seed(0)
    network = LayoutTransformer(5, 16, 2, 2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    made = Layouts(network, process(), steps=4, **settings)
    made.dataset_statistics = {"histogram": torch.ones(21).index_fill(0, torch.tensor([0]), 0)}
    return made.eval()


@pytest.fixture(scope="module")
def pages():
    return read_layouts("generated", PUBLAYNET, 20, 200)


def test_coordinates_there_and_back() -> None:
    boxes = torch.rand(50, 4, generator=generator())
    torch.testing.assert_close(to_boxes(to_state(boxes)), boxes)


def test_an_unknown_task_is_refused(pages) -> None:
    with pytest.raises(GraftError, match="'labels' is no task"):
        batch(pages, "labels", generator())
    with pytest.raises(GraftError, match=r"data\.tasks has labels"):
        LayoutData(tasks={"labels": 1.0})


@pytest.mark.parametrize(("setting", "value"), [("elements", 0), ("count", 0), ("limit", 1)])
def test_settings_out_of_their_ranges(setting: str, value: int) -> None:
    with pytest.raises(GraftError, match=f"data.{setting} is {value}"):
        LayoutData(**{setting: value})


@pytest.mark.parametrize("task", TASKS)
def test_condition_and_state_are_the_layout(task: Task, pages) -> None:
    made = module()
    data = batch(pages, task, generator())
    state, condition = made.encode(data)
    free = {"box": condition["free_box"], "label": condition["free_label"]}
    mask = condition["mask"]
    assert not (state["box"] * (1 - free["box"])).any() and not (state["label"] * (1 - free["label"][..., None])).any()
    items = made.decode(state, condition)
    for item, wanted in zip(items, pages.layouts(), strict=True):
        assert np.array_equal(item.labels, wanted.labels)
        np.testing.assert_allclose(item.boxes, wanted.boxes, atol=1e-5)
    share = {
        name: float(
            (field * (mask[..., None] if name == "box" else mask)).sum() / (mask.sum() * (4 if name == "box" else 1))
        )
        for name, field in free.items()
    }
    if task == "completion":
        given = mask.sum(1) - free["label"].sum(1)
        assert (given[mask.sum(1) > 1] >= 1).all() and (free["label"].sum(1) >= 1).all()
        assert share["box"] == pytest.approx(share["label"])
        assert all(item.given.sum() == n for item, n in zip(items, given.tolist(), strict=True))
    else:
        assert (
            share
            == {
                "unconditional": {"box": 1, "label": 1},
                "label": {"box": 1, "label": 0},
                "size": {"box": 0.5, "label": 0},
                "refinement": {"box": 1, "label": 0},
            }[task]
        )
    if task == "refinement":
        noise = (condition["box"] - data["box"])[mask > 0] * torch.tensor(SPREAD)
        count = noise.numel()
        assert abs(float(noise.std()) - 0.1) < 5 * 0.1 / math.sqrt(2 * count)  # five standard errors


@pytest.mark.parametrize("task", TASKS)
def test_network_is_permutation_equivariant_and_blind_to_padding(task: Task, pages) -> None:
    made = module()
    state, condition = made.encode(batch(pages.take(np.arange(24)), task, generator()))
    time = torch.linspace(0.05, 1, 24)
    state = {
        name: field + made.policy.process.fields[name].noise(field, condition, generator())
        for name, field in state.items()
    }
    out = made.policy.backbone(state, time, condition)
    order = torch.stack(
        [
            torch.cat([torch.randperm(n, generator=generator(n)), torch.arange(n, 20)])
            for n in condition["mask"].sum(1).int().tolist()
        ]
    )

    def moved(field: torch.Tensor) -> torch.Tensor:
        return field if field.ndim == 1 else torch.stack([row[to] for row, to in zip(field, order, strict=True)])

    permuted = made.policy.backbone(
        {k: moved(v) for k, v in state.items()}, time, {k: moved(v) for k, v in condition.items()}
    )
    alone = made.policy.backbone(
        {k: v[3:4] for k, v in state.items()}, time[3:4], {k: v[3:4] for k, v in condition.items()}
    )
    for name, field in out.items():
        assert not (field * (1 - condition["mask"])[..., None]).any()
        torch.testing.assert_close(permuted[name], moved(field), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(alone[name], field[3:4], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_draws_keep_what_is_given(task: Task) -> None:
    from graft.sampler import Stage, run_stages

    made = module(task=task)
    condition = made.sample_conditions(16, generator())
    again = made.sample_conditions(16, generator())
    assert all(torch.equal(condition[name], again[name]) for name in condition)
    drawn = run_stages([Stage(made.policy.process, made.policy.backbone)], condition, 4, generator=generator()).state
    items = made.decode(drawn, condition)
    for i, item in enumerate(items):
        n = len(item)
        fixed = condition["free_label"][i, :n] == 0
        assert np.array_equal(item.labels[fixed], condition["label"][i, :n].argmax(-1)[fixed])
        whole = condition["free_box"][i, :n].sum(-1) == 0
        np.testing.assert_allclose(item.boxes[whole], to_boxes(condition["box"][i, :n])[whole], atol=1e-5)


PARTS = {
    "page": [612, 792],
    "elements": [
        {"class": "Figure", "box": [61.2, 79.2, 122.4, 79.2]},
        {"class": "title"},
        {"class": "table", "box": [None, None, 306, 198]},
        {},
    ],
}


def test_brief(tmp_path: Path) -> None:
    path = tmp_path / "brief.json"
    path.write_text(json.dumps(PARTS))
    made = module(brief=str(path))
    condition = made.sample_conditions(3, generator())
    assert condition["free_box"][0, :5].tolist() == [[0] * 4, [1] * 4, [1, 1, 0, 0], [1] * 4, [0] * 4]
    assert condition["free_label"][2, :5].tolist() == [0, 0, 0, 1, 0]
    state = {name: p.prior(condition, generator()) for name, p in made.policy.process.fields.items()}
    for item in made.decode(state, condition):
        assert item.page == (612, 792) and item.given.tolist() == [True, False, False, False]
        assert item.classes[:3] == ["figure", "title", "table"]
        np.testing.assert_allclose(item.boxes[0], [0.1, 0.1, 0.3, 0.2], atol=1e-6)
        np.testing.assert_allclose([item.widths[2], item.heights[2]], [0.5, 0.25], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "no brief"),
        ({"elements": []}, "no brief"),
        ({"elements": [{}] * 21}, "at most 20"),
        ({"elements": [{}], "page": [0, 1]}, "page is"),
        ({"elements": [{"class": "logo"}]}, "unknown class 'logo'; there are text"),
        ({"elements": [{"klass": "text"}]}, "no 'klass'"),
        ({"elements": ["text"]}, "element 1"),
        ({"elements": [{"box": [0, 0, 1]}]}, "left, top, width, height"),
        ({"elements": [{"box": [0.1, None, None, None]}]}, "a place needs a size"),
        ({"elements": [{"box": [0.5, 0, 0.6, 0.1]}]}, "outside the page"),
        ({"elements": [{"box": [0, 0, 0, 0.1]}]}, "no area"),
        ({"elements": [{"class": "text", "box": [0, 0, 1, 0.1]}]}, "nothing to generate"),
    ],
)
def test_bad_brief_is_one_sentence(content: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / "brief.json"
    path.write_text(json.dumps(content))
    with pytest.raises(GraftError, match=words):
        partial_layout.read_partial_layout(path, PUBLAYNET, 20)


def test_given_is_neither_noised_nor_lost(pages) -> None:
    made = module()
    state, condition = made.encode(batch(pages.take(np.arange(8)), "size", generator()))
    noisy = made.policy.process.corrupt(state, 0.7, condition=condition, generator=generator())
    assert not noisy["label"].any() and not noisy["box"][..., 2:].any()
    full = make_condition(
        "unconditional", torch.zeros(1, 20, 4), torch.zeros(1, 20, dtype=torch.long), torch.ones(1, 20), 5
    )
    assert (
        made.policy.process.fields["box"].projection.dimension(noisy["box"], condition).tolist()
        == (2 * condition["mask"].sum(1)).tolist()
    )
    assert made.policy.process.fields["label"].projection.dimension(torch.zeros(1, 20, 5), full).tolist() == [100]
