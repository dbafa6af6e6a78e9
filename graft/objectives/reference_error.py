r"""The error of a reference on its own samples, compared with what a selection of them says.

A network D that samples without error is the best denoiser of its own samples: the gradient of the denoising loss on
all of them is 0 at D. An untrained network, too few sampler steps or classifier-free guidance break this. Training on
the accepted samples then follows two gradients,

.. math:: g_{acc} = g_{all} + g_{sel}, \qquad g_{all} = E[\nabla \ell], \quad g_{sel} = E[(w - 1) \nabla \ell],

with the acceptance weight w of mean 1: the first repeats the reference's error, the second is what acceptance says.
Their squared norms are estimated without bias from the products of different batches of different samples. A coordinate
is divided by the root mean square of its gradient over the batches, as Adam does.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graft.core import seeding
from graft.core.datatypes import TrainingBatch
from graft.core.state import size
from graft.network import eval_mode
from graft.policy import Policy

BATCHES = 16
BATCH_SIZE = 32
"""Largest number of samples in a batch."""
COORDINATES = 200_000
"""Largest number of parameters that are compared; a random part of a larger network."""
QUANTILE = 1.645
"""Quantile 0.95 of the standard normal distribution, for one-sided lower bounds."""
LIMIT = 0.5
"""Lower bound of the ratio above which the reference is not consistent with its own draws."""


@dataclass(frozen=True)
class ErrorRatio:
    """The squared norm of the gradient on all samples, divided by that of the selection.

    Attributes:
        ratio: The estimate; None if the selection's squared norm is not above 0, within its error.
        lower: Lower end of its one-sided 95 % interval; None if it has none.
    """

    ratio: "float | None"
    lower: "float | None"

    @property
    def is_large(self) -> bool:
        """Return True if the reference's error is large for certain, compared with the selection."""
        return self.lower is None or self.lower > LIMIT

    def __str__(self) -> str:
        if self.lower is None:
            return "not bounded, because the selection's gradient is too small to measure"
        ratio = "unknown" if self.ratio is None else f"{self.ratio:.2g}"
        return f"{ratio} (95 % lower bound {self.lower:.2g})"


def chosen_samples(count: int, seed: int) -> Tensor:
    """Return the ascending positions of the samples of a round that are compared: a random part of a large round."""
    order = torch.randperm(count, generator=seeding.make_generator(seed, "reference error", "samples"))
    return order[: BATCHES * BATCH_SIZE].sort().values


def reference_error(
    policy: Policy,
    batch: TrainingBatch,
    seed: int,
    context: "Callable[[], AbstractContextManager[object]]" = nullcontext,
    move: "Callable[[TrainingBatch], TrainingBatch]" = lambda batch: batch,
) -> "ErrorRatio | None":
    """Return the error of the policy's network on samples that it drew.

    The result is None for fewer than 32 samples, and for gradients that are not finite.

    Args:
        policy: The policy that drew the samples. Its tuned network still equals the reference.
        batch: All samples of a round as an objective trains on them, with their acceptance weights, 0 if rejected.
        seed: Seed of the batches and the noise.
        context: Context of a training step, such as that of the precision.
        move: Function that moves a batch to the network's device.
    """
    count = min(size(batch.condition) // BATCHES, BATCH_SIZE)
    if count < 2 or batch.weight is None:
        return None
    generator = seeding.make_generator(seed, "reference error")
    order = torch.randperm(size(batch.condition), generator=generator)[: BATCHES * count].view(BATCHES, count)
    weight = batch.weight / batch.weight.mean()
    parameters = [parameter for parameter in policy.backbone.parameters() if parameter.requires_grad]
    chosen = _coordinates(parameters, generator)
    every, selected = list[Tensor](), list[Tensor]()
    with eval_mode(policy.backbone):
        for number, rows in enumerate(order):
            gradients = list[Tensor]()
            for weights in (None, weight[rows]):
                part = move(replace(batch.take(rows), weight=weights))
                with context():
                    loss = policy.loss(part, seeding.make_generator(seed, "reference error", number))  # the same noise
                gradients.append(_gradient(loss, parameters, chosen))
            on_all, on_accepted = gradients
            every.append(on_all)
            selected.append(on_accepted - on_all)
    both = torch.stack(every), torch.stack(selected)
    if not all(bool(each.isfinite().all()) for each in both):
        return None  # the first step of training raises, and says what to do
    return compare_gradients(*both)


def compare_gradients(every: Tensor, selected: Tensor) -> ErrorRatio:
    """Return the ratio of squared norms of two mean gradients, with its lower bound.

    The lower bound is Fieller's (1954), with the variances of the two U-statistics.

    Args:
        every: (K, P) gradients of K batches on all samples.
        selected: (K, P) gradients of the selection in the same batches.
    """
    scale = (every + selected).square().mean(0).sqrt()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale)).sqrt()
    (a, da), (s, ds) = (_squared_norm(each / scale) for each in (every, selected))
    n = len(da)
    aa, ss, both = (QUANTILE**2 * float((x * y).sum()) / (n * (n - 1)) for x, y in ((da, da), (ds, ds), (da, ds)))
    ratio = a / s if s > 0 else None
    if a <= math.sqrt(aa):
        return ErrorRatio(ratio if ratio is None else max(ratio, 0.0), 0.0)
    # the smallest r >= 0 with (a - r s)^2 = aa - 2 r both + r^2 ss and a - r s > 0
    square, half, rest = s**2 - ss, a * s - both, a**2 - aa
    root = math.sqrt(max(half**2 - square * rest, 0.0))
    ends = (rest / end for end in (half + root, half - root) if end)
    fitting = [end for end in ends if end >= 0 and a - end * s >= 0]
    return ErrorRatio(ratio, min(fitting, default=None))


def _squared_norm(gradients: Tensor) -> tuple[float, Tensor]:
    """Return the unbiased squared norm of the mean of (K, P) gradients, and (K,) influences of the batches on it."""
    products = (gradients @ gradients.T).double().cpu()
    products.fill_diagonal_(0)
    rows = products.sum(1) / (len(products) - 1)
    return float(rows.mean()), 2 * (rows - rows.mean())


def _coordinates(parameters: "list[torch.nn.Parameter]", generator: torch.Generator) -> "list[Tensor | None]":
    """Return the positions of the parameters that are compared, in each tensor; None for all."""
    total = sum(parameter.numel() for parameter in parameters)
    if total <= COORDINATES:
        return [None] * len(parameters)
    share = COORDINATES / total
    return [
        torch.randint(each.numel(), (max(1, round(share * each.numel())),), generator=generator).to(each.device)
        for each in parameters
    ]


def _gradient(loss: Tensor, parameters: "list[torch.nn.Parameter]", chosen: "list[Tensor | None]") -> Tensor:
    """Return (P,) the gradient of a loss at the chosen coordinates."""
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    parts = [
        (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
        for gradient, parameter in zip(gradients, parameters, strict=True)
    ]
    return torch.cat([part if at is None else part[at] for part, at in zip(parts, chosen, strict=True)]).float()
