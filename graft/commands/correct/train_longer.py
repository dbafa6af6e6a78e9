"""Baseline: the flow is trained longer, for as many floating-point operations as the correction took."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from typing_extensions import override

from graft import commands
from graft.commands.correct.flops import BACKWARD
from graft.commands.correct.samples import SplitSource
from graft.core import seeding
from graft.core.finite import require_finite_weights
from graft.core.interval import Interval
from graft.core.state import Condition, State, size
from graft.io.tensors import read_metadata, read_tensors, write_tensors
from graft.module import GraftModule
from graft.network import EMA
from graft.runs.architecture import reference_name
from graft.runs.finite_steps import FiniteSteps

FILE = "longer.safetensors"
Encode = Callable[[Any], tuple[State, Condition]]
DECAY = 0.999
"""Decay of the exponential moving average of the weights."""


class TrainLonger(LightningModule):
    """A copy of a module's frozen flow, trained on data again.

    The learning rate falls to 0 as a half cosine.

    Args:
        module: The model; its reference is the flow.
        encode: Function that turns a batch of data into (state, condition).
        steps: Number of optimizer steps.
        learning_rate: Learning rate of AdamW at the start.
    """

    def __init__(self, module: GraftModule, encode: Encode, steps: int, learning_rate: float) -> None:
        super().__init__()
        assert module.policy.reference is not None
        self.of = (module,)  # the tuple keeps the model from being registered as a submodule
        self.network: nn.Module = copy.deepcopy(module.policy.reference).requires_grad_(True).train()
        self.average = EMA(self.network, DECAY)
        self.encode, self.steps, self.learning_rate = encode, steps, learning_rate

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (module,) = self.of
        generator = seeding.make_generator(module.seed, "longer", self.global_step)
        state, condition = self.encode(batch)
        level = seeding.stratified_levels(size(condition), Interval(), generator)
        return module.policy.process.loss(self.network, state, level, 0.0, condition, generator=generator).mean()

    @override
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.average.update(self.network)

    @override
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.learning_rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def steps_for_flops(cost: float, call: float, batch: int) -> int:
    """Return the number of optimizer steps that take ``cost`` operations.

    Args:
        cost: Number of floating-point operations.
        call: Number of operations of a network call for one sample.
        batch: Number of samples of an optimizer step.
    """
    return round(cost / (BACKWARD * call * batch))


def train_longer(
    module: GraftModule, data: SplitSource, about: dict[str, Any], folder: Path, trainer: Trainer
) -> nn.Module:
    """Return the flow after more training, from disk if the run has trained it before.

    Args:
        module: The model; its reference is the flow.
        data: The training samples.
        about: Settings that the result depends on: ``steps`` of the optimizer, its ``learning_rate``, the data.
        folder: Folder of the run.
        trainer: Trainer of the run, for the kind of device.

    Raises:
        GraftError: The weights are not finite.
    """
    steps = about["steps"]
    longer = TrainLonger(module, data.encoded, steps, about["learning_rate"])
    path = folder / FILE
    buffers = dict(longer.network.named_buffers())
    about = {**about, "reference": reference_name(module.policy.reference_file, path)}
    if not path.exists() or read_metadata(path) != about:
        device = trainer.strategy.root_device.type
        own = commands.trainer(
            accelerator="cpu" if device == "cpu" else "gpu",
            devices=1,
            precision=trainer.precision,
            max_steps=steps,
            max_epochs=-1,
            callbacks=[FiniteSteps("data.longer_learning_rate")],
            enable_progress_bar=trainer.progress_bar_callback is not None,
            reload_dataloaders_every_n_epochs=0,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeding.make_generator(module.seed, "longer").initial_seed() % 2**32)
            own.fit(longer, data.batches())
        if own.interrupted:
            raise KeyboardInterrupt
        with longer.average.average_parameters(longer.network), torch.no_grad():
            tensors = {name: tensor.clone() for name, tensor in longer.network.state_dict().items()}
        require_finite_weights(tensors, f"{path} was not written", "lower data.longer_learning_rate", buffers)
        write_tensors(path, tensors, about)
    tensors = read_tensors(path)[0]
    require_finite_weights(tensors, path, "remove it, and the flow is trained again", buffers)
    longer.network.load_state_dict(tensors)
    return longer.network.requires_grad_(False).eval()
