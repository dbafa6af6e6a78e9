"""Parametrisations of a Gaussian process: the network's prediction and its estimate of x_0."""

from typing import Literal, TypeVar

import torch
from torch import Tensor

Prediction = Literal["eps", "x0", "v", "velocity", "logits"]
"""eps; x_0; v = alpha eps − sigma x_0 (Salimans & Ho 2022); velocity = eps − x_0; logits of a one-hot x_0."""

Number = TypeVar("Number", float, Tensor)


def x0_from(
    prediction: Prediction, output: Tensor, state: Tensor, alpha: Tensor, sigma: Tensor, one_hot_scale: float
) -> Tensor:
    """Return the (B, ...) estimate of x_0 for ``output`` at ``state`` = alpha x_0 + sigma eps."""
    if prediction == "x0":
        return output
    if prediction == "logits":
        return one_hot_scale * output.softmax(-1)
    if prediction == "eps":
        return (state - sigma * output) / alpha
    if prediction == "v":
        return (alpha * state - sigma * output) / (alpha**2 + sigma**2)
    return (state - sigma * output) / (alpha + sigma)


def x0_coefficients(prediction: Prediction, alpha: Number, sigma: Number) -> tuple[Number, Number]:
    """Return (a, b) with x_0 = a x − b output; logits count as x_0."""
    if prediction == "eps":
        return 1 / alpha, sigma / alpha
    if prediction == "v":
        return alpha / (alpha**2 + sigma**2), sigma / (alpha**2 + sigma**2)
    if prediction == "velocity":
        return 1 / (alpha + sigma), sigma / (alpha + sigma)
    return 0 * alpha, 0 * alpha - 1


def target_coefficients(prediction: Prediction, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return (p, q), float64, with prediction = p eps + q x_0; logits count as x_0."""
    one, none = torch.ones_like(sigma), torch.zeros_like(sigma)
    return {"eps": (one, none), "v": (alpha, -sigma), "velocity": (one, -one)}.get(prediction, (none, one))


def x0_weight(prediction: Prediction, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return |error of the prediction|² / |error of x_0|², float64, of the shape of ``alpha``."""
    if prediction == "eps":
        return (alpha / sigma) ** 2
    if prediction == "v":
        return ((alpha**2 + sigma**2) / sigma) ** 2
    if prediction == "velocity":
        return ((alpha + sigma) / sigma) ** 2
    return torch.ones_like(alpha)
