"""Distributions known in closed form, and the exact denoiser of each in place of a network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from unittest import mock

import torch
from torch import Tensor

from graft.core.state import Condition, State
from graft.process import BetaSchedule, Gaussian, Model, Process
from graft.process.arguments import Level
from graft.solvers import BoundModel, Euler

SNAP = 36_000  # networks receive float32 times; the levels of these tests are multiples of 1/36000


def f64(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rows(count: int) -> dict[str, Tensor]:
    """Return a condition that has the number and the dtype of the samples only."""
    return {"weight": torch.ones(count, dtype=torch.float64)}


@dataclass
class Mixture:
    """Gaussian mixture: weights (k,), means (k, d), covariances (k, d, d), which may be 0: points."""

    weights: Tensor
    means: Tensor
    covs: Tensor

    def moments(self) -> tuple[Tensor, Tensor]:
        mean = self.weights @ self.means
        gap = self.means - mean
        return mean, torch.einsum("k,kij->ij", self.weights, self.covs + gap[:, :, None] * gap[:, None, :])

    def noised(self, alpha: float, sigma: float) -> "Mixture":
        """The distribution of alpha x + sigma noise."""
        eye = torch.eye(self.means.shape[1], dtype=torch.float64)
        return Mixture(self.weights, alpha * self.means, alpha**2 * self.covs + sigma**2 * eye)

    def at(self, process: Gaussian, level: float) -> "Mixture":
        alpha, sigma = process.alpha_sigma(level)
        return self.noised(float(alpha), float(sigma))

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        kind = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, self.means.shape[1], 1, dtype=torch.float64, generator=generator)
        return self.means[kind] + (root(self.covs)[kind] @ noise)[..., 0]

    def cdf(self, x: Tensor) -> Tensor:
        """Return the distribution function of the first coordinate."""
        spread = self.covs[:, 0, 0].sqrt()
        return (self.weights * torch.special.ndtr((x[:, None] - self.means[:, 0]) / spread)).sum(1)

    @cached_property
    def axes(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (k, d) and eigenvectors (k, d, d) of the covariances."""
        size, axes = torch.linalg.eigh(self.covs)
        return size, axes

    def posterior(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(log P(component | x), E[x_0 | x]) for x = alpha x_0 + sigma noise; x (B, d), alpha and sigma (B,)."""
        size, axes = self.axes
        alpha, sigma = alpha[:, None, None], sigma[:, None, None]
        gap = ((x[:, None] - alpha * self.means)[:, :, None] @ axes)[:, :, 0]  # (B, k, d); einsum is slower
        variance = alpha**2 * size + sigma**2  # (B, k, d)
        log_p = self.weights.log() - 0.5 * (gap**2 / variance + variance.log()).sum(-1)
        log_p = log_p.log_softmax(1)
        each = self.means + ((alpha * size / variance * gap)[:, :, None] @ axes.mT)[:, :, 0]
        return log_p, (log_p.exp()[..., None] * each).sum(1)


def normal(mean: Tensor, cov: Tensor) -> Mixture:
    return Mixture(f64([1.0]), mean[None], cov[None])


def root(cov: Tensor) -> Tensor:
    """The symmetric square root."""
    size, axes = torch.linalg.eigh(cov)
    return axes @ torch.diag_embed(size.clamp(min=0).sqrt()) @ axes.mT


def level_of(process: Gaussian, time: Tensor, snap: int = SNAP) -> Tensor:
    """Return the level of a network's ``time``."""
    t = time.double()
    if isinstance(process.schedule, BetaSchedule):
        t = (t + 1) / process.schedule.num_train_timesteps
    return (t.clamp(0, 1) ** (1 / process.warp) * snap).round() / snap


def say(prediction: str, x: Tensor, x0: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return the output of a network of that parametrisation with E[x_0 | x] = x0."""
    if prediction == "x0":
        return x0
    eps = torch.where(
        sigma > 0, (x - alpha * x0) / sigma.clamp(min=1e-300), 0.0
    )  # of a smooth distribution, in the limit
    return {"eps": eps, "v": alpha * eps - sigma * x0, "velocity": eps - x0}[prediction]


class Exact:
    """The network that is right about ``distribution``, in the process's parametrisation."""

    def __init__(self, process: Gaussian, distribution: Mixture, snap: int = SNAP) -> None:
        self.process, self.distribution, self.snap = process, distribution, snap

    def __call__(self, state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        x = state.flatten(1)
        alpha, sigma = self.process.alpha_sigma(self.level(time))
        log_p, x0 = self.distribution.posterior(x, alpha, sigma)
        if self.process.prediction_type == "logits":
            return log_p.reshape(state.shape)
        return say(self.process.prediction_type, x, x0, alpha[:, None], sigma[:, None]).reshape(state.shape)

    def level(self, time: Tensor) -> Tensor:
        """Return (B,) levels of the call of the network."""
        if isinstance(self.process, Precise):
            return self.process.call_level.expand(len(time))
        return level_of(self.process, time, self.snap)


class Precise(Gaussian):
    """Remembers the level of the network's call in float64, for levels that are no multiples of 1/`SNAP`."""

    call_level: Tensor

    def __call__(self, model: Model, state: State, level: Level, condition: Condition) -> State:
        self.call_level = torch.as_tensor(level, dtype=torch.float64)
        return super().__call__(model, state, level, condition)


class Affine:
    """A network that is affine in the state, with parameters of its own at each level of a sampler of ``steps``."""

    def __init__(self, process: Gaussian, steps: int) -> None:
        self.process, self.steps = process, steps
        self.parameters: dict[int, Tensor] = {}  # (d, d + 1): matrix and offset

    def __call__(self, state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        level = level_of(self.process, time[:1], SNAP)
        w = self.parameters[round(float(level) * self.steps)]
        return state @ w[:, :-1].mT + w[:, -1]


@contextmanager
def noise_is(process: Process, noise: Tensor) -> Iterator[None]:
    """Within, the process draws ``noise``."""
    with mock.patch.object(process, "noise", lambda *_: noise):
        yield


Moments = tuple[Tensor, Tensor]


def propagate(
    process: Process,
    model: Callable[..., Tensor],
    distribution: Moments,
    steps: int,
    start: float = 1.0,
    stop: float = 0.0,
) -> Moments:
    """(mean, covariance) after steps of `Euler` from start to stop, exactly, where the network is affine in the state.

    Each step is then an affine map of the state and of its noise, which is read off by giving it unit vectors for them.
    """
    mean, cov = distribution
    d = len(mean)
    eye, none = torch.eye(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
    x, noise = torch.cat([none[:1], eye, none]), torch.cat([none[:1], none, eye])
    with noise_is(process, noise):
        for i in range(round(start * steps), round(stop * steps), -1):
            y = Euler().denoise_step(BoundModel(process, model, rows(len(x))), x, i / steps, (i - 1) / steps, None)
            by_state, by_noise = (y[1 : d + 1] - y[0]).mT, (y[d + 1 :] - y[0]).mT
            mean = by_state @ mean + y[0]
            cov = by_state @ cov @ by_state.mT + by_noise @ by_noise.mT
    return mean, cov


def extrapolate(coarse: Moments, fine: Moments) -> Moments:
    """Return the limit of small steps from the moments at n and 2n steps, with an error of second order."""
    return 2 * fine[0] - coarse[0], 2 * fine[1] - coarse[1]


def gap(one: Moments, other: Moments) -> float:
    """Largest difference of means and of covariances."""
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


def whitened(count: int, dimension: int, seed: int = 0) -> Tensor:
    """Return numbers whose sample mean is 0 and whose sample covariance is 1, exactly.

    Least squares with affine functions needs two moments of a distribution, so that its solution on such a batch is
    that on infinitely many samples.
    """
    z = torch.randn(count, dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    z = z - z.mean(0)
    return z @ torch.linalg.inv(torch.linalg.cholesky(z.mT @ z / count)).mT


def fit_affine(
    process: Gaussian,
    state: Tensor,
    noise: Tensor,
    steps: int,
    from_level: float,
    target: "Tensor | None" = None,
) -> Affine:
    """The affine network of least `Process.loss` at every level of the grid above ``from_level``.

    The loss is quadratic in the parameters of a level, so one Newton step from 0 is its minimum.
    """
    model, condition = Affine(process, steps), rows(len(state))
    d = state.shape[1]

    def loss(flat: Tensor, index: int) -> Tensor:
        model.parameters[index] = flat.reshape(d, d + 1)
        level = torch.full((len(state),), index / steps, dtype=torch.float64)
        return process.loss(model, state, level, from_level, condition, target).mean()

    with noise_is(process, noise):
        for index in range(round(from_level * steps) + 1, steps + 1):
            zero = torch.zeros(d * (d + 1), dtype=torch.float64, requires_grad=True)
            slope = torch.autograd.grad(loss(zero, index), zero, create_graph=True)[0]
            curvature = torch.stack([torch.autograd.grad(s, zero, retain_graph=True)[0] for s in slope])
            model.parameters[index] = torch.linalg.solve(curvature, -slope.detach()).reshape(d, d + 1)
    return model
