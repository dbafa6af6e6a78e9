"""The rival that costs nothing to think of: the flow itself, trained longer for what the correction cost."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from graft import files, seeding
from graft.finite import require_finite_weights
from graft.flops import BACKWARD
from graft.module import GraftModule
from graft.network import EMA
from graft.network.architecture import reference_name
from graft.runs.finite_steps import FiniteSteps
from graft.state import Condition, State, size

FILE = "longer.safetensors"
Encode = Callable[[Any], tuple[State, Condition]]
DECAY = 0.999  # of the average of its weights


class TrainLonger(LightningModule):
    """A copy of a module's frozen flow, trained on data again; the learning rate falls to 0 as a half cosine.

    Args:
        module: Whose flow.
        encode: Makes (state, condition) of a batch of data.
        steps: Of the optimizer.
        learning_rate: Of AdamW, at the start.
    """

    def __init__(self, module: GraftModule, encode: Encode, steps: int, learning_rate: float) -> None:
        super().__init__()
        assert module.reference is not None
        self.of = (module,)  # in a tuple, so that it is no part of this one
        self.network: nn.Module = copy.deepcopy(module.reference).requires_grad_(True).train()
        self.average = EMA(self.network, DECAY)
        self.encode, self.steps, self.learning_rate = encode, steps, learning_rate

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The denoising loss."""
        (module,) = self.of
        generator = seeding.make_generator(module.seed, "longer", self.global_step)
        state, condition = self.encode(batch)
        level = seeding.stratified_levels(size(condition), 0.0, generator)
        return module.process.loss(self.network, state, level, 0.0, condition, generator=generator).mean()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the average."""
        self.average.update(self.network)

    def configure_optimizers(self) -> Any:
        """AdamW, with a half cosine."""
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.learning_rate, weight_decay=0.0)

        def factor(step: int) -> float:
            return 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / self.steps))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def steps_for_flops(cost: float, call: float, batch: int) -> int:
    """Optimizer steps that ``cost`` operations pay for, a network call costing ``call`` for one sample."""
    return round(cost / (BACKWARD * call * batch))


def train_longer(
    module: GraftModule,
    batches: Callable[[], Any],
    encode: Encode,
    about: dict[str, Any],
    folder: Path,
    trainer: Trainer,
) -> nn.Module:
    """The flow trained ``steps`` longer, from disk if it was done before.

    Args:
        module: Whose flow.
        batches: Gives a loader of batches of data.
        encode: Makes (state, condition) of one.
        about: What the result depends on: ``steps`` of the optimizer, its ``learning_rate``, the data.
        folder: Of the run.
        trainer: The run's, for the kind of device.
    """
    steps = about["steps"]
    longer = TrainLonger(module, encode, steps, about["learning_rate"])
    path = folder / FILE
    buffers = dict(longer.network.named_buffers())
    about = {**about, "reference": reference_name(module.reference_file, path)}
    if not path.exists() or files.read_metadata(path) != about:
        device = trainer.strategy.root_device.type
        own = Trainer(
            accelerator="cpu" if device == "cpu" else "gpu",
            devices=1,
            precision=trainer.precision,
            max_steps=steps,
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=[FiniteSteps("data.longer_learning_rate")],
            enable_progress_bar=trainer.progress_bar_callback is not None,
            gradient_clip_val=1.0,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeding.make_generator(module.seed, "longer").initial_seed() % 2**32)
            own.fit(longer, batches())
        if own.interrupted:
            raise KeyboardInterrupt
        with longer.average.average_parameters(longer.network), torch.no_grad():
            tensors = {name: tensor.clone() for name, tensor in longer.network.state_dict().items()}
        require_finite_weights(tensors, f"{path} was not written", "lower data.longer_learning_rate", buffers)
        files.write_tensors(path, tensors, about)
    tensors = files.read_tensors(path)[0]
    require_finite_weights(tensors, path, "remove it, and the flow is trained again", buffers)
    longer.network.load_state_dict(tensors)
    return longer.network.requires_grad_(False).eval()
