"""graft's part of Lightning's hooks, kept out of the module, where a domain that overrides a hook would lose it."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from graft.distributed import shared_errors
from graft.errors import GraftError
from graft.finite import NotFiniteError, require_finite_weights
from graft.runs import interruption
from graft.runs.checkpoint import require_finite
from graft.runs.finite_steps import FiniteSteps

NOT_WRITTEN, LOWER = "the checkpoint was not written", "lower model.learning_rate"


class Hooks(Callback):
    """Run graft's part of the hooks of a `graft.GraftModule`.

    Lightning calls the hook of a callback and then the hook of the module. A domain can thus override any hook, with or
    without a call of ``super()``.
    """

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the average of the weights; then end the run where a signal asked for it."""
        whole = not (batch_idx + 1) % trainer.accumulate_grad_batches
        if pl_module.average is not None and (whole or batch_idx + 1 == trainer.num_training_batches):
            pl_module.average.update(pl_module.backbone)
        if (asked := interruption.find_interruption(trainer)) is not None:
            asked.step(trainer, batch_idx)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start to evaluate the tuned model."""
        pl_module.start_judging("tuned")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Log the evaluation of the tuned model.

        Raises:
            NotFiniteError: The mean loss of the validation data is not finite, on any rank.
        """
        loss = trainer.callback_metrics.get("validation/loss")
        with shared_errors(trainer):
            if loss is not None and not bool(loss.isfinite().all()):
                raise NotFiniteError(
                    f"the validation loss after step {trainer.global_step} is {float(loss):g}: mend the validation "
                    "data, or lower model.learning_rate"
                )
        pl_module.evaluators["tuned"].gather(trainer)
        if pl_module.evaluators["tuned"].items:
            summary = pl_module.evaluators["tuned"].summary()
            pl_module.log_dict({f"validation/{name}": value for name, value in summary.items() if name != "n"})

    def on_test_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start to evaluate the reference and the tuned model."""
        pl_module.start_judging("reference", "tuned")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Log the evaluation of both; `graft.GraftModule.evaluators` keeps the objects."""
        for weights, judge in pl_module.evaluators.items():
            judge.gather(trainer)
            if judge.items:
                pl_module.log_dict({f"test/{weights}/{name}": value for name, value in judge.summary().items()})

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that are not finite, on every rank; note which reference the checkpoint belongs to.

        Raises:
            NotFiniteError: A weight, an average or a moment of the optimizer is not finite.
        """
        with shared_errors(trainer):
            require_finite_weights(pl_module.named_parameters(), NOT_WRITTEN, LOWER)
            require_finite(checkpoint, NOT_WRITTEN, LOWER)
        note_reference(pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another program or of another reference; see `check_checkpoint`."""
        check_checkpoint(pl_module, checkpoint)


def note_reference(module: Any, checkpoint: dict[str, Any]) -> None:
    """Note the path and the hash of the module's reference in a checkpoint, which holds no weights of the reference."""
    checkpoint["graft"] = {"format": 1, "reference": module.reference_file}


def check_checkpoint(module: Any, checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint that the module cannot resume from.

    Args:
        module: The `graft.GraftModule`.
        checkpoint: The content of the checkpoint.

    Raises:
        GraftError: Another program wrote it, or it was tuned from another reference.
    """
    note = checkpoint.get("graft")
    if not isinstance(note, dict):
        raise GraftError("this checkpoint was not written by graft: warm starts from weights use --weights")
    theirs, ours = note.get("reference") or {}, module.reference_file or {}
    if theirs.get("sha256") != ours.get("sha256"):
        raise GraftError(f"the checkpoint was tuned from the reference {_named(theirs)}, which is not {_named(ours)}")


def keep_double(module: Any, state_dict: dict[str, Any], *_: Any) -> None:
    """Make a module that resumes double where the weights are: Lightning converts it after loading, which would round.

    It is a hook of ``load_state_dict``.
    """
    if module._trainer is None:
        return
    kinds = {value.dtype for value in state_dict.values() if isinstance(value, Tensor)}
    if {kind for kind in kinds if kind.is_floating_point} == {torch.float64}:
        module.double()


def with_graft_callbacks(configure: Callable[..., Any]) -> Callable[..., Any]:
    """Return a domain's ``configure_callbacks`` with graft's callbacks added where they are missing."""

    @wraps(configure)
    def both(self: LightningModule) -> list[Callback]:
        theirs = configure(self) or []
        own = list(theirs) if isinstance(theirs, Sequence) else [theirs]
        return [*own, *missing([*self.trainer.callbacks, *own])]  # type: ignore[attr-defined]

    both.keeps_graft = True  # type: ignore[attr-defined]
    return both


def missing(callbacks: Sequence[Callback]) -> list[Callback]:
    """Return fresh callbacks of the kinds that every `graft.GraftModule` needs and that are not among these."""
    return [kind() for kind in (FiniteSteps, Hooks) if not any(isinstance(each, kind) for each in callbacks)]


def _named(reference: dict[str, str]) -> str:
    return f"{reference.get('path')} (sha256 {reference.get('sha256', '')[:12]}…)"
