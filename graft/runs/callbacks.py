"""Run the parts of graft in Lightning hooks as a callback, which no domain can override."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from graft.core.datatypes import Weights
from graft.core.distributed import shared_errors
from graft.core.finite import NotFiniteError, require_finite_weights
from graft.errors import GraftError
from graft.evaluation import SampleEvaluator
from graft.runs import interruption
from graft.runs.checkpoint import require_finite
from graft.runs.finite_steps import FiniteSteps

NOT_WRITTEN, LOWER = "the checkpoint was not written", "lower model.optimizer.lr"


class Hooks(Callback):
    """Runs the parts of graft in the hooks of a `graft.GraftModule`.

    Lightning calls the hook of a callback and the hook of the module. A domain can thus override any hook, with or
    without a call of ``super()``.
    """

    @override
    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the EMA weights after an optimizer step; then save and stop after a signal."""
        whole = not (batch_idx + 1) % trainer.accumulate_grad_batches
        if whole or batch_idx + 1 == trainer.num_training_batches:
            pl_module.policy.update_ema()
        if (found := interruption.find_interruption(trainer)) is not None:
            found.step(trainer, batch_idx)

    @override
    def on_validation_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        pl_module.evaluators = _evaluators(trainer, pl_module, "tuned")

    @override
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        loss = trainer.callback_metrics.get("validation/loss")
        with shared_errors(trainer):
            if loss is not None and not bool(loss.isfinite().all()):
                raise NotFiniteError(
                    f"the validation loss after step {trainer.global_step} is {float(loss):g}: fix the validation "
                    "data, or lower model.optimizer.lr"
                )
        pl_module.evaluators["tuned"].gather(trainer)
        if pl_module.evaluators["tuned"].items:
            summary = pl_module.evaluators["tuned"].summary()
            pl_module.log_dict({f"validation/{name}": value for name, value in summary.items() if name != "n"})

    @override
    def on_test_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        pl_module.evaluators = _evaluators(trainer, pl_module, "reference", "tuned")

    @override
    def on_test_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        for weights, evaluator in pl_module.evaluators.items():
            evaluator.gather(trainer)
            if evaluator.items:
                pl_module.log_dict({f"test/{weights}/{name}": value for name, value in evaluator.summary().items()})

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Raise NotFiniteError for non-finite weights on any rank; note the reference."""
        with shared_errors(trainer):
            require_finite_weights(pl_module.named_parameters(), NOT_WRITTEN, LOWER)
            require_finite(checkpoint, NOT_WRITTEN, LOWER)
        note_reference(pl_module, checkpoint)

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        check_checkpoint(pl_module, checkpoint)


def _evaluators(trainer: Trainer, module: Any, *networks: Weights) -> dict[str, SampleEvaluator]:
    """Return fresh evaluators of the samples of some networks."""
    reward = getattr(getattr(trainer, "datamodule", None), "reward", None)
    return {weights: SampleEvaluator(reward, module.metrics()) for weights in networks}


def note_reference(module: Any, checkpoint: dict[str, Any]) -> None:
    """Add the path and checksum of the reference to a checkpoint, which lacks its weights."""
    checkpoint["graft"] = {"reference": module.policy.reference_file}


def check_checkpoint(module: Any, checkpoint: dict[str, Any]) -> None:
    """Raise GraftError if the module cannot resume from a checkpoint."""
    note = checkpoint.get("graft")
    if not isinstance(note, dict):
        raise GraftError("this checkpoint was not written by graft: warm starts from weights use --weights")
    theirs, ours = note.get("reference") or {}, module.policy.reference_file or {}
    if theirs.get("sha256") != ours.get("sha256"):
        raise GraftError(f"the checkpoint was tuned from the reference {_named(theirs)}, which is not {_named(ours)}")


def keep_double(module: Any, state_dict: dict[str, Any], *_: Any) -> None:
    """Convert a resuming module to double precision if all its loaded weights are double.

    The function is a hook of ``load_state_dict``. Lightning converts the module after loading, which would round the
    weights.
    """
    if module._trainer is None:
        return
    kinds = {value.dtype for value in state_dict.values() if isinstance(value, Tensor)}
    if {kind for kind in kinds if kind.is_floating_point} == {torch.float64}:
        module.double()


def with_graft_callbacks(configure: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``configure_callbacks`` of a domain with the missing callbacks of graft added."""

    @wraps(configure)
    def both(self: LightningModule) -> list[Callback]:
        theirs = configure(self) or []
        own = list(theirs) if isinstance(theirs, Sequence) else [theirs]
        return [*own, *missing([*self.trainer.callbacks, *own])]  # type: ignore[attr-defined]

    both.keeps_graft = True  # type: ignore[attr-defined]
    return both


def missing(callbacks: Sequence[Callback]) -> list[Callback]:
    """Return new callbacks that every `graft.GraftModule` needs and that the list lacks."""
    return [kind() for kind in (FiniteSteps, Hooks) if not any(isinstance(each, kind) for each in callbacks)]


def _named(reference: dict[str, str]) -> str:
    return f"{reference.get('path')} (sha256 {reference.get('sha256', '')[:12]}…)"
