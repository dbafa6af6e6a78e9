"""The error of a reference on its own samples: the estimate, its lower bound, and exact references with and without."""

import math
from unittest import mock

import pytest
import torch
from exact import Exact, f64, normal, rows
from line import line, table_of
from torch import Generator, Tensor

import graft.objectives.reference_error as module
from graft.core import seeding
from graft.core.datatypes import TrainingBatch
from graft.objectives.reference_error import LIMIT, ErrorRatio, compare_gradients, reference_error
from graft.process import Gaussian, LinearSchedule

STEPS = 8
PROCESS = Gaussian(LinearSchedule(), "x0", (2,))


def gradients(generator: Generator, error: float, batches: int = 16, width: int = 400) -> tuple[Tensor, Tensor]:
    """Gradients with unit noise, squared norms ``error`` and 4, and a mean square of 1 in each coordinate."""
    every = torch.randn(batches, width, generator=generator, dtype=torch.float64)
    selected = torch.randn(batches, width, generator=generator, dtype=torch.float64)
    return every + math.sqrt(error / width), selected + torch.eye(2, width, dtype=torch.float64)[0] * 2


@pytest.mark.parametrize("error", [0.0, 4.0, 400.0])
def test_lower_bound_holds(error: float) -> None:
    """In at least 0.95 of 600 trials: below 0.92 with a probability of less than 0.001."""
    generator = torch.Generator().manual_seed(0)
    found = [compare_gradients(*gradients(generator, error)) for _ in range(600)]
    # the scale of Adam differs between coordinates; its noise moves the ratio by less than a tenth
    right = error / 4 * 1.1
    held = sum(each.lower is not None and each.lower <= right for each in found) / len(found)
    assert held >= 0.92
    if error == 400:
        assert sum(each.is_large for each in found) / len(found) > 0.99


def test_squared_norm_is_unbiased() -> None:
    """Its mean over 2,000 trials: outside four standard errors with a probability of less than 0.0001."""
    generator = torch.Generator().manual_seed(1)
    mean = f64([1.0, -2.0, 0.5])
    values = f64(
        [
            module._squared_norm(mean + 3 * torch.randn(8, 3, generator=generator, dtype=torch.float64))[0]
            for _ in range(2000)
        ]
    )
    assert abs(float(values.mean()) - 5.25) < 4 * float(values.std()) / math.sqrt(2000)


def drawn_batch(seed: int, count: int = 512) -> TrainingBatch:
    """Samples of a normal distribution; the quarter with the largest first coordinate is accepted."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.randn(count, 2, generator=generator, dtype=torch.float64) * 0.7 + 1
    weight = (state[:, 0] >= state[:, 0].quantile(0.75)).double()
    return TrainingBatch(state, rows(count), weight)


def grid_levels(count: int, lowest: float, generator: Generator, highest: float = 1.0) -> Tensor:
    """Levels of the sampler's grid, the only ones that `line.Table` has parameters for."""
    return torch.randint(1, STEPS + 1, (count,), generator=generator).double() / STEPS


@pytest.mark.parametrize(("shift", "large"), [(0.0, 0), (0.02, 0), (1.0, 30)])
def test_exact_references(shift: float, large: int) -> None:
    """An exact denoiser of the samples, and one that is off by ``shift`` at every level, with 30 seeds each."""
    distribution = normal(f64([1.0, 1.0]), 0.49 * torch.eye(2, dtype=torch.float64))
    table = table_of(PROCESS, STEPS, Exact(PROCESS, distribution))
    table[1:, :, -1] += shift
    policy = line(PROCESS, STEPS, table).policy
    with mock.patch.object(seeding, "stratified_levels", grid_levels):
        found = [reference_error(policy, drawn_batch(seed), seed) for seed in range(30)]
    assert all(each is not None for each in found)
    assert sum(each.is_large for each in found if each is not None) == large
    if shift == 1:  # the shift is larger than what the selection says
        assert all(each is not None and each.ratio is not None and each.ratio > 1 for each in found)
    assert all(parameter.grad is None for parameter in policy.backbone.parameters())


def test_few_samples_and_large_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few samples give no estimate; a random part of the parameters gives about the same one."""
    distribution = normal(f64([1.0, 1.0]), 0.49 * torch.eye(2, dtype=torch.float64))
    table = table_of(PROCESS, STEPS, Exact(PROCESS, distribution)) + 1
    policy = line(PROCESS, STEPS, table).policy
    assert reference_error(policy, drawn_batch(0, 31), 0) is None
    with mock.patch.object(seeding, "stratified_levels", grid_levels):
        whole = reference_error(policy, drawn_batch(0), 0)
        monkeypatch.setattr(module, "COORDINATES", 30)
        part = reference_error(policy, drawn_batch(0), 0)
    assert whole is not None and part is not None and whole.is_large and part.is_large and whole != part
    assert LIMIT > 0


def test_not_finite() -> None:
    """Gradients that are not finite give no figure: the training itself raises."""
    table = table_of(PROCESS, STEPS, Exact(PROCESS, normal(f64([1.0, 1.0]), torch.eye(2, dtype=torch.float64))))
    policy = line(PROCESS, STEPS, table * math.inf).policy
    with mock.patch.object(seeding, "stratified_levels", grid_levels):
        assert reference_error(policy, drawn_batch(0), 0) is None


@pytest.mark.parametrize(
    ("ratio", "lower", "text", "large"),
    [
        (1.8, 0.68, "1.8 (95 % lower bound 0.68)", True),
        (0.05, 0.0, "0.05 (95 % lower bound 0)", False),
        (None, 0.0, "unknown (95 % lower bound 0)", False),
        (None, None, "not bounded, because the selection's gradient is too small to measure", True),
    ],
)
def test_text(ratio: "float | None", lower: "float | None", text: str, large: bool) -> None:
    found = ErrorRatio(ratio, lower)
    assert str(found) == text and found.is_large == large
