r"""Categorical diffusion in continuous time: the base of the masked and the uniform process.

A field has positions, each of one of K classes. A state is one-hot, (B, ..., K), in floating point like any other
field, so networks, projections, files, distances and E[x_0 | x_u] (a vector of probabilities) need no special case;
rows of zeros are padding, or masked. The positions are noised independently: at t = u^warp a position has kept its
class with probability :math:`\alpha_t = 1 - t`, and between two levels, s < t, with

.. math:: r = \alpha_t / \alpha_s, \qquad q(x_t \mid x_s) = r\, x_s + (1 - r)\, m,

m the process's noise: the mask, or the uniform distribution (Austin et al. 2021, eq. 2, in continuous time). Any other
schedule is this one on another clock. The network predicts log-probabilities of x_0 at each position,
:math:`\pi = \text{softmax}`, and a step draws every position from the posterior that they imply (Austin et al. 2021,
eq. 4),

.. math:: p(x_s \mid x_t) = \sum_{x_0} q(x_s \mid x_t, x_0)\, \pi(x_0 \mid x_t),

which is exact for one position in any number of steps. Positions that depend on each other are drawn independently
within a step, an error of the order of the step.

**The distribution at a level s = u\* (P-GRAFT).** States at s are given, from a distribution :math:`p_s`. Reversing the
forward process from 1 to s needs the posterior of the state at s, position by position,

.. math:: \rho(x_s \mid x_u) \propto \sum p_s\, q(x_u \mid x_s), \qquad u > s,

and the step above draws from it at s, for any step size, if the network's :math:`\pi` solves the linear equation

.. math:: \sum_{x_0} q(x_s \mid x_u, x_0)\, \pi(x_0 \mid x_u) = \rho(x_s \mid x_u).  \tag{1}

Target (a) asks for this: its loss is the log-likelihood, or its continuous-time bound, of x_s and not of x_0, by the
kernel since s, and least where (1) holds. The network still predicts x_0, and the sampler is the same. Where x_s was
made by the forward kernel from any distribution of x_0 (accepted draws of the reference by a sampler that reverses the
process in distribution, as these do), (1) is solved by the posterior mean of that distribution, and target (b), the
draws' own x_0, is least at the same :math:`\pi`. A distribution at s to which no distribution of x_0 is noised may
leave (1) without a solution among probabilities; then the network learns the nearest in Kullback-Leibler divergence.
`MaskedCategorical` states the consequence; 'renoised' is the target to iterate with.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor
from typing_extensions import override

from graft.core.state import Condition, State, as_tensor
from graft.errors import GraftError
from graft.process.arguments import Level, NoisyExample
from graft.process.categorical_path import CategoricalPath
from graft.process.precision import single, to_double
from graft.process.projections import Projection

Weight = Literal["elbo", "equal"]


class Categorical(CategoricalPath):
    """A field of independent positions that lose their class, to the mask or to another class.

    Args:
        shape: Shape of one sample, without the batch dimension; the last dimension is the number of classes.
        warp: Exponent of the clock: t = u^warp is the share of positions that have lost their class at level u.
        weight: Weight of the levels in the loss: ``elbo``, the continuous-time bound on the negative log-likelihood, in
            nats per position; ``equal``, the cross-entropy of the posterior of the clean state, the same at every
            level.
        projection: Padding: rows of zeros, which never change and have no part in any loss or density.

    Raises:
        GraftError: A setting is out of its range.
    """

    one_hot_scale = 1.0
    """Size of a one-hot's 1, an attribute that `Gaussian` has, too."""

    stochastic = True
    invertible = False
    has_log_prob = True

    def __init__(
        self, shape: Sequence[int], warp: float = 1.0, weight: Weight = "elbo", projection: "Projection | None" = None
    ) -> None:
        super().__init__(shape, warp, projection)
        self.weight = weight
        if not self.shape or self.shape[-1] < 2:
            raise GraftError(
                f"`shape` is {list(self.shape)}; its last dimension must be at least 2, the number of classes. Change "
                "it in the process"
            )
        if projection is not None and projection.mixes_positions:
            raise GraftError(
                f"`projection` is {type(projection).__name__}, which mixes the classes of positions; it must be "
                "MaskProjection. Give the process of a field of pairs each pair once, or use Gaussian"
            )
        if weight not in ("elbo", "equal"):
            raise GraftError(f"`weight` is {weight!r}; it must be elbo or equal. Change it in the process")

    # Methods of the subclass

    @abstractmethod
    def posterior(self, chance: Tensor, state: Tensor, level: Level, next_level: Level) -> Tensor:
        """Return (B, ..., K) probabilities of the classes at ``next_level``.

        The difference of their sum to 1 is the probability of the mask.

        Args:
            chance: Probabilities of x_0, (B, ..., K).
            state: State at ``level``, (B, ..., K).
            level: Level of ``state``.
            next_level: Level of the result, at most ``level``.
        """

    @abstractmethod
    def x0_given_state(self, chance: Tensor, state: Tensor) -> Tensor:
        """Return (B, ..., K) probabilities of x_0 given ``state``.

        ``chance`` (B, ..., K) is the result of `x0_probabilities`.
        """

    @abstractmethod
    def elbo_rate(self, log_chance: Tensor, noisy: Tensor, goal: Tensor, level: Tensor, from_level: Tensor) -> Tensor:
        """Return the (B, ...) rate of the ELBO at ``level``, in nats per unit of u.

        Args:
            log_chance: Log-probabilities of x_0, (B, ..., K).
            noisy: State at ``level``, (B, ..., K).
            goal: State at ``from_level`` that the step must reach, (B, ..., K).
            level: Level of ``noisy``, (B,).
            from_level: Level of ``goal``, (B,).
        """

    @abstractmethod
    def score(self, chance: Tensor, state: Tensor, level: float) -> Tensor:
        """Return (B, ..., K) p(state with a position changed to k) / p(state).

        The same ratio in the prior is subtracted.
        """

    # Steps

    def x0_probabilities(self, output: State) -> Tensor:
        """Return the network's probabilities of x_0, (B, ..., K), in double precision."""
        return to_double(output).softmax(-1)

    def transition(self, output: State, state: State, level: Level, next_level: Level, condition: Condition) -> Tensor:
        """Return (B, ..., K) probabilities of the classes at ``next_level``.

        The difference of their sum to 1 is the probability of the mask, or padding.
        """
        x = as_tensor(state)
        return self._project(self.posterior(self.x0_probabilities(output), x, level, next_level), condition)

    @override
    def reverses_in_distribution(self, level: float) -> bool:
        return True

    @override
    def denoise_step(
        self,
        output: State,
        state: State,
        level: float,
        next_level: float,
        condition: Condition,
        generator: "Generator | None",
    ) -> Tensor:
        """Sample each position from its `transition`."""
        x = as_tensor(state)
        if next_level == level:
            return x
        upto = self.transition(output, x, level, next_level, condition).cumsum(-1)
        sampled = (self.noise(x, condition, generator) >= upto).sum(-1)  # K if the number is above all probabilities
        # without a mask, only a rounding error can give K
        largest = upto.shape[-1] if self._masks else upto.shape[-1] - 1
        return self._project(one_hot(sampled.clamp(max=largest), x), condition)

    @override
    def invert_step(self, output: State, state: State, level: float, next_level: float, condition: Condition) -> State:
        """Raise GraftError: a step has no inverse."""
        raise GraftError(f"{type(self).__name__} {self.why_not_invertible}")

    @property
    @override
    def why_not_invertible(self) -> str:
        return "draws the classes of a discrete field, which cannot be found again: leave this field out"

    # Losses

    @override
    def output_loss(self, output: State, example: NoisyExample, condition: Condition) -> Tensor:
        """Return the (B,) loss in nats per position; padding counts as 0.

        It is least where eq. (1) of the module holds.
        """
        x, level = as_tensor(example.noisy), example.level
        if example.target is None:
            goal, at = as_tensor(example.state), example.from_level
        else:
            goal, at = as_tensor(example.target), torch.zeros_like(example.from_level)
        if self.weight == "elbo":
            log_chance = to_double(output).log_softmax(-1)
            nats = self.elbo_rate(log_chance, x, goal.to(log_chance), level, at)
        else:
            nats = -self._log_chance(self.posterior(self.x0_probabilities(output), x, level, at), goal)
        return self._sum(nats, condition).to(single(as_tensor(output))) / math.prod(self.shape[:-1])

    @override
    def loss_output(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> Tensor:
        """Return the (B, ..., K) probabilities of x_0."""
        return self.predict_x0(output, state, level, condition)

    @override
    def loss_target(self, clean: State, noise: State, level: Level) -> Tensor:
        return as_tensor(clean)

    @override
    def x0_error(self, one: State, other: State, level: Tensor) -> Tensor:
        """Return the (B,) Brier score, least at E[x_0 | x_u]; for the ELBO weighted by dt / (t du)."""
        square = (as_tensor(one) - as_tensor(other)).square().flatten(1).mean(1)
        weight = self.dt_du(level) / self.time(level) if self.weight == "elbo" else torch.ones_like(level)
        return square * weight.to(square)

    @override
    def log_prob(
        self, output: State, state: State, next_state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """Return the (B,) log-probability in nats of all positions together."""
        posterior = self.posterior(self.x0_probabilities(output), as_tensor(state), level, next_level)
        return self._sum(self._log_chance(posterior, as_tensor(next_state)), condition).to(single(as_tensor(output)))

    @override
    def step_kl(
        self, output: State, other: State, state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """Return the (B,) KL(p‖q) = Σ p log(p / q) in nats, summed over classes and positions."""
        x = as_tensor(state)
        p, q = (self.posterior(self.x0_probabilities(o), x, level, next_level) for o in (output, other))
        tiny = torch.finfo(p.dtype).tiny
        nats = (p * (p.clamp(min=tiny).log() - q.clamp(min=tiny).log())).sum(-1)
        return self._sum(nats, condition).to(single(as_tensor(output)))

    @override
    def predict_x0(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> Tensor:
        """Return the (B, ..., K) probabilities of x_0.

        A domain that decodes the largest value gets the mode.
        """
        guess = self.x0_given_state(self.x0_probabilities(output), as_tensor(state)).to(single(as_tensor(output)))
        return self._project(guess, condition)

    @override
    def score_gap(self, estimate: State, state: State, level: float, condition: Condition) -> Tensor:
        """Return the (B,) gap of the concrete score p(y) / p(x), y one position away from x.

        The score is that of Lou et al. 2024, eq. 4.
        """
        x0, x = to_double(estimate), to_double(state)
        return self._sum(self.score(x0, x, level).square().sum(-1), condition)

    # Helpers

    _masks: bool = False
    """Rows of zeros are states of a position, not only padding."""

    def _log_chance(self, posterior: Tensor, goal: Tensor) -> Tensor:
        """Return the (B, ...) log-probability of the rows of ``goal``.

        A row of zeros is the mask, or padding.
        """
        rows = goal.to(posterior)
        chance = (posterior * rows).sum(-1)
        empty = rows.sum(-1) == 0
        rest = (1 - posterior.sum(-1)) if self._masks else torch.ones_like(chance)
        return torch.where(empty, rest, chance).clamp(min=torch.finfo(chance.dtype).tiny).log()

    def _sum(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """Return the (B,) sum of (B, ...) over the positions that are not padding."""
        return self._project(x[..., None], condition).flatten(1).sum(1)


def one_hot(kind: Tensor, like: Tensor) -> Tensor:
    """Return (B, ..., K) rows of (B, ...) classes; the class K is a row of zeros."""
    classes = torch.arange(like.shape[-1], device=like.device)
    return (kind[..., None] == classes).to(like.dtype)
