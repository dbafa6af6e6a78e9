"""Check every optimizer step: a non-finite loss, gradient or weight ends the run."""

import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from typing_extensions import override

from graft.core.distributed import gathered
from graft.core.finite import NotFiniteError, extremes, first_not_finite, gradient_norm, tensors_in
from graft.runs import interruption


class FiniteSteps(Callback):
    """Ends training before an optimizer step that would make weights NaN or infinite.

    The check reads the losses of a step and the norm of its gradient. Clipping needs the norm anyway, so the check
    takes one transfer from the device per step. A non-finite loss on one rank makes the mean gradient non-finite, so
    all ranks end together.

    Under a gradient scaler (``trainer.precision=16-mixed``) the scaler skips a step with an overflow. The callback ends
    the run only if the scale is below 1.

    Args:
        setting: Name of the learning rate setting, for the message.

    Attributes:
        norm: Norm of the gradient of the current step; None before the first step.
    """

    def __init__(self, setting: str = "model.optimizer.lr") -> None:
        self.setting = setting
        self.norm: Tensor | None = None
        self._value = math.nan
        self._losses: list[Tensor] = []
        self._batch: Any = None
        self._earlier: list[Tensor] = []  # extremes of the earlier accumulated batches of a step

    @override
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Store the batch, for the message of an error."""
        if self._losses and self._batch is not None:
            self._earlier += [extremes(each) for each in tensors_in(self._batch)]
        self._batch = batch

    @override
    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """Store the loss; with several ranks, make the gradient of a non-finite loss non-finite."""
        value = loss.detach()
        self._losses.append(value)
        if trainer.world_size > 1 and loss.requires_grad:
            loss.register_hook(lambda gradient: gradient * (1 + 0 * value))  # type: ignore[no-untyped-call]

    @override
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Raise NotFiniteError if the loss or the gradient of the step is not finite."""
        self.norm = gradient_norm(_parameters(optimizer))
        norm = self.norm.full_tensor() if isinstance(self.norm, DTensor) else self.norm
        *losses, self._value = torch.stack([each.float().to(norm.device) for each in (*self._losses, norm)]).tolist()
        self._losses = []
        if all(map(math.isfinite, (*losses, self._value))):
            self._batch, self._earlier = None, []
            return
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        bad = [each for each in losses if not math.isfinite(each)]
        if scaler is not None:  # the scaler multiplied the loss, so infinity may be an overflow
            bad = [each for each in bad if math.isnan(each)]
        found: dict[str, Any] = {
            "loss": bad[0] if bad else None,
            "data": self._damaged(),
            "weight": _damaged(pl_module),
        }
        self._batch, self._earlier = None, []
        by_rank = gathered(trainer, found)
        first = {name: next((each[name] for each in by_rank if each[name]), None) for name in found}
        if scaler is not None and not any(first.values()) and float(scaler.get_scale()) >= 1:
            return
        raise NotFiniteError(self._sentence(trainer, optimizer, first))

    def clip(self, optimizer: Any, largest: float) -> None:
        """Scale the gradients of the step to a norm of at most ``largest``.

        The result equals that of `torch.nn.utils.clip_grad_norm_`.
        """
        assert self.norm is not None
        if largest / (self._value + 1e-6) < 1:  # the condition of torch; otherwise the factor is 1
            nn.utils.clip_grads_with_norm_(_parameters(optimizer), largest, self.norm)

    def _damaged(self) -> bool:
        """Return True if a batch of the step holds NaN or infinity."""
        return any(
            not bool(each.isfinite().all()) for each in (*self._earlier, *map(extremes, tensors_in(self._batch)))
        )

    def _sentence(self, trainer: Any, optimizer: Any, found: "dict[str, Any]") -> str:
        step = trainer.global_step + 1
        rate = f"lower {self.setting} (now {optimizer.param_groups[0]['lr']:g})"
        if found["weight"]:
            what = f"the weights are not finite after step {step - 1} (first: {found['weight']}): {rate}"
        elif found["data"]:
            what = f"the batch of step {step} holds values that are not finite: fix the training data"
        else:
            what = f"the {'loss' if found['loss'] else 'gradient'} of step {step} is {found['loss'] or self._value:g}: "
            what += rate + (" or use trainer.precision=bf16-mixed" if str(trainer.precision).startswith("16") else "")
        return f"{what}; {last_good(trainer)}"


def find_finite_steps(trainer: Any) -> "FiniteSteps | None":
    """Return the `FiniteSteps` callback of a trainer, or None."""
    return next((each for each in trainer.callbacks if isinstance(each, FiniteSteps)), None)


def clip(trainer: Any, optimizer: Any, value: "float | None", algorithm: "str | None") -> bool:
    """Clip gradients by the norm of the check of the step; return False if Lightning must clip."""
    check = find_finite_steps(trainer)
    scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
    if not value or check is None or scaled or algorithm not in (None, "norm"):
        return False
    check.clip(optimizer, value)
    return True


def last_good(trainer: Any) -> str:
    """Return a phrase with the path of the last weights that a run wrote."""
    run = interruption.find_interruption(trainer)
    rounds = sorted((run.folder / "rounds").glob("*/tuned.safetensors"), key=_number) if run is not None else []
    checkpoint = run.folder / "checkpoints" / "last.ckpt" if run is not None else None
    if rounds:
        return f"the last good weights are in {rounds[-1]}"
    if checkpoint is not None and checkpoint.exists():
        return f"the last good weights are in {checkpoint}"
    return "no weights were written"


def _number(path: Path) -> int:
    return int(path.parent.name) if path.parent.name.isdigit() else -1


def _parameters(optimizer: Any) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _damaged(module: nn.Module) -> "str | None":
    return first_not_finite(module.named_parameters())
