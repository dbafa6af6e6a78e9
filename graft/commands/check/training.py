"""Trials of the loss and of training data."""

from typing import Any

from lightning.pytorch import LightningDataModule

from graft.commands.check.trials import COUNT, Trials, describe_shapes, on_device
from graft.core import seeding
from graft.core.datatypes import TrainingBatch
from graft.core.state import Condition, State
from graft.errors import GraftError


class TrainingTrials(Trials):
    """Try a training step on samples, and on the first batch of a data set."""

    def run(self, state: "State | None", condition: "Condition | None", data: "LightningDataModule | None") -> None:
        """Run the trials.

        Args:
            state: States of samples; None without any.
            condition: Their conditions.
            data: Data set; None without one.
        """
        if state is not None and condition is not None:
            self.attempt("loss", lambda: self._loss(state, condition))
        if data is None:
            self.attempt("encode", lambda: "left out: give a configuration of graft pretrain to try it", "encode")
            return
        self.attempt("encode", lambda: self._encode(data), "encode")

    def _loss(self, state: Any, condition: Any) -> str:
        batch = TrainingBatch(state, on_device(condition, self.module.device))
        loss = self.module.policy.loss(batch, seeding.make_generator(0, "check"))
        if not bool(loss.isfinite()):
            raise GraftError(f"the loss of {COUNT} samples is {float(loss)}; it must be finite")
        loss.backward()  # type: ignore[no-untyped-call]
        trained = [each for each in self.module.policy.backbone.parameters() if each.requires_grad]
        reached = sum(each.grad is not None for each in trained)
        self.module.zero_grad(set_to_none=True)
        if not reached:
            raise GraftError("the loss depends on no parameter of the network")
        return f"{float(loss.detach()):.4g}, a gradient for {reached} of {len(trained)} parameters"

    def _encode(self, data: Any) -> str:
        data.prepare_data()
        data.setup("fit")
        state, condition = self.module.encode(next(iter(data.train_dataloader())))
        prior = self.module.policy.process.prior(condition, seeding.make_generator(0, "check"))
        ours, theirs = describe_shapes(prior), describe_shapes(state)
        if ours != theirs:
            raise GraftError(f"{self.kind}.encode returned states of shape {theirs}; the process has {ours}")
        items = self.module.decode(state, condition)
        self._loss(state, condition)
        return f"{theirs}, {len(items)} objects decoded"
