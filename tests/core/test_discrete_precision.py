"""Losses and posteriors of discrete fields in single precision, against 60 digits, at both ends of the clock."""

import itertools
from typing import Any

import pytest
import torch
from exact import f64
from mpmath import mp, mpf
from torch import Tensor

from graft.core import seeding
from graft.core.interval import Interval
from graft.process import Categorical, MaskedCategorical, MaskProjection, NoisyExample, UniformCategorical

mp.dps = 60
KINDS = [MaskedCategorical, UniformCategorical]
DISTANCES = [10.0**-k for k in (1, 3, 6, 9, 12)]  # of a level from ``from_level``, or from 1


def numbers(process: Categorical, level: float, from_level: float) -> tuple[Any, Any]:
    """(r, 1 − r), the probabilities to have kept a class from ``from_level`` to ``level``, by the definition."""
    now, before = 1 - mpf(level) ** mpf(process.warp), 1 - mpf(from_level) ** mpf(process.warp)
    return (now / before, 1 - now / before) if before else (mpf(1), mpf(0))


def transitions(process: Categorical, level: float, from_level: float) -> list[list[Any]]:
    """q(column at ``level`` | row at ``from_level``); the last state of a masked process is the mask."""
    classes = process.shape[-1]
    r, gone = numbers(process, level, from_level)
    if isinstance(process, UniformCategorical):
        return [[r * (i == j) + gone / classes for j in range(classes)] for i in range(classes)]
    size = classes + 1
    return [
        [r * (i == j) + gone * (j == classes) if i < classes else mpf(j == classes) for j in range(size)]
        for i in range(size)
    ]


def right_posterior(process: Categorical, chance: list[Any], at: int, level: float, following: float) -> list[Any]:
    """P(state at ``following`` | state ``at`` at ``level``) by Bayes' rule, averaged over the x_0 that are possible."""
    since0, step, whole = (transitions(process, *pair) for pair in ((following, 0.0), (level, following), (level, 0.0)))
    usable = [(i, p) for i, p in enumerate(chance) if p and whole[i][at]]
    total = sum(p for _, p in usable)
    return [sum(p * since0[i][k] * step[k][at] / whole[i][at] for i, p in usable) / total for k in range(len(step))]


def right_bound(process: Categorical, chance: list[Any], at: int, goal: int, level: float, from_level: float) -> Any:
    """The rate of the bound in nats per unit of u, by the formulas of the modules' docstrings."""
    warp, classes = mpf(process.warp), process.shape[-1]
    u, s = mpf(level), mpf(from_level)
    speed = warp * u ** (warp - 1)
    if isinstance(process, MaskedCategorical):
        if at < classes or goal == classes:
            return mpf(0)
        return -speed / (u**warp - s**warp) * mp.log(chance[goal])

    def ratios(weights: list[Any], r: Any) -> list[Any]:
        q = [[r * (i == j) + (1 - r) / classes for j in range(classes)] for i in range(classes)]
        return [sum(w * q[i][k] / q[i][at] for i, w in enumerate(weights)) for k in range(classes)]

    g = ratios(chance, 1 - u**warp)
    f = ratios([mpf(i == goal) for i in range(classes)], numbers(process, level, from_level)[0])
    if u == 1:
        return mpf(0)  # its limit
    rate = speed / (1 - u**warp) / classes
    return rate * sum(f[k] * mp.log(f[k] / g[k]) - f[k] + g[k] for k in range(classes) if k != at)


def rows_of(process: Categorical, places: list[int], dtype: torch.dtype) -> Tensor:
    """(B, 1, K) one-hots; the class K is the mask."""
    classes = process.shape[-1]
    return torch.eye(classes + 1, dtype=dtype)[places, :classes][:, None]


def cases(process: Categorical, level: float, from_level: float) -> list[tuple[int, int]]:
    """(state at the level, state at from_level) that can be: kept, changed or masked, and the unlikely class."""
    if isinstance(process, MaskedCategorical):
        mask = process.shape[-1]
        kept = [(0, 0)] if level < 1 else []
        return [*kept, (mask, 0), (mask, 1), *([(mask, mask)] if from_level > 0 else [])]
    return [(0, 0), (0, 1), (1, 0), (2, 1), (1, 1)]


def logits(process: Categorical, dtype: torch.dtype) -> tuple[Tensor, list[Any]]:
    """Return the output of a network for one position, and the probabilities that it encodes."""
    out = torch.linspace(2, -6, process.shape[-1]).to(dtype)
    weights = [mp.exp(mpf(v)) for v in out.double().tolist()]
    return out, [w / sum(weights) for w in weights]


def close(found: Tensor, wanted: list[Any], relative: float) -> None:
    for value, right in zip(found.double().flatten().tolist(), wanted, strict=True):
        assert abs(mpf(value) - right) <= relative * abs(right) + mpf("1e-13"), (value, mp.nstr(right, 12))


PLACES = [
    *[(from_level + d, from_level) for from_level, d in itertools.product((0.0, 0.25), DISTANCES)],
    *[(1 - d, from_level) for from_level, d in itertools.product((0.0, 0.25), DISTANCES[2:])],
    (1.0, 0.0),
    (1.0, 0.5),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classes", [3, 20])
@pytest.mark.parametrize("warp", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_posterior(kind: type[Categorical], warp: float, classes: int, dtype: torch.dtype) -> None:
    process = kind((1, classes), warp=warp)
    out, chance = logits(process, dtype)
    for level, following in PLACES if classes == 3 else PLACES[::5]:
        at = sorted({place for place, _ in cases(process, level, following)})
        found = process.posterior(
            process.x0_probabilities(out.expand(len(at), 1, -1)), rows_of(process, at, dtype), level, following
        )
        assert bool(found.isfinite().all()) and bool((found >= 0).all())
        for i, place in enumerate(at):
            close(found[i], right_posterior(process, chance, place, level, following)[:classes], 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weight", ["elbo", "equal"])
@pytest.mark.parametrize(("classes", "warp"), [(3, 1.0), (3, 0.5), (20, 1.0), (20, 2.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_loss(kind: type[Categorical], classes: int, warp: float, weight: Any, dtype: torch.dtype) -> None:
    """Return the loss at ``from_level``, from 1e-12 above it to level 1, with a finite gradient."""
    process = kind((1, classes), warp=warp, weight=weight)
    out, chance = logits(process, dtype)
    for level, from_level in PLACES if classes == 3 else PLACES[::4]:
        pairs = cases(process, level, from_level)
        noisy, goal = (rows_of(process, list(places), dtype) for places in zip(*pairs, strict=True))
        output = out.expand(len(pairs), 1, -1).clone().requires_grad_()
        u, s = (torch.full((len(pairs),), v, dtype=torch.float64) for v in (level, from_level))
        loss = process.output_loss(output, NoisyExample(noisy, goal, noisy, u, s), {})
        assert loss.dtype == torch.float32
        (slope,) = torch.autograd.grad(loss.sum(), output)
        assert bool(slope.isfinite().all())
        wanted = []
        for at, to in pairs:
            if weight == "elbo":
                wanted.append(right_bound(process, chance, at, to, level, from_level))
            else:
                wanted.append(-mp.log(right_posterior(process, chance, at, level, from_level)[to]))
        close(loss.detach(), wanted, 1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warp", [1.0, 2.0])
def test_few_positions_are_lost_in_a_short_time(kind: type[Categorical], warp: float) -> None:
    """The share is 1 − r, on the grid of uniform numbers of double precision, for states in any precision."""
    process = kind((1, 4), warp=warp)
    count = 1 << 12
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.eye(4, dtype=dtype)[[0]].expand(count, -1)[:, None]
        for level, from_level in (
            (1e-4, 0.0),
            (1e-6, 0.0),
            (0.3 + 1e-9, 0.3),
            (0.3 + 1e-12, 0.3),
            (0.25, 0.25),
            (0.0, 0.0),
        ):
            chance = float(numbers(process, level, from_level)[1])
            # numbers that lie evenly in a range at the upper end of [0, 1) of which a quarter should be lost
            width = max(4 * chance, 2.0**-40)
            z = 1 - (torch.arange(count, dtype=torch.float64) + 0.5) / count * width
            y = process.corrupt_given_noise(x, z[:, None, None], level, from_level)
            assert y.dtype == dtype
            lost = (y != x).flatten(1).any(1).double().mean() * width
            changed = chance if kind is MaskedCategorical else chance * 3 / 4
            assert float(lost) == pytest.approx(changed, rel=0.02, abs=1e-16)


@pytest.mark.parametrize("weight", ["elbo", "equal"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("from_level", [0.0, 0.25])
def test_training_is_finite(kind: type[Categorical], from_level: float, weight: Any) -> None:
    """Forty steps of single precision at warp 2 with 100 classes, most levels close above ``from_level``."""
    process = kind((6, 100), warp=2.0, weight=weight, projection=MaskProjection())
    generator = torch.Generator().manual_seed(0)
    table = torch.nn.Parameter(0.1 * torch.randn(101, 100, generator=generator))
    condition = {"mask": (torch.arange(6) < 5).float().expand(32, -1)}
    distribution = torch.randint(100, (32, 6), generator=generator)
    for _ in range(40):
        level = from_level + (1 - from_level) * 10 ** (
            -12 * torch.rand(32, dtype=torch.float64, generator=generator) ** 0.5
        )
        clean = torch.nn.functional.one_hot(distribution, 100).float() * condition["mask"][..., None]
        state = process.corrupt(clean, from_level, 0.0, condition, generator)

        def model(x: Tensor, time: Tensor, condition: Any, table: Tensor = table) -> Tensor:
            return table[torch.where(x.sum(-1) > 0, x.argmax(-1), 100)]

        loss = process.loss(model, state, level, from_level, condition, None, generator)
        assert bool(loss.isfinite().all())
        (slope,) = torch.autograd.grad(loss.mean(), table)
        assert bool(slope.isfinite().all())
        with torch.no_grad():
            table -= 0.1 * slope / (1 + slope.norm())


@pytest.mark.parametrize("kind", KINDS)
def test_classes_may_be_ruled_out(kind: type[Categorical]) -> None:
    """A network that returns −inf for a class that the state does not have."""
    for weight in ("elbo", "equal"):
        process = kind((2, 3), weight=weight)  # type: ignore[arg-type]
        x = torch.eye(3)[torch.tensor([[0, 1], [1, 0]])]
        noisy = torch.zeros_like(x) if kind is MaskedCategorical else x.flip(1)
        output = torch.tensor([0.3, -0.2, -torch.inf]).expand(2, 2, 3).clone().requires_grad_()
        level, zero = f64([0.4, 0.9]), f64([0.0, 0.0])
        loss = process.output_loss(output, NoisyExample(noisy, x, noisy, level, zero), {})
        (slope,) = torch.autograd.grad(loss.sum(), output)
        assert bool(loss.isfinite().all()) and bool(slope.isfinite().all())


def test_levels_stay_above_the_lowest() -> None:
    """However wide their density: the kernel from a level to itself has no noise to learn from."""
    for lowest, spread in ((0.0, 50.0), (0.25, 8.0), (0.7, 200.0)):
        even = seeding.stratified_levels(4096, Interval(low=lowest), torch.Generator().manual_seed(0))
        level = seeding.logit_normal(even, Interval(low=lowest), 0.0, spread)
        assert bool((level > lowest).all()) and bool((level <= 1).all())
