"""The loss of `Gaussian`: its targets, its weights, and its space of squared distances."""

import torch
from torch import Tensor
from typing_extensions import override

from graft.core.state import Condition, State, as_tensor, broadcast_to
from graft.process.arguments import Level, NoisyExample
from graft.process.gaussian_path import GaussianPath
from graft.process.precision import to_single
from graft.process.predictions import target_coefficients, x0_coefficients, x0_weight

SOUND = 1e6
"""Least sigma, in units of the rounding error, at which an error of x_0 may be divided by it."""


class GaussianLoss(GaussianPath):
    """The training half of `Gaussian`, which sets the attributes.

    Attributes:
        snr_weight_clamp: Bounds of the weight SNR on the squared error of x_0; None weighs all levels alike in the
            error of the prediction.
    """

    snr_weight_clamp: "tuple[float, float] | None"

    @override
    def output_loss(self, output: State, example: NoisyExample, condition: Condition) -> Tensor:
        r"""Return (B,) share · weight · mean squared error, or the cross-entropy of logits.

        The cross-entropy needs data: ``from_level`` is 0, or a ``target`` is given.

        Target (a), the noise between x_s and x_u, s = ``from_level``, stands for the x_0 of Tweedie's formula,

        .. math:: (x_u - (\sigma_u^2 / \sigma_{u|s}) \epsilon) / \alpha_u
            = (x_s - (\alpha_u \sigma_s^2 / (\alpha_s \sigma_{u|s}))\,\epsilon) / \alpha_s,

        and is weighted by the share :math:`\sigma_{u|s}^2 / \sigma_u^2`. Its mean given x_u is the estimate under the
        distribution at s (denoising score matching, Vincent 2011). At s = 0 it is x_0 itself and the share is 1.

        The error is the error of the prediction p eps + q x_0. Its target is p times the noise
        :math:`(\sigma_u / \sigma_{u|s}) \epsilon` that this x_0 implies, and q times this x_0. An error of x_0 would be
        divided by sigma, which has no bound near the data.
        """
        out, x, level, from_level = to_single(output), to_single(example.noisy), example.level, example.from_level
        if self.prediction_type == "logits" and (example.target is not None or bool((from_level == 0).all())):
            clean = to_single(example.state if example.target is None else example.target)
            entropy = -torch.where(clean != 0, clean / self.one_hot_scale * out.log_softmax(-1), 0.0).flatten(1).sum(1)
            return entropy * broadcast_to(self._x0_weight(level), entropy) / (x[0].numel() / x.shape[-1])
        sigma, sigma_s = self.alpha_sigma(level)[1], self.alpha_sigma(from_level)[1]
        # where sigma is large enough to divide by, the error of x_0 is as precise as that of the prediction
        if bool((sigma_s >= SOUND * torch.finfo(as_tensor(example.noisy).dtype).eps).all()):
            predicted = self.x0(out, x, level, condition)
            (p, q), weight = target_coefficients("x0", sigma, sigma), self._x0_weight(level)
        else:
            predicted = self.loss_output(out, x, level, condition)
            p, q = target_coefficients(self.prediction_type, *self.alpha_sigma(level))
            weight = self._prediction_weight(level)
        square = self._weighted_error(predicted, p, q, example).square().flatten(1).mean(1)
        return square * broadcast_to(weight, square)

    def _weighted_error(self, predicted: Tensor, p: Tensor, q: Tensor, example: NoisyExample) -> Tensor:
        """Return (B, ...) sqrt(share) · (``predicted`` − p eps − q x_0) of `output_loss`.

        It is finite up to u = s.
        """
        state, eps = to_single(example.state), to_single(example.noise)
        sigma, (ratio, sigma_us) = self.alpha_sigma(example.level)[1], self.kernel(example.level, example.from_level)
        alpha_s, sigma_s = self.alpha_sigma(example.from_level)
        is_noisy = sigma > 0  # at level 0 the state is the data
        safe = torch.where(is_noisy, sigma, 1.0)
        share = torch.where(is_noisy, sigma_us / safe, 1.0)
        if example.target is None:
            error = broadcast_to(share, predicted) * (predicted - broadcast_to(q / alpha_s, predicted) * state)
            return error + broadcast_to(q * (ratio * sigma_s**2 / (alpha_s * safe)) - p, predicted) * eps
        target = to_single(example.target)
        error = predicted - broadcast_to(q, predicted) * target
        if not bool(p.any()):
            return error
        noise_s = state - broadcast_to(alpha_s, predicted) * target  # sigma_s times the noise of x_s
        by_noise_s = broadcast_to(torch.where(is_noisy, p * ratio / safe, 0.0), predicted)
        return error - by_noise_s * noise_s - broadcast_to(p * share, predicted) * eps

    @override
    def loss_output(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> Tensor:
        """Return the prediction itself, or x_0 for logits."""
        if self.prediction_type in ("x0", "logits"):
            return self.x0(as_tensor(output), as_tensor(state), level, condition)
        return self._project(to_single(output), condition)

    @override
    def loss_target(self, clean: State, noise: State, level: Level) -> Tensor:
        x0, eps = to_single(clean), to_single(noise)
        if self.prediction_type in ("x0", "logits"):
            return x0
        p, q = target_coefficients(self.prediction_type, *self.alpha_sigma(level))
        return broadcast_to(p, x0) * eps + broadcast_to(q, x0) * x0

    @override
    def x0_error(self, one: State, other: State, level: Tensor) -> Tensor:
        square = (to_single(one) - to_single(other)).square().flatten(1).mean(1)
        return square * broadcast_to(self._prediction_weight(level), square)

    def _x0_weight(self, level: Tensor) -> Tensor:
        """Return the (B,) weight of the squared error of x_0, float64."""
        alpha, sigma = self.alpha_sigma(level)
        if self.snr_weight_clamp is not None:
            return ((alpha / sigma) ** 2).clamp(*self.snr_weight_clamp)
        return x0_weight(self.prediction_type, alpha, sigma)

    def _prediction_weight(self, level: Tensor) -> Tensor:
        """Return the (B,) weight of the squared error of the prediction, float64."""
        alpha, sigma = self.alpha_sigma(level)
        if self.snr_weight_clamp is None:
            return torch.ones_like(alpha)
        return self._x0_weight(level) * x0_coefficients(self.prediction_type, alpha, sigma)[1] ** 2
