"""A field of pairs stays symmetric, with a diagonal and padding of zeros, in noise, steps and densities."""

import math

import pytest
import torch
from torch import Tensor

from graft.errors import GraftError
from graft.process import (
    Gaussian,
    LinearSchedule,
    MaskedCategorical,
    MaskProjection,
    PolynomialSchedule,
    SymmetricPairs,
    UniformCategorical,
    ZeroCenterOfMass,
)
from graft.sampler import Stage, run_stages

N, ORDERS = 5, 3
CONDITION = {"mask": (torch.arange(N) < torch.tensor([[5], [3], [1]])).double()}
PAIRS = torch.tensor([10, 3, 0])  # unordered pairs of each sample


def process(prediction: str = "x0", eta: float = 1.0) -> Gaussian:
    schedule = LinearSchedule() if prediction == "velocity" else PolynomialSchedule()
    return Gaussian(schedule, prediction, (N, N, ORDERS), eta, one_hot_scale=0.5**0.5, projection=SymmetricPairs())


def inside(x: Tensor) -> bool:
    """Exactly symmetric, zero on the diagonal and for padding, and not zero elsewhere."""
    mask = CONDITION["mask"].bool()
    pairs = mask[:, :, None] & mask[:, None] & ~torch.eye(N, dtype=torch.bool)
    return torch.equal(x, x.transpose(1, 2)) and not x[~pairs].any() and bool(x[pairs].all())


def above_diagonal(x: Tensor) -> Tensor:
    """Coordinates in an orthonormal basis of the subspace, zeros for padding."""
    first, second = torch.triu_indices(N, N, 1)
    return math.sqrt(2) * x[:, first, second].flatten(1)


def asymmetric(state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
    """A network that knows nothing of pairs."""
    return torch.linspace(-1, 1, state[0].numel(), dtype=state.dtype).reshape(state.shape[1:]) + state.sin()


def test_it_is_an_orthogonal_projection() -> None:
    project = SymmetricPairs()
    x, y = torch.randn(2, 3, N, N, ORDERS, dtype=torch.float64)
    once = project(x, CONDITION)
    assert inside(once) and torch.equal(project(once, CONDITION), once)
    assert torch.allclose((once * y).sum(), (x * project(y, CONDITION)).sum())  # self-adjoint
    assert torch.equal(project.dimension(x, CONDITION), (PAIRS * ORDERS).double())
    columns = torch.eye(N * N, dtype=torch.float64).reshape(N * N, N, N, 1)
    for row, pairs in enumerate(PAIRS.tolist()):  # the rank of the projection as a matrix is its dimension
        mask = {"mask": CONDITION["mask"][row].expand(N * N, N)}
        assert torch.linalg.matrix_rank(project(columns, mask).reshape(N * N, -1)) == pairs


@pytest.mark.parametrize("prediction", ["x0", "v", "velocity", "logits"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_noise_and_steps_stay_symmetric(prediction: str, eta: float) -> None:
    kind, generator = process(prediction, eta), torch.Generator().manual_seed(0)
    assert inside(kind.prior(CONDITION, generator))
    clean = kind.prior(CONDITION, generator)
    assert inside(kind.corrupt(clean, 0.6, 0.0, CONDITION, generator))
    found = run_stages([Stage(kind, asymmetric)], CONDITION, 6, record=(0.5,), generator=generator)
    assert inside(found.state) and all(inside(state) for state in found.states.values())


def test_noise_is_the_isotropic_gaussian_of_the_subspace() -> None:
    count = 4000
    condition = {"mask": torch.ones(count, N, dtype=torch.float64)}
    noise = process().noise(torch.zeros(count, N, N, ORDERS, dtype=torch.float64), condition, None)
    upper = above_diagonal(noise)
    covariance = upper.T @ upper / count
    assert (covariance - torch.eye(30, dtype=torch.float64)).abs().max() < 6 * math.sqrt(2 / count)


def test_density_counts_a_pair_once() -> None:
    """The log density is that of the entries above the diagonal, in the orthonormal basis."""
    kind, generator = process(), torch.Generator().manual_seed(1)
    state = kind.prior(CONDITION, generator)
    output = asymmetric(state, torch.zeros(3), CONDITION)
    mean, deviation = kind.transition(output, state, 0.7, 0.4, CONDITION)
    after = kind.denoise_step(output, state, 0.7, 0.4, CONDITION, generator)
    upper = above_diagonal(after - mean)
    each = torch.distributions.Normal(0.0, deviation).log_prob(upper)
    expected = torch.where(upper != 0, each, 0.0).sum(1)
    assert torch.allclose(kind.log_prob(output, state, after, 0.7, 0.4, CONDITION), expected)


@pytest.mark.parametrize("kind", [MaskedCategorical, UniformCategorical])
@pytest.mark.parametrize("projection", [SymmetricPairs(), ZeroCenterOfMass()])
def test_classes_are_not_averaged(kind: type, projection: SymmetricPairs | ZeroCenterOfMass) -> None:
    with pytest.raises(GraftError, match=r"it must be MaskProjection\. Give the process of a field of pairs each pair"):
        kind((N, N, ORDERS), projection=projection)
    kind((N * (N - 1) // 2, ORDERS), projection=MaskProjection("pairs"))
