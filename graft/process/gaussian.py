r"""Gaussian processes: DDPM, EDM-style and flow matching as settings of one class.

.. math::
    x_t = \alpha_t x_0 + \sigma_t \epsilon, \qquad
    x_t \mid x_s \sim N\big((\alpha_t / \alpha_s) x_s,\ \sigma_{t|s}^2 I\big), \quad
    \sigma_{t|s}^2 = \sigma_t^2 - (\alpha_t / \alpha_s)^2 \sigma_s^2 \quad (s < t).
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from graft import seeding
from graft.errors import GraftError
from graft.process.base import Level, Process
from graft.process.precision import double, single
from graft.process.projections import Projection
from graft.process.ranges import require
from graft.process.schedules import Schedule
from graft.state import Condition, State, size

Prediction = Literal["eps", "x0", "v", "velocity", "logits"]

LEAST_SIGNAL = 3e-3
"""Least alpha at level 1 for eps prediction without clipping: EDM's schedule, which predicts eps, keeps 3.2e-3."""

SOUND = 1e6
"""Least sigma, in units of the rounding error, at which an error of x_0 may be divided by it."""


class Gaussian(Process):
    """x_t = alpha_t x_0 + sigma_t eps on a tensor state, whatever the schedule, the warp and the parametrisation.

    Args:
        schedule: alpha(t) and sigma(t).
        prediction_type: What the network gives: ``eps``; ``x0``; ``v`` = alpha eps − sigma x_0 (Salimans & Ho 2022);
            ``velocity`` = eps − x_0, the flow's dx/dt; ``logits`` of a one-hot field, x_0 = scale · softmax.
        shape: Of one sample, without the batch dimension.
        eta: Noise of a step (Song et al. 2021, eq. 16): 1 is the ancestral sampler that reverses the process in law,
            0 the deterministic one (DDIM; for `Flow` that is Euler's method on the flow).
        warp: t = u^warp; 2 halves the steps that molecules need.
        snr_weight_clamp: Bounds of the loss's weight SNR = alpha²/sigma² on the squared error of x_0; ``null`` weighs
            all levels alike in the error of the prediction itself.
        one_hot_scale: Size of a one-hot field's 1.
        projection: (x, condition) -> x onto the subspace in which states live (zero centre of mass, masks); applied to
            noise, states and predictions alike.
        clip_sample_range: Largest magnitude of an estimate of x_0 in sampling, as diffusers' schedulers have it with
            ``clip_sample``; ``null``: any. The losses are not clipped, and such steps cannot be inverted.

    Raises:
        GraftError: A setting is out of its range, or the network predicts eps where next to no signal is left at level
            1, so that an error of the network is multiplied by sigma / alpha in the first step.
    """

    def __init__(
        self,
        schedule: Schedule,
        prediction_type: Prediction,
        shape: Sequence[int],
        eta: float = 1.0,
        warp: float = 1.0,
        snr_weight_clamp: "tuple[float, float] | None" = None,
        one_hot_scale: float = 1.0,
        projection: "Projection | None" = None,
        clip_sample_range: "float | None" = None,
    ) -> None:
        self.schedule, self.prediction_type, self.shape = schedule, prediction_type, tuple(shape)
        self.eta, self.warp, self.snr_weight_clamp, self.one_hot_scale, self.projection = (
            eta,
            warp,
            snr_weight_clamp,
            one_hot_scale,
            projection,
        )
        self.clip_sample_range = clip_sample_range
        self._check()

    def _check(self) -> None:
        """Refuse settings that are out of their ranges."""
        eta, weight, clip = self.eta, self.snr_weight_clamp, self.clip_sample_range
        require(0 <= eta <= 1, "eta", eta, "lie in [0, 1], from DDIM to the ancestral sampler")
        require(0 < self.warp < math.inf, "warp", self.warp, "be positive")
        require(0 < self.one_hot_scale < math.inf, "one_hot_scale", self.one_hot_scale, "be positive")
        if weight is not None:
            right = len(weight) == 2 and 0 <= weight[0] <= weight[1] < math.inf
            require(right, "snr_weight_clamp", list(weight), "be two finite bounds of at least 0, in order")
        if clip is not None:
            require(0 < clip < math.inf, "clip_sample_range", clip, "be positive", "Leave it out, so as not to clip")
        predictions = get_args(Prediction)
        require(
            self.prediction_type in predictions,
            "prediction_type",
            self.prediction_type,
            f"be one of {', '.join(predictions)}",
        )
        alpha, schedule = float(self.alpha_sigma(1.0)[0]), type(self.schedule).__name__
        if self.prediction_type == "eps" and alpha == 0:
            raise GraftError(
                f"prediction 'eps' says nothing about x_0 where alpha is 0, as {schedule} has it at level 1: use x0, v "
                "or velocity"
            )
        if self.prediction_type == "eps" and alpha < LEAST_SIGNAL and clip is None:
            raise GraftError(
                f"prediction 'eps' says next to nothing about x_0 where alpha is {alpha:.2g}, as {schedule} has it at "
                f"level 1; it must be at least {LEAST_SIGNAL:g}. Use x0, v or velocity, or `clip_sample_range`, the "
                "largest magnitude of data (1 in diffusers)"
            )

    @property
    def stochastic(self) -> bool:
        """See `Process.stochastic`."""
        return self.eta > 0

    @property
    def invertible(self) -> bool:
        """See `Process.invertible`."""
        return self.eta == 0 and self.clip_sample_range is None

    @property
    def why_not_invertible(self) -> str:
        """See `Process.why_not_invertible`."""
        if self.eta == 0 and self.clip_sample_range is not None:
            return "clips its estimates of x_0, so its steps cannot be inverted: leave out clip_sample_range"
        return super().why_not_invertible

    @property
    def reverses_in_law(self) -> bool:
        """See `Process.reverses_in_law`: of all eta only 1 has the forward process's joint law."""
        return self.eta == 1

    @property
    def has_log_prob(self) -> bool:
        """See `Process.has_log_prob`."""
        return self.eta > 0

    def time(self, level: Level) -> Tensor:
        """See `Process.time`."""
        return torch.as_tensor(level, dtype=torch.float64) ** self.warp

    def alpha_sigma(self, level: Level) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at ``level``, float64."""
        return self.schedule.alpha_sigma(self.time(level))

    def log_snr(self, level: Level) -> Tensor:
        """See `Process.log_snr`."""
        alpha, sigma = self.alpha_sigma(level)
        return 2 * (alpha.log() - sigma.log())

    def timestep(self, level: Level) -> Tensor:
        """See `Process.timestep`."""
        return self.schedule.network_time(self.time(level))

    def kernel(self, level: Level, since: Level) -> tuple[Tensor, Tensor]:
        """(alpha_t / alpha_s, sigma_{t|s}) of x_t | x_s for ``since`` <= ``level``, float64."""
        (alpha_t, sigma_t), (alpha_s, sigma_s) = self.alpha_sigma(level), self.alpha_sigma(since)
        ratio = torch.where(alpha_t == alpha_s, 1.0, alpha_t / alpha_s)  # from level 1 to itself alpha may be 0 twice
        return ratio, (sigma_t**2 - ratio**2 * sigma_s**2).clamp(min=0).sqrt()

    def prior(self, condition: Condition, generator: "Generator | None" = None) -> Tensor:
        """See `Process.prior`: N(0, sigma_1² I), in the subspace."""
        like = next((f for f in condition.values() if f.is_floating_point()), None)
        device = next(iter(condition.values())).device
        dtype = like.dtype if like is not None else torch.get_default_dtype()
        x = torch.empty(0, dtype=dtype, device=device).new_empty((size(condition), *self.shape))
        return self.noise(x, condition, generator) * float(self.alpha_sigma(1.0)[1])

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

    def noise(self, state: State, condition: "Condition | None", generator: "Generator | None") -> Tensor:
        """See `Process.noise`: standard normal, in the subspace."""
        x = _tensor(state)
        return self._project(seeding.normal(x.shape, x, generator), condition)

    def corrupt_given_noise(self, state: State, noise: State, level: Level, since: Level) -> Tensor:
        """See `Process.corrupt_given_noise`."""
        x = _wide(state)
        ratio, sigma = (_like(c, x) for c in self.kernel(level, since))
        return (ratio * x + sigma * _tensor(noise)).to(_tensor(state).dtype)

    def x0(self, output: Tensor, state: Tensor, level: Level, condition: "Condition | None" = None) -> Tensor:
        """The estimate of x_0 = E[x_0 | x_u] that the network's output stands for, (B, ...), not clipped."""
        output, state = _wide(output), _wide(state)
        alpha, sigma = (_like(c, state) for c in self.alpha_sigma(level))
        if self.prediction_type == "x0":
            x0 = output
        elif self.prediction_type == "logits":
            x0 = self.one_hot_scale * output.softmax(-1)
        elif self.prediction_type == "eps":
            x0 = (state - sigma * output) / alpha
        elif self.prediction_type == "v":
            x0 = (alpha * state - sigma * output) / (alpha**2 + sigma**2)
        else:
            x0 = (state - sigma * output) / (alpha + sigma)
        return self._project(x0, condition)

    def predict_x0(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> Tensor:
        """See `Process.predict_x0`: within `clip_sample_range`."""
        x0 = self.x0(_tensor(output), _tensor(state), level, condition)
        if self.clip_sample_range is None:
            return x0
        return self._project(x0.clamp(-self.clip_sample_range, self.clip_sample_range), condition)

    def denoise_step(
        self,
        output: State,
        state: State,
        level: float,
        next_level: float,
        condition: Condition,
        generator: "Generator | None",
    ) -> Tensor:
        r"""See `Process.denoise_step`.

        .. math:: x_s = \alpha_s \hat x_0 + \sqrt{\sigma_s^2 - c^2}\,(x_t - \alpha_t \hat x_0) / \sigma_t + c z, \quad
            c = \eta\, \sigma_s \sigma_{t|s} / \sigma_t
        """
        mean, c = self.transition(output, state, level, next_level, condition)
        drawn = mean + c * self.noise(mean, condition, generator) if float(c) > 0 else mean
        return drawn.to(_tensor(state).dtype)

    def transition(
        self, output: State, state: State, level: Level, next_level: Level, condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """(mean (B, ...), standard deviation) of the state at ``next_level``, as `advance` has it.

        The deviation is one number for the batch, or one for each sample in the mean's number of dimensions.
        """
        x = _wide(state)
        x0 = self.predict_x0(output, x, level, condition)
        keep, move, c = (v if v.ndim == 0 else _like(v, x) for v in self._coefficients(level, next_level))
        return keep * x + move * x0, c

    def log_prob(
        self, output: State, state: State, next_state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """See `Process.log_prob`: that of N(mean, c² I) on the subspace, computed in double precision: c may be small.

        Raises:
            GraftError: The step draws no noise: eta is 0, or it is the one to level 0.
        """
        kind = single(_tensor(state))
        output, state, next_state = (_double(s) for s in (output, state, next_state))
        mean, c = self.transition(output, state, level, next_level, condition)
        self._noisy(c)
        square = ((next_state - mean) / c).square().flatten(1).sum(1)
        dimension: Tensor | float = (
            mean[0].numel() if self.projection is None else self.projection.dimension(mean, condition)
        )
        spread = c if c.ndim == 0 else c.flatten()
        return (-square / 2 - dimension * (spread.log() + math.log(2 * math.pi) / 2)).to(kind)

    def step_kl(
        self, output: State, other: State, state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """See `Process.step_kl`: |difference of the means|² / (2 c²); the deviations are one. In double precision."""
        kind = single(_tensor(state))
        output, other, state = (_double(s) for s in (output, other, state))
        mean, c = self.transition(output, state, level, next_level, condition)
        self._noisy(c)
        theirs, _ = self.transition(other, state, level, next_level, condition)
        return (((mean - theirs) / c).square().flatten(1).sum(1) / 2).to(kind)

    def _noisy(self, deviation: Tensor) -> None:
        if not bool((deviation > 0).all()):
            raise GraftError(
                "a step that draws no noise has no log-probability: it needs eta > 0, and the step to level 0 has none"
            )

    def invert_step(self, output: State, state: State, level: float, next_level: float, condition: Condition) -> Tensor:
        """See `Process.invert_step`: `denoise_step` solved for x_t, with ``output`` that of a guess of x_t.

        Written with what the network predicts, so that the map contracts wherever the step is small, up to level 1
        where alpha is 0.
        """
        x, out = _wide(state), _wide(output)
        keep, move, _ = (float(c) for c in self._coefficients(level, next_level))
        alpha, sigma = (float(c) for c in self.alpha_sigma(level))
        if self.prediction_type in ("x0", "logits"):
            if keep == 0:
                raise _singular(next_level)
            x0 = self._project(out if self.prediction_type == "x0" else self.one_hot_scale * out.softmax(-1), condition)
            return ((x - move * x0) / keep).to(_tensor(state).dtype)
        # x0 = a x_t − b out, so that x_s = (keep + move a) x_t − move b out
        a, b = {
            "eps": (1 / alpha if alpha else 0.0, sigma / alpha if alpha else 0.0),
            "v": (alpha / (alpha**2 + sigma**2), sigma / (alpha**2 + sigma**2)),
            "velocity": (1 / (alpha + sigma), sigma / (alpha + sigma)),
        }[self.prediction_type]
        return ((x + move * b * self._project(out, condition)) / (keep + move * a)).to(_tensor(state).dtype)

    def ode_velocity(self, output: State, state: State, level: Level, condition: Condition) -> Tensor:
        r"""See `Process.ode_velocity`: E[ε − x_0 | x_u], the derivative of x / (α + σ) by σ / (α + σ)."""
        x, out = _wide(state), _wide(output)
        alpha, sigma = (_like(c, x) for c in self.alpha_sigma(level))
        free = self.clip_sample_range is None
        if self.prediction_type == "velocity" and free:
            return self._project(out, condition)
        if self.prediction_type == "v" and free:
            return self._project(((alpha + sigma) * out + (sigma - alpha) * x) / (alpha**2 + sigma**2), condition)
        x0 = self.predict_x0(out, x, level, condition)
        if self.prediction_type == "eps" and free:
            return self._project(out, condition) - x0
        if bool((sigma == 0).any()):
            raise GraftError(
                f"the slope of the sampler's ODE at level 0 is not known with prediction {self.prediction_type}"
                f"{'' if free else ' and clip_sample_range'}: use "
                "model.solver Midpoint, or Heun with end=false"
            )
        return (x - (alpha + sigma) * x0) / sigma

    def ode_step(self, state: State, slope: State, level: Level, next_level: Level) -> Tensor:
        """See `Process.ode_step`."""
        x = _wide(state)
        (alpha, sigma), (to_alpha, to_sigma) = (self.alpha_sigma(u) for u in (level, next_level))
        now, then = alpha + sigma, to_alpha + to_sigma
        moved = _like(then / now, x) * x + _like(then * (to_sigma / then - sigma / now), x) * _tensor(slope)
        return moved.to(_tensor(state).dtype)

    def ode_time(self, level: Level) -> Tensor:
        r"""See `Process.ode_time`: :math:`\tau = \sigma / (\alpha + \sigma)`, whatever the schedule and the warp."""
        alpha, sigma = self.alpha_sigma(level)
        return sigma / (alpha + sigma)

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
        r"""See `Process.output_loss`: share · weight · mean squared error; cross-entropy for logits of given data.

        Target (a), the noise between x_s and x_u, s = ``since``, stands for the x_0 that Tweedie's formula makes of it,

        .. math:: (x_u - (\sigma_u^2 / \sigma_{u|s}) \epsilon) / \alpha_u
            = (x_s - (\alpha_u \sigma_s^2 / (\alpha_s \sigma_{u|s}))\,\epsilon) / \alpha_s,

        and is weighted by the share :math:`\sigma_{u|s}^2 / \sigma_u^2`. Its mean given x_u is the estimate under the
        law at s (denoising score matching, Vincent 2011); at s = 0 it is x_0 itself and the share is 1.

        The error is that of the prediction itself, p eps + q x_0, whose target is p times the noise
        :math:`(\sigma_u / \sigma_{u|s}) \epsilon` that this x_0 implies, and q times this x_0: an error of x_0 would be
        divided by sigma, which has no bound near the data.
        """
        out, x, eps = _wide(output), _wide(noisy), _wide(noise)
        if self.prediction_type == "logits" and (target is not None or bool((since == 0).all())):
            clean = _wide(state if target is None else target)
            entropy = -torch.where(clean != 0, clean / self.one_hot_scale * out.log_softmax(-1), 0.0).flatten(1).sum(1)
            return entropy * _like(self._weight(level), entropy) / (x[0].numel() / x.shape[-1])
        sigma, sigma_s = self.alpha_sigma(level)[1], self.alpha_sigma(since)[1]
        if bool((sigma_s >= SOUND * torch.finfo(_tensor(noisy).dtype).eps).all()):  # x_0 says it as well
            said, (p, q), weight = self.x0(out, x, level, condition), _parts("x0", sigma, sigma), self._weight(level)
        else:
            said = self.loss_output(out, x, level, condition)
            (p, q), weight = _parts(self.prediction_type, *self.alpha_sigma(level)), self._own_weight(level)
        error = self._off(said, p, q, eps, _wide(state), level, since, None if target is None else _wide(target))
        square = error.square().flatten(1).mean(1)
        return square * _like(weight, square)

    def _off(
        self,
        said: Tensor,
        p: Tensor,
        q: Tensor,
        eps: Tensor,
        state: Tensor,
        level: Tensor,
        since: Tensor,
        target: "Tensor | None",
    ) -> Tensor:
        """Return sqrt(share) · (``said`` − p eps − q x_0), (B, ...), as in `output_loss`; it is finite up to u = s."""
        sigma, (ratio, sigma_us) = self.alpha_sigma(level)[1], self.kernel(level, since)
        alpha_s, sigma_s = self.alpha_sigma(since)
        there = sigma > 0  # at level 0 the state is the data
        safe = torch.where(there, sigma, 1.0)
        share = torch.where(there, sigma_us / safe, 1.0)
        if target is None:
            off = _like(share, said) * (said - _like(q / alpha_s, said) * state)
            return off + _like(q * (ratio * sigma_s**2 / (alpha_s * safe)) - p, said) * eps
        off = said - _like(q, said) * target
        if not bool(p.any()):
            return off
        old = state - _like(alpha_s, said) * target  # sigma_s times the noise of x_s
        return off - _like(torch.where(there, p * ratio / safe, 0.0), said) * old - _like(p * share, said) * eps

    def loss_output(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> Tensor:
        """See `Process.loss_output`: the prediction itself; x_0 where the network says logits."""
        if self.prediction_type in ("x0", "logits"):
            return self.x0(_tensor(output), _tensor(state), level, condition)
        return self._project(_wide(output), condition)

    def loss_target(self, clean: State, noise: State, level: Level) -> Tensor:
        """See `Process.loss_target`."""
        x0, eps = _wide(clean), _wide(noise)
        if self.prediction_type in ("x0", "logits"):
            return x0
        p, q = _parts(self.prediction_type, *self.alpha_sigma(level))
        return _like(p, x0) * eps + _like(q, x0) * x0

    def x0_error(self, one: State, other: State, level: Tensor) -> Tensor:
        """See `Process.x0_error`."""
        square = (_wide(one) - _wide(other)).square().flatten(1).mean(1)
        return square * _like(self._own_weight(level), square)

    def score_gap(self, estimate: State, state: State, level: float, condition: Condition) -> Tensor:
        r"""See `Process.score_gap`: the prior is N(0, sigma_1² I).

        .. math:: \big\| (\alpha_u \hat x_0 - x_u) / \sigma_u^2 + x_u / \sigma_1^2 \big\|^2
        """
        x0, x = _double(estimate), _double(state)  # the scores may be large and nearly equal
        (alpha, sigma), (_, top) = self.alpha_sigma(level), self.alpha_sigma(1.0)
        gap = (_like(alpha, x) * x0 - x) / _like(sigma, x) ** 2 + x / _like(top, x) ** 2
        return self._project(gap, condition).square().flatten(1).sum(1)

    def _weight(self, level: Tensor) -> Tensor:
        """Of the squared error of x_0: as asked for, else |error of the prediction|² over |error of x_0|²."""
        alpha, sigma = self.alpha_sigma(level)
        if self.snr_weight_clamp is not None:
            return ((alpha / sigma) ** 2).clamp(*self.snr_weight_clamp)
        return {
            "eps": (alpha / sigma) ** 2,
            "x0": torch.ones_like(alpha),
            "logits": torch.ones_like(alpha),
            "v": ((alpha**2 + sigma**2) / sigma) ** 2,
            "velocity": ((alpha + sigma) / sigma) ** 2,
        }[self.prediction_type]

    def _own_weight(self, level: Tensor) -> Tensor:
        """Of the squared error of the prediction: 1, or what is asked for times |error of x_0|² over it."""
        alpha, sigma = self.alpha_sigma(level)
        if self.snr_weight_clamp is None:
            return torch.ones_like(alpha)
        return (
            self._weight(level)
            * {
                "eps": (sigma / alpha) ** 2,
                "x0": torch.ones_like(alpha),
                "logits": torch.ones_like(alpha),
                "v": (sigma / (alpha**2 + sigma**2)) ** 2,
                "velocity": (sigma / (alpha + sigma)) ** 2,
            }[self.prediction_type]
        )

    def _coefficients(self, level: Level, next_level: Level) -> tuple[Tensor, Tensor, Tensor]:
        """x_s = keep x_t + move x_0 + c z, float64."""
        (alpha_t, sigma_t), (alpha_s, sigma_s) = (self.alpha_sigma(u) for u in (level, next_level))
        c = self.eta * sigma_s * self.kernel(level, next_level)[1] / sigma_t
        keep = (sigma_s**2 - c**2).clamp(min=0).sqrt() / sigma_t
        return keep, alpha_s - alpha_t * keep, c

    def _project(self, x: Tensor, condition: "Condition | None") -> Tensor:
        return x if self.projection is None else self.projection(x, condition)


def _parts(prediction: Prediction, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """(p, q) of a prediction p eps + q x_0, float64; logits say x_0."""
    one, none = torch.ones_like(sigma), torch.zeros_like(sigma)
    return {"eps": (one, none), "v": (alpha, -sigma), "velocity": (one, -one)}.get(prediction, (none, one))


def _tensor(state: State) -> Tensor:
    assert isinstance(state, Tensor), (
        "a Gaussian process acts on a tensor; `MultiFieldProcess` gives one to each field of a dict"
    )
    return state


def _wide(state: State) -> Tensor:
    """In single precision at least."""
    x = _tensor(state)
    return x.to(single(x))


def _double(state: State) -> Tensor:
    x = _tensor(state)
    return x.to(double(x))


def _like(value: Tensor, x: Tensor) -> Tensor:
    """A number or one for each sample, shaped to multiply ``x``."""
    value = value.to(x.device, x.dtype)
    return value if value.ndim == 0 else value.reshape(-1, *[1] * (x.ndim - 1))


def _singular(level: float) -> GraftError:
    return GraftError(
        f"the last step to level {level:g} keeps nothing of the state with prediction x0, so it cannot be inverted: "
        "use eps, v or velocity"
    )
