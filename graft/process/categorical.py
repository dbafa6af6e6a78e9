r"""Categorical diffusion in continuous time: what the masked and the uniform process share.

A field has positions, each of one of K classes: a state is one-hot, (B, ..., K), in floating point like any other
field, so that networks, projections, files, distances and E[x_0 | x_u] (a vector of probabilities) are the same for it;
rows of zeros are padding, or masked. The positions are noised independently: at t = u^warp a position has kept its
class with probability :math:`\alpha_t = 1 - t`, and between two levels, s < t, with

.. math:: r = \alpha_t / \alpha_s, \qquad q(x_t \mid x_s) = r\, x_s + (1 - r)\, m,

m the process's noise: the mask, or the uniform law (Austin et al. 2021, eq. 2, in continuous time). Any other schedule
is this one on another clock. The network says log-probabilities of x_0 at each position, :math:`\pi = \text{softmax}`,
and a step draws every position from the posterior that they imply (Austin et al. 2021, eq. 4),

.. math:: p(x_s \mid x_t) = \sum_{x_0} q(x_s \mid x_t, x_0)\, \pi(x_0 \mid x_t),

which is exact for one position in any number of steps; positions that depend on each other are drawn independently
within a step, an error of the order of the step.

**The law at a level s = u\* (P-GRAFT).** States at s are given, from a law :math:`p_s`. Reversing the forward process
from 1 to s needs the posterior of what is to be reached, position by position,

.. math:: \rho(x_s \mid x_u) \propto \sum p_s\, q(x_u \mid x_s), \qquad u > s,

and the step above draws from it at s, whatever its size, if the network's :math:`\pi` solves the linear equation

.. math:: \sum_{x_0} q(x_s \mid x_u, x_0)\, \pi(x_0 \mid x_u) = \rho(x_s \mid x_u).  \tag{1}

So that is what target (a) asks for: its loss is the log-likelihood, or its continuous-time bound, of x_s and not of
x_0, by the kernel since s, and least where (1) holds. The network goes on saying something of x_0, and the sampler is
the same. Where x_s was made by the forward kernel from any law of x_0 (accepted draws of the reference by a sampler
that reverses the process in law, as these do), (1) is solved by the posterior mean of that law, and target (b), the
draws' own x_0, is least at the same :math:`\pi`. A law at s that no law of x_0 is noised to may leave (1) without a
solution among probabilities; then what is learned is the nearest in Kullback-Leibler divergence. `MaskedCategorical`
says what that means; 'renoised' is the target to iterate with.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor

from graft import seeding
from graft.errors import GraftError
from graft.process.base import Level, Process
from graft.process.precision import double, single
from graft.process.projections import Projection
from graft.process.ranges import require
from graft.state import Condition, State, size

Weight = Literal["elbo", "equal"]


class Categorical(Process):
    """A field of independent positions that lose their class; the subclass says to what.

    Args:
        shape: Of one sample, without the batch dimension; the last dimension is the number of classes.
        warp: t = u^warp is the share of positions that have lost their class at level u.
        weight: Of the levels in the loss: ``elbo``, the continuous-time bound on the negative log-likelihood, in nats a
            position; ``equal``, the cross-entropy of the posterior of the clean state, the same at every level.
        projection: Padding: rows of zeros, which never change and count nowhere.
    """

    one_hot_scale = 1.0  # of a one-hot's 1, as `Gaussian` has it
    stochastic = True
    invertible = False
    reverses_in_law = True
    has_log_prob = True

    def __init__(
        self, shape: Sequence[int], warp: float = 1.0, weight: Weight = "elbo", projection: "Projection | None" = None
    ) -> None:
        self.shape, self.warp, self.weight, self.projection = tuple(shape), warp, weight, projection
        if not self.shape or self.shape[-1] < 2:
            raise GraftError(
                f"a categorical field has its classes in its last dimension, and {list(self.shape)} has no two"
            )
        require(0 < warp < math.inf, "warp", warp, "be positive")
        if weight not in ("elbo", "equal"):
            raise GraftError(f"weight is {weight!r}, but the loss of a categorical field is weighted 'elbo' or 'equal'")

    # What a subclass says

    @abstractmethod
    def replace_lost(self, state: Tensor, lost: Tensor, kind: Tensor) -> Tensor:
        """``state`` with new rows where ``lost`` (B, ..., 1); ``kind`` (B, ..., 1) in [0, 1) is uniform."""

    @abstractmethod
    def posterior(self, chance: Tensor, state: Tensor, level: Level, next_level: Level) -> Tensor:
        """(B, ..., K) probabilities of the classes at ``next_level``, of ``chance``, those of x_0.

        What is missing to 1 is the probability of the mask.
        """

    @abstractmethod
    def x0_given_state(self, chance: Tensor, state: Tensor) -> Tensor:
        """(B, ..., K) probabilities of x_0 given ``state``, from the network's ``x0_probabilities``."""

    @abstractmethod
    def elbo_rate(self, log_chance: Tensor, noisy: Tensor, goal: Tensor, level: Tensor, since: Tensor) -> Tensor:
        """(B, ...) rate of the ELBO at ``level`` for reaching ``goal``, a state at ``since``, in nats per unit of u."""

    @abstractmethod
    def score(self, chance: Tensor, state: Tensor, level: float) -> Tensor:
        """(B, ..., K) p(state with a position changed to k) / p(state), less what it is in the prior."""

    # The clock

    def time(self, level: Level) -> Tensor:
        """See `Process.time`: the share of positions that have lost their class."""
        return torch.as_tensor(level, dtype=torch.float64) ** self.warp

    def elapsed(self, level: Level, since: Level = 0.0) -> Tensor:
        """Return t(level) − t(since), float64, to full precision also where the two are nearly equal."""
        u, s = torch.as_tensor(level, dtype=torch.float64), torch.as_tensor(since, dtype=torch.float64)
        if self.warp == 1:
            return u - s  # exact where u <= 2 s
        near = (s > 0) & (u < 2 * s)
        below = torch.where(near, s, 1.0)
        step = torch.where(near, (u - s) / below, 0.0)
        return torch.where(
            near, below**self.warp * torch.expm1(self.warp * torch.log1p(step)), u**self.warp - s**self.warp
        )

    def left(self, level: Level) -> Tensor:
        """Return 1 − t(level), the share of positions with their class, float64, to full precision near level 1."""
        u = torch.as_tensor(level, dtype=torch.float64)
        return 1 - u if self.warp == 1 else -torch.expm1(self.warp * u.log())

    def keep_probability(self, level: Level, since: Level = 0.0) -> Tensor:
        """r, the probability that a position that had a class at ``since`` has kept it until ``level``, float64."""
        now, before = self.left(level), self.left(since)
        return torch.where(now == before, 1.0, now / before)  # from level 1 to itself both are 0

    def lost(self, level: Level, since: Level = 0.0) -> Tensor:
        """1 − r, the probability that it has lost it, float64, to full precision however small it is."""
        before = self.left(since)
        return torch.where(before > 0, self.elapsed(level, since) / before, 0.0).clamp(0, 1)

    def dt_du(self, level: Tensor) -> Tensor:
        """Dt / du, float64."""
        return self.warp * torch.as_tensor(level, dtype=torch.float64) ** (self.warp - 1)

    def log_snr(self, level: Level) -> Tensor:
        """See `Process.log_snr`: the log-odds of having kept the class."""
        t = self.time(level)
        return torch.log1p(-t) - t.log()

    def timestep(self, level: Level) -> Tensor:
        """See `Process.timestep`: t."""
        return self.time(level)

    # Noising

    def noise(self, state: State, condition: "Condition | None", generator: "Generator | None") -> Tensor:
        """See `Process.noise`: a uniform number for each position, in the first of the classes' places."""
        x = _tensor(state)
        return seeding.uniform((*x.shape[:-1], 1), generator).to(x.device, double(x))

    def corrupt(
        self,
        state: State,
        level: Level,
        from_level: Level = 0.0,
        condition: "Condition | None" = None,
        generator: "Generator | None" = None,
    ) -> Tensor:
        """See `Process.corrupt`."""
        return self.corrupt_given_noise(state, self.noise(state, condition, generator), level, from_level)

    def corrupt_given_noise(self, state: State, noise: State, level: Level, since: Level) -> Tensor:
        """See `Process.corrupt_given_noise`: one uniform number says whether a class is lost, and which follows."""
        x, z = _tensor(state), _tensor(noise)
        rest = 1 - z.to(double(z))  # in (0, 1], exactly: compared with 1 − r, which may be too small to change 1
        lost = broadcast_to(self.lost(level, since), rest)
        return self.replace_lost(x, rest <= lost, (1 - rest / lost.clamp(min=torch.finfo(rest.dtype).tiny)).clamp(0, 1))

    def prior(self, condition: Condition, generator: "Generator | None" = None) -> Tensor:
        """See `Process.prior`: every position has lost its class."""
        like = next((f for f in condition.values() if f.is_floating_point()), None)
        device = next(iter(condition.values())).device
        dtype = like.dtype if like is not None else torch.get_default_dtype()
        x = torch.zeros(size(condition), *self.shape, dtype=dtype, device=device)
        z = self.noise(x, condition, generator)
        return self._project(self.replace_lost(torch.ones_like(x), torch.ones_like(z, dtype=torch.bool), z), condition)

    # Steps

    def x0_probabilities(self, output: State) -> Tensor:
        """The network's probabilities of x_0, in double precision."""
        out = _tensor(output)
        return out.to(double(out)).softmax(-1)

    def transition(self, output: State, state: State, level: Level, next_level: Level, condition: Condition) -> Tensor:
        """(B, ..., K) probabilities of the classes at ``next_level``; the rest to 1 is the mask's, or padding."""
        x = _tensor(state)
        return self._project(self.posterior(self.x0_probabilities(output), x, level, next_level), condition)

    def denoise_step(
        self,
        output: State,
        state: State,
        level: float,
        next_level: float,
        condition: Condition,
        generator: "Generator | None",
    ) -> Tensor:
        """See `Process.denoise_step`: each position from its `transition`."""
        x = _tensor(state)
        if next_level == level:
            return x
        upto = self.transition(output, x, level, next_level, condition).cumsum(-1)
        drawn = (self.noise(x, condition, generator) >= upto).sum(-1)  # K where all are passed
        left_over = upto.shape[-1] if self._masks else upto.shape[-1] - 1  # rounding errors are no mask
        return self._project(one_hot(drawn.clamp(max=left_over), x), condition)

    def invert_step(self, output: State, state: State, level: float, next_level: float, condition: Condition) -> State:
        """See `Process.invert_step`: there is none."""
        raise GraftError(f"{type(self).__name__} {self.why_not_invertible}")

    @property
    def why_not_invertible(self) -> str:
        """See `Process.why_not_invertible`."""
        return "draws the classes of a discrete field, which cannot be found again: leave this field out"

    # Losses

    def output_loss(
        self,
        output: State,
        noisy: State,
        state: State,
        noise: State,
        level: Tensor,
        since: Tensor,
        target: "State | None",
        condition: Condition,
    ) -> Tensor:
        """See `Process.output_loss`: nats a position, where padding costs nothing; eq. (1) above."""
        x = _tensor(noisy)
        if target is None:
            goal, at = _tensor(state), since
        else:
            goal, at = _tensor(target), torch.zeros_like(since)
        if self.weight == "elbo":
            out = _tensor(output)
            log_chance = out.to(double(out)).log_softmax(-1)
            nats = self.elbo_rate(log_chance, x, goal.to(log_chance), level, at)
        else:
            nats = -self._log_chance(self.posterior(self.x0_probabilities(output), x, level, at), goal)
        return self._sum(nats, condition).to(single(_tensor(output))) / math.prod(self.shape[:-1])

    def loss_output(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> Tensor:
        """See `Process.loss_output`: the probabilities of x_0."""
        return self.predict_x0(output, state, level, condition)

    def loss_target(self, clean: State, noise: State, level: Level) -> Tensor:
        """See `Process.loss_target`: the data."""
        return _tensor(clean)

    def x0_error(self, one: State, other: State, level: Tensor) -> Tensor:
        """See `Process.x0_error`: Brier's score, least at E[x_0 | x_u]; for the ELBO weighted by dt / (t du)."""
        square = (_tensor(one) - _tensor(other)).square().flatten(1).mean(1)
        weight = self.dt_du(level) / self.time(level) if self.weight == "elbo" else torch.ones_like(level)
        return square * weight.to(square)

    def log_prob(
        self, output: State, state: State, next_state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """See `Process.log_prob`: nats, of the positions together."""
        posterior = self.posterior(self.x0_probabilities(output), _tensor(state), level, next_level)
        return self._sum(self._log_chance(posterior, _tensor(next_state)), condition).to(single(_tensor(output)))

    def step_kl(
        self, output: State, other: State, state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """See `Process.step_kl`: the sum over the positions."""
        x = _tensor(state)
        ours, theirs = (self.posterior(self.x0_probabilities(o), x, level, next_level) for o in (output, other))
        tiny = torch.finfo(ours.dtype).tiny
        nats = (ours * (ours.clamp(min=tiny).log() - theirs.clamp(min=tiny).log())).sum(-1)
        return self._sum(nats, condition).to(single(_tensor(output)))

    def predict_x0(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> Tensor:
        """See `Process.predict_x0`: the probabilities of x_0. A domain that decodes by the largest gets the mode."""
        guess = self.x0_given_state(self.x0_probabilities(output), _tensor(state)).to(single(_tensor(output)))
        return self._project(guess, condition)

    def score_gap(self, estimate: State, state: State, level: float, condition: Condition) -> Tensor:
        """See `Process.score_gap`, of the concrete score p(y) / p(x), y one position away (Lou et al. 2024, eq. 4)."""
        x0, x = (_tensor(s).to(double(_tensor(s))) for s in (estimate, state))
        return self._sum(self.score(x0, x, level).square().sum(-1), condition)

    # Inside

    _masks: bool = False  # rows of zeros are states of a position, not only padding

    def _log_chance(self, posterior: Tensor, goal: Tensor) -> Tensor:
        """(B, ...) log-probability of the rows of ``goal``; those of zeros are the mask's, or padding."""
        there = goal.to(posterior)
        chance = (posterior * there).sum(-1)
        empty = there.sum(-1) == 0
        rest = (1 - posterior.sum(-1)) if self._masks else torch.ones_like(chance)
        return torch.where(empty, rest, chance).clamp(min=torch.finfo(chance.dtype).tiny).log()

    def _project(self, x: Tensor, condition: "Condition | None") -> Tensor:
        return x if self.projection is None else self.projection(x, condition)

    def _sum(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """(B,) of (B, ...): over the positions that are there."""
        return self._project(x[..., None], condition).flatten(1).sum(1)


def one_hot(kind: Tensor, like: Tensor) -> Tensor:
    """(B, ..., K) of (B, ...) classes; the class K is a row of zeros."""
    classes = torch.arange(like.shape[-1], device=like.device)
    return (kind[..., None] == classes).to(like.dtype)


def _tensor(state: State) -> Tensor:
    assert isinstance(state, Tensor), (
        "a categorical process acts on a tensor; `MultiFieldProcess` has one for each field of a dict"
    )
    return state


def broadcast_to(value: Tensor, x: Tensor) -> Tensor:
    """A number or one for each sample, shaped to multiply ``x``."""
    value = value.to(x.device, x.dtype)
    return value if value.ndim == 0 else value.reshape(-1, *[1] * (x.ndim - 1))
