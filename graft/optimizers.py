"""The default optimizer, and learning-rate schedules that need the number of steps of a run."""

import math
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from graft.core import limits
from graft.errors import GraftError


class FusedAdamW(AdamW):
    """AdamW (Loshchilov & Hutter 2019) with one fused update and no weight decay by default.

    Args:
        params: The parameters.
        lr: Learning rate.
        betas: Decay of the averages of the gradient and of its square.
        eps: Number that is added to the denominator.
        weight_decay: Decoupled weight decay.

    Raises:
        GraftError: ``lr`` or ``weight_decay`` is negative.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        limits.check("model.optimizer.lr", lr, 0)
        limits.check("model.optimizer.weight_decay", weight_decay, 0)
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)


def check_optimizer(optimizer: OptimizerCallable, lr_scheduler: "LRSchedulerCallable | None") -> None:
    """Raise GraftError if an optimizer or a schedule cannot be made with its settings."""
    try:
        trial: Any = optimizer([nn.Parameter(torch.zeros(1))])
        for name in ("lr", "weight_decay"):
            if name in trial.defaults:
                limits.check(f"model.optimizer.{name}", float(trial.defaults[name]), 0)
        if lr_scheduler is not None:
            lr_scheduler(trial)
    except (TypeError, ValueError) as error:
        raise GraftError(f"model.optimizer or model.lr_scheduler cannot be made: {error}. Check its settings") from None


def configure_optimizers(
    trainer: Any,
    parameters: "list[nn.Parameter]",
    optimizer: OptimizerCallable,
    lr_scheduler: "LRSchedulerCallable | None",
) -> Any:
    """Return the optimizer and the schedule in the form that Lightning asks for.

    Args:
        trainer: The trainer of the run.
        parameters: The trained parameters.
        optimizer: Makes the optimizer.
        lr_scheduler: Makes the schedule; None for no schedule.
    """
    made: Optimizer = optimizer(parameters)
    if str(trainer.precision).endswith("-mixed"):
        made = without_fused_update(made)
    if lr_scheduler is None:
        return made
    schedule: Any = lr_scheduler(made)
    if isinstance(schedule, ReduceLROnPlateau):
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "monitor": schedule.monitor}}
    if isinstance(schedule, Warmup) and schedule.total_steps is None:
        # Trainer.estimated_stepping_batches would load the data, which runs a whole round
        per_round = getattr(getattr(trainer, "datamodule", None), "steps_per_epoch", None)
        steps = trainer.estimated_stepping_batches if per_round is None else per_round * (trainer.max_epochs or 1)
        schedule.total_steps = int(steps if trainer.max_steps < 0 else min(steps, trainer.max_steps))
    return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def without_fused_update(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer without a fused update, which Lightning cannot clip in mixed precision."""
    if optimizer.defaults.get("fused"):
        for group in [optimizer.defaults, *optimizer.param_groups]:
            group["fused"] = False
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


class Warmup(LambdaLR):
    """Raise the learning rate linearly over the first steps, then keep it.

    Args:
        optimizer: The optimizer.
        warmup_steps: Number of steps below the full learning rate.
        total_steps: Number of steps of the run; None: graft sets it.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int = 0, total_steps: "int | None" = None) -> None:
        limits.check("model.lr_scheduler.warmup_steps", warmup_steps, 0, limits.MOST_WARMUP)
        self.warmup_steps, self.total_steps = warmup_steps, total_steps
        super().__init__(optimizer, lambda step: self.factor(step))

    def factor(self, step: int) -> float:
        """Return the factor of the learning rate at a step."""
        return min(1.0, (step + 1) / (self.warmup_steps + 1))

    @override
    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = super().state_dict()
        del state["total_steps"]  # a run that is resumed may be longer
        return state


class WarmupCosine(Warmup):
    """Raise the learning rate linearly over the first steps, and let it fall to 0 as a half cosine over the run."""

    @override
    def factor(self, step: int) -> float:
        done = 0.0 if self.total_steps is None else min(1.0, step / self.total_steps)
        return super().factor(step) * (0.5 + 0.5 * float(torch.cos(torch.tensor(math.pi * done))))
