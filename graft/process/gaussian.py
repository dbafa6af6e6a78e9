r"""Gaussian processes: DDPM, EDM-style and flow matching as settings of one class.

`GaussianPath` noises states, `GaussianLoss` has the loss, and `Gaussian` steps back:

.. math:: x_s = \alpha_s \hat x_0 + \sqrt{\sigma_s^2 - c^2}\,(x_t - \alpha_t \hat x_0) / \sigma_t + c z, \quad
    c = \min(\eta\, \sigma_{t|s} / \sigma_t,\, 1)\, \sigma_s
"""

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Generator, Tensor
from typing_extensions import override

from graft.core.state import Condition, State, as_tensor, broadcast_to
from graft.errors import GraftError
from graft.process.arguments import Level
from graft.process.gaussian_loss import GaussianLoss
from graft.process.precision import single, to_double, to_single
from graft.process.predictions import Prediction, x0_coefficients
from graft.process.projections import Projection
from graft.process.ranges import require
from graft.process.schedules import Schedule

LEAST_SIGNAL = 3e-3
"""Least alpha at level 1 for eps prediction without clipping: EDM's schedule, which predicts eps, keeps 3.2e-3."""


class Gaussian(GaussianLoss):
    """x_t = alpha_t x_0 + sigma_t eps on a tensor, for any schedule, warp and parametrisation.

    Args:
        schedule: alpha(t) and sigma(t).
        prediction_type: Output of the network: ``eps``; ``x0``; ``v`` = alpha eps − sigma x_0 (Salimans & Ho 2022);
            ``velocity`` = eps − x_0, the flow's dx/dt; ``logits`` of a one-hot field, x_0 = scale · softmax.
        shape: Shape of one sample, without the batch dimension.
        eta: Noise of a step (Song et al. 2021, eq. 16): 1 is the ancestral sampler that reverses the process in
            distribution, 0 is the deterministic sampler (DDIM; for `LinearSchedule`, Euler's method on the flow). Above
            1 a step draws more noise and removes more, which corrects errors of the steps before it (as the noise of
            Karras et al. 2022, section 4, does). Small steps have the same marginals for every eta; large steps with
            eta far above 1 make samples more alike.
        eta_above: Level above which steps take ``eta``; steps from this level down are ancestral, so that objectives
            that need a sampler that reverses the process below u* can be used with u* up to this level.
        warp: Exponent of the clock, t = u^warp; 2 halves the steps that molecules need.
        snr_weight_clamp: Bounds of the loss's weight SNR = alpha²/sigma² on the squared error of x_0; ``null`` weighs
            all levels alike in the error of the prediction itself.
        one_hot_scale: Size of a one-hot field's 1.
        projection: Projection (x, condition) -> x onto the subspace in which states live (zero centre of mass, masks);
            it is applied to noise, states and predictions.
        clip_sample_range: Largest magnitude of an estimate of x_0 in sampling, as diffusers' schedulers have it with
            ``clip_sample``; ``null`` for no bound. The losses are not clipped. Clipped steps cannot be inverted.

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
        eta_above: float = 0.0,
    ) -> None:
        super().__init__(shape, warp, projection)
        self.schedule, self.prediction_type, self.eta = schedule, prediction_type, eta
        self.snr_weight_clamp, self.one_hot_scale = snr_weight_clamp, one_hot_scale
        self.clip_sample_range, self.eta_above = clip_sample_range, eta_above
        self._check()

    def _check(self) -> None:
        """Raise GraftError if a setting is out of its range."""
        eta, weight, clip = self.eta, self.snr_weight_clamp, self.clip_sample_range
        require(0 <= eta < math.inf, "eta", eta, "be at least 0 and finite: 0 is DDIM, 1 the ancestral sampler")
        require(0 <= self.eta_above <= 1, "eta_above", self.eta_above, "be a level, from 0 to 1")
        require(0 < self.one_hot_scale < math.inf, "one_hot_scale", self.one_hot_scale, "be positive")
        if weight is not None:
            right = len(weight) == 2 and 0 <= weight[0] <= weight[1] < math.inf
            require(right, "snr_weight_clamp", list(weight), "be two finite bounds of at least 0, in order")
        if clip is not None:
            require(0 < clip < math.inf, "clip_sample_range", clip, "be positive", "Leave it out, so as not to clip")
        names, predictions = ", ".join(get_args(Prediction)), get_args(Prediction)
        require(self.prediction_type in predictions, "prediction_type", self.prediction_type, f"be one of {names}")
        alpha, schedule = float(self.alpha_sigma(1.0)[0]), type(self.schedule).__name__
        if self.prediction_type == "eps" and alpha == 0:
            raise GraftError(
                "`prediction_type` is 'eps', which says nothing about x_0 where alpha is 0, as "
                f"{schedule} has it at level 1; it must be x0, v or velocity. Change it in the process"
            )
        if self.prediction_type == "eps" and alpha < LEAST_SIGNAL and clip is None:
            raise GraftError(
                f"`prediction_type` is 'eps', which says next to nothing about x_0 where alpha is {alpha:.2g}, as "
                f"{schedule} has it at level 1; alpha must be at least {LEAST_SIGNAL:g}. Use x0, v or velocity, or "
                "`clip_sample_range`, the largest magnitude of data (1 in diffusers)"
            )

    @property
    @override
    def stochastic(self) -> bool:
        return self.eta > 0 or self.eta_above > 0

    @property
    @override
    def invertible(self) -> bool:
        return not self.stochastic and self.clip_sample_range is None

    @property
    @override
    def why_not_invertible(self) -> str:
        if not self.stochastic and self.clip_sample_range is not None:
            return "clips its estimates of x_0, so its steps cannot be inverted: leave out clip_sample_range"
        return super().why_not_invertible

    @override
    def reverses_in_distribution(self, level: float) -> bool:
        """Return True where steps are ancestral, the only ones with the forward process's joint distribution."""
        return self.eta == 1 or level <= self.eta_above

    @property
    @override
    def has_log_prob(self) -> bool:
        return self.eta > 0

    @override
    def predict_x0(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> Tensor:
        """Return the estimate (B, ...), clipped to `clip_sample_range`."""
        x0 = self.x0(as_tensor(output), as_tensor(state), level, condition)
        if self.clip_sample_range is None:
            return x0
        return self._project(x0.clamp(-self.clip_sample_range, self.clip_sample_range), condition)

    # Steps

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
        mean, c = self.transition(output, state, level, next_level, condition)
        sampled = mean + c * self.noise(mean, condition, generator) if float(c) > 0 else mean
        return sampled.to(as_tensor(state).dtype)

    def transition(
        self, output: State, state: State, level: Level, next_level: Level, condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """Return the mean (B, ...) and the standard deviation of `denoise_step` at ``next_level``.

        The deviation is a scalar, or (B, 1, ...), one for each sample.
        """
        x = to_single(state)
        x0 = self.predict_x0(output, x, level, condition)
        keep, move, c = (v if v.ndim == 0 else broadcast_to(v, x) for v in self._coefficients(level, next_level))
        return keep * x + move * x0, c

    def _coefficients(self, level: Level, next_level: Level) -> tuple[Tensor, Tensor, Tensor]:
        """Return (keep, move, c) of x_s = keep x_t + move x_0 + c z, float64."""
        (alpha_t, sigma_t), (alpha_s, sigma_s) = (self.alpha_sigma(u) for u in (level, next_level))
        eta = torch.where(torch.as_tensor(level) > self.eta_above, self.eta, 1.0).to(sigma_s)
        c = torch.minimum(eta * sigma_s * self.kernel(level, next_level)[1] / sigma_t, sigma_s)
        keep = (sigma_s**2 - c**2).clamp(min=0).sqrt() / sigma_t
        return keep, alpha_s - alpha_t * keep, c

    @override
    def invert_step(self, output: State, state: State, level: float, next_level: float, condition: Condition) -> Tensor:
        """Return `denoise_step` solved for x_t; ``output`` is the output for a guess of x_t.

        The map is written with the prediction itself, so that it contracts wherever the step is small, up to level 1
        where alpha is 0.

        Raises:
            GraftError: The step to ``next_level`` forgets its state, so it has no inverse.
        """
        x, out = to_single(state), to_single(output)
        keep, move, _ = (float(c) for c in self._coefficients(level, next_level))
        alpha, sigma = (float(c) for c in self.alpha_sigma(level))
        if self.prediction_type in ("x0", "logits"):
            if keep == 0:
                raise GraftError(
                    f"the last step to level {next_level:g} keeps nothing of the state with prediction x0, so it "
                    "cannot be inverted: use eps, v or velocity"
                )
            x0 = self._project(out if self.prediction_type == "x0" else self.one_hot_scale * out.softmax(-1), condition)
            return ((x - move * x0) / keep).to(as_tensor(state).dtype)
        a, b = x0_coefficients(self.prediction_type, alpha, sigma)  # so that x_s = (keep + move a) x_t − move b out
        return ((x + move * b * self._project(out, condition)) / (keep + move * a)).to(as_tensor(state).dtype)

    # The ODE of the deterministic sampler

    @override
    def ode_velocity(self, output: State, state: State, level: Level, condition: Condition) -> Tensor:
        r"""Return (B, ...) E[ε − x_0 | x_u], the slope of x / (α + σ) over σ / (α + σ).

        Raises:
            GraftError: ``level`` is 0, where estimates of x_0 give no slope.
        """
        x, out = to_single(state), to_single(output)
        alpha, sigma = (broadcast_to(c, x) for c in self.alpha_sigma(level))
        clips = self.clip_sample_range is not None
        if self.prediction_type == "velocity" and not clips:
            return self._project(out, condition)
        if self.prediction_type == "v" and not clips:
            return self._project(((alpha + sigma) * out + (sigma - alpha) * x) / (alpha**2 + sigma**2), condition)
        x0 = self.predict_x0(out, x, level, condition)
        if self.prediction_type == "eps" and not clips:
            return self._project(out, condition) - x0
        if bool((sigma == 0).any()):
            raise GraftError(
                f"the slope of the sampler's ODE at level 0 is not known with prediction {self.prediction_type}"
                f"{' and clip_sample_range' if clips else ''}: use model.solver Midpoint, or Heun with "
                "evaluate_at_zero=false"
            )
        return (x - (alpha + sigma) * x0) / sigma

    @override
    def ode_step(self, state: State, slope: State, level: Level, next_level: Level) -> Tensor:
        x = to_single(state)
        (alpha, sigma), (to_alpha, to_sigma) = (self.alpha_sigma(u) for u in (level, next_level))
        now, then = alpha + sigma, to_alpha + to_sigma
        along = broadcast_to(then * (to_sigma / then - sigma / now), x)
        return (broadcast_to(then / now, x) * x + along * as_tensor(slope)).to(as_tensor(state).dtype)

    @override
    def ode_time(self, level: Level) -> Tensor:
        r"""Return :math:`\tau = \sigma / (\alpha + \sigma)`, for any schedule and warp."""
        alpha, sigma = self.alpha_sigma(level)
        return sigma / (alpha + sigma)

    # Densities, in double precision, since c may be small

    @override
    def log_prob(
        self, output: State, state: State, next_state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """Return the (B,) log density in nats of N(mean, c² I) on the subspace.

        Raises:
            GraftError: The step draws no noise: eta is 0, or the step ends at level 0.
        """
        dtype = single(as_tensor(state))
        output, state, next_state = (to_double(s) for s in (output, state, next_state))
        mean, c = self.transition(output, state, level, next_level, condition)
        _require_noise(c)
        square = ((next_state - mean) / c).square().flatten(1).sum(1)
        dimension: Tensor | float = (
            mean[0].numel() if self.projection is None else self.projection.dimension(mean, condition)
        )
        deviation = c if c.ndim == 0 else c.flatten()
        return (-square / 2 - dimension * (deviation.log() + math.log(2 * math.pi) / 2)).to(dtype)

    @override
    def step_kl(
        self, output: State, other: State, state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """Return the (B,) KL(p‖q) = |μ_p − μ_q|² / (2 c²) in nats; c is the standard deviation of both.

        Raises:
            GraftError: The step draws no noise: eta is 0, or the step ends at level 0.
        """
        dtype = single(as_tensor(state))
        output, other, state = (to_double(s) for s in (output, other, state))
        mean, c = self.transition(output, state, level, next_level, condition)
        _require_noise(c)
        other_mean, _ = self.transition(other, state, level, next_level, condition)
        return (((mean - other_mean) / c).square().flatten(1).sum(1) / 2).to(dtype)

    @override
    def score_gap(self, estimate: State, state: State, level: float, condition: Condition) -> Tensor:
        r"""Return the (B,) squared distance of the scores, where the prior is N(0, sigma_1² I).

        .. math:: \big\| (\alpha_u \hat x_0 - x_u) / \sigma_u^2 + x_u / \sigma_1^2 \big\|^2
        """
        x0, x = to_double(estimate), to_double(state)  # the scores may be large and nearly equal
        (alpha, sigma), (_, top) = self.alpha_sigma(level), self.alpha_sigma(1.0)
        gap = (broadcast_to(alpha, x) * x0 - x) / broadcast_to(sigma, x) ** 2 + x / broadcast_to(top, x) ** 2
        return self._project(gap, condition).square().flatten(1).sum(1)


def _require_noise(deviation: Tensor) -> None:
    if not bool((deviation > 0).all()):
        raise GraftError(
            "a step that draws no noise has no log-probability: it needs eta > 0, and the step to level 0 has none"
        )
