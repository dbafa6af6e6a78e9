"""Metrics that are not finite, and metrics whose parts have slashes in their names, end in every file of a run."""

import json
from pathlib import Path

import pytest
from called import HALF, QUIET, REWARD, SMALL, done, run

DOMAIN = """
import math

import torch
from torchmetrics import MeanMetric

from domains.mixture import Mixture

class Unknown(MeanMetric):
    def update(self, items):
        super().update(0.0)

    def compute(self):
        return torch.tensor(math.nan)

class Kinds(MeanMetric):
    def update(self, items):
        super().update(float(len(items)))

    def compute(self):
        return {"a/b": super().compute(), "c": torch.tensor(math.inf)}

class Odd(Mixture):
    def metrics(self):
        return {"unknown": Unknown(), "kinds": Kinds()}
"""


@pytest.fixture
def odd(toy: Path) -> list[str]:
    """Arguments of a small fit of the toy domain with odd metrics."""
    (toy / "odd.py").write_text(DOMAIN)
    given = ["--config", "domains/mixture/mixture.yaml", "--model", "odd.Odd", *SMALL, *QUIET, *REWARD, *HALF]
    return [*given, "--model.weights", "run/reference.safetensors", "--trainer.max_epochs", "1"]


def test_files_of_a_run(odd: list[str]) -> None:
    tolerances = ["--data.evaluation.alarms.tolerances", "{unknown: 0.1, kinds: 0.1}"]
    out = done("fit", *odd, *tolerances).out
    assert "tolerances has 'kinds', 'unknown', which the reference has no number of: not monitored" in out
    assert out.count("not monitored") == 1
    summary = json.loads(Path("runs/mixture/1/summary.json").read_text())
    for side in (summary["reference"], summary["tuned"]):
        assert side["unknown"] is None and side["kinds"]["a/b"] > 0 and side["kinds"]["c"] is None
    weights = ["--weights", "runs/mixture/1", "--trust"]
    done("evaluate", *weights, "-n", 8, "--runs", 2, "--out", "metrics.json")
    found = json.loads(Path("metrics.json").read_text(), parse_constant=pytest.fail)
    assert found["unknown"] == {"mean": None, "interval": None, "runs": [None, None]}


def test_tolerances_of_what_the_run_does_not_have(odd: list[str]) -> None:
    def message(tolerances: str) -> str:
        return run("fit", *odd, "--data.evaluation.alarms.tolerances", tolerances).message

    assert "data.evaluation.alarms.tolerances.unknown is -1" in message("{unknown: -1}")
    assert "data.evaluation.alarms.tolerances has 'other'; it must be one of unknown, kinds" in message("{other: 1}")
    assert "has 'held_out', and there is no data.evaluation.held_out_reward" in message("{held_out: 1}")
    assert "has 'feature_distance', and Odd has no features" in message("{feature_distance: 0.1}")
    assert "data.evaluation.alarms.z is -1" in run("fit", *odd, "--data.evaluation.alarms.z", -1).message


def test_validate_without_draws(odd: list[str]) -> None:
    message = run("validate", *odd, "--data.evaluation.validation_draws", 0).message
    assert "data.evaluation.validation_draws is 0; it must be at least 1" in message
