"""Methods that solve x = g(x): what they find, for which samples, and at what price."""

import pytest
import torch
from exact import f64
from torch import Tensor
from torch.autograd import forward_ad

from graft.core.state import State
from graft.errors import GraftError
from graft.solvers.fixed_point import Anderson, FixedPointSolver, Newton
from graft.solvers.fixed_point.newton import gmres

METHODS: dict[str, FixedPointSolver] = {"fixed point": Anderson(memory=1), "anderson": Anderson(), "newton": Newton()}
each = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def matrices(norm: float, count: int = 12, size: int = 5) -> Tensor:
    """Matrices of a spectral norm."""
    a = torch.randn(count, size, size, dtype=torch.float64, generator=seeded())
    return norm * a / torch.linalg.matrix_norm(a, 2)[:, None, None]


def affine(a: Tensor, b: Tensor):
    def function(x: State, rows: Tensor) -> State:
        assert isinstance(x, Tensor)
        return (a[rows] @ x[..., None])[..., 0] + b[rows]

    return function


@each
def test_contraction(method: FixedPointSolver) -> None:
    a, b = matrices(0.6), torch.randn(12, 5, dtype=torch.float64, generator=seeded(1))
    exact = torch.linalg.solve(torch.eye(5).double() - a, b)
    found = method(affine(a, b), torch.zeros_like(b))
    assert found.solved.all() and torch.allclose(found.state, exact, atol=1e-11)
    assert (found.residual < 1e-13 * 100).all()


def test_expansion() -> None:
    """Norm 3: plain iteration reports divergence for each sample; Newton needs as many products as dimensions."""
    a, b = -matrices(3.0), torch.randn(12, 5, dtype=torch.float64, generator=seeded(1))
    exact = torch.linalg.solve(torch.eye(5).double() - a, b)
    newton = Newton(forcing=1e-12)(affine(a, b), torch.zeros_like(b))
    assert newton.solved.all() and torch.allclose(newton.state, exact, atol=1e-9)
    assert newton.calls.max() <= 2 * (2 * 5 + 2)  # a product is two evaluations
    assert Anderson()(affine(a, b), torch.zeros_like(b)).solved.all()
    plain = Anderson(memory=1)(affine(a, b), torch.zeros_like(b))
    right = (plain.state - exact).abs().amax(1) < 1e-9
    assert torch.equal(plain.solved, right) and not right.all()


def parabola(x: State, rows: Tensor) -> State:
    """X = c − x² / 2 has a solution for c >= −1/2 only."""
    assert isinstance(x, Tensor)
    return C[rows] - x**2 / 2


C = f64([[0.1], [-3.0], [0.7], [-0.6], [1.0]])


@each
def test_samples_have_outcomes_of_their_own(method: FixedPointSolver) -> None:
    """A sample without a solution is marked, and the others have the result and the cost of a solution alone."""
    together = method(parabola, torch.zeros(5, 1, dtype=torch.float64))
    assert together.solved.tolist() == [True, False, True, False, True]
    roots = (1 + 2 * C).sqrt() - 1
    assert torch.allclose(together.state[together.solved], roots[together.solved], atol=1e-12)
    assert (together.residual[~together.solved] > 1e-3).all() and together.state.isfinite().all()
    for row in (0, 2, 4):
        alone = method(lambda x, rows, row=row: parabola(x, rows + row), torch.zeros(1, 1, dtype=torch.float64))
        assert torch.allclose(alone.state[0], together.state[row], atol=1e-13)
        assert alone.calls[0] == together.calls[row]


@each
def test_solved_samples_are_not_computed_any_more(method: FixedPointSolver) -> None:
    seen: list[int] = []

    def function(x: State, rows: Tensor) -> State:
        assert isinstance(x, Tensor)
        tangent = forward_ad.unpack_dual(x).tangent
        seen.append(len(rows) * (1 if tangent is None else 2))
        return parabola(x, rows)

    found = method(function, torch.zeros(5, 1, dtype=torch.float64))
    assert sum(seen) == int(found.calls.sum())
    assert seen[-1] <= 2


@each
def test_dict_state(method: FixedPointSolver) -> None:
    def function(x: State, rows: Tensor) -> State:
        assert isinstance(x, dict)
        return {
            "a": 0.5 * torch.cos(x["b"].sum((1, 2)))[:, None] + 0 * x["a"],
            "b": 0.3 * torch.sin(x["b"] + x["a"][:, :, None]),
        }

    start = {"a": torch.ones(3, 1, dtype=torch.float64), "b": torch.ones(3, 2, 2, dtype=torch.float64)}
    found = method(function, start)
    again = function(found.state, torch.arange(3))
    assert found.solved.all()
    assert isinstance(found.state, dict) and isinstance(again, dict)
    assert all((again[name] - field).abs().max() < 1e-12 for name, field in found.state.items())


@each
def test_broken_samples_cost_themselves_only(method: FixedPointSolver) -> None:
    """NaN from the first guess on, or beyond some place."""

    def function(x: State, rows: Tensor) -> State:
        assert isinstance(x, Tensor)
        y = 0.5 * torch.cos(x)
        y = torch.where((rows == 1)[:, None], torch.full_like(y, torch.nan), y)
        return torch.where((rows == 2)[:, None], x.exp().exp() + 5, y)

    found = method(function, torch.zeros(4, 2, dtype=torch.float64))
    assert found.solved.tolist() == [True, False, False, True]
    assert found.state.isfinite().all()


def test_newton_without_forward_derivatives() -> None:
    """A network without derivatives has differences instead, after one attempt that is counted."""
    seen: list[int] = []

    class Opaque(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            seen.append(len(x))
            return 2 - x**3

        @staticmethod
        def setup_context(ctx, inputs, output) -> None:
            pass

    found = Newton()(lambda x, rows: Opaque.apply(x), torch.full((3, 1), 0.4, dtype=torch.float64))
    assert found.solved.all() and torch.allclose(found.state, torch.ones(3, 1).double(), atol=1e-9)
    assert sum(seen) <= int(found.calls.sum()) <= sum(seen) + 2 * 3


def test_gmres_is_exact_in_the_whole_space() -> None:
    a = torch.randn(7, 4, 4, dtype=torch.float64, generator=seeded()) + 2 * torch.eye(4).double()
    b = torch.randn(7, 4, dtype=torch.float64, generator=seeded(1))
    found = gmres(lambda v: (a @ v[..., None])[..., 0], b, 10, 0.0)
    assert torch.allclose(found, torch.linalg.solve(a, b), atol=1e-8)


@each
def test_float32(method: FixedPointSolver) -> None:
    a, b = matrices(0.5).float(), torch.ones(12, 5)
    found = method(affine(a, b), torch.zeros(12, 5))
    assert found.solved.all() and found.state.dtype == torch.float32


def test_refusals() -> None:
    with pytest.raises(GraftError, match="at least 1"):
        Anderson(iterations=0)
