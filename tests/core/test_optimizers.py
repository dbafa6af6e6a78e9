"""Learning-rate schedules that need the number of steps of a run."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from graft.optimizers import FusedAdamW, WarmupCosine, configure_optimizers


@pytest.mark.parametrize(("max_steps", "steps"), [(-1, 40), (30, 30), (50, 40)])
@pytest.mark.parametrize("in_rounds", [True, False], ids=["rounds", "data"])
def test_the_cosine_ends_with_the_run(max_steps: int, steps: int, in_rounds: bool) -> None:
    trainer = SimpleNamespace(
        precision="32-true",
        max_epochs=4,
        max_steps=max_steps,
        datamodule=SimpleNamespace(steps_per_epoch=10) if in_rounds else None,
        estimated_stepping_batches=steps,
    )
    parameters = [nn.Parameter(torch.zeros(1))]
    made: Any = configure_optimizers(trainer, parameters, FusedAdamW, WarmupCosine)
    schedule = made["lr_scheduler"]["scheduler"]
    assert schedule.total_steps == steps
    assert schedule.factor(steps) == pytest.approx(0, abs=1e-6) and schedule.factor(steps // 2) == pytest.approx(0.5)
