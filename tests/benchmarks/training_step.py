"""A training step through Lightning against a bare PyTorch loop over the same network, data, loss and optimizer.

    python tests/benchmarks/training_step.py

Prints milliseconds of processor time of the median step of both, and their difference, over several rounds in one
process with one thread: other programs on the machine disturb that less than they do the time on the wall.
"""

import itertools
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback

import graft
from graft import seeding
from graft.cli import QUIET
from graft.network import EMA
from graft.runs.logger import MetricsFile

STEPS, ROUNDS = 200, 8


class Clock(Callback):
    """Processor time at the start of each step."""

    def on_train_epoch_start(self, trainer, module):
        self.at = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.at.append(time.process_time())


def typical(at):
    """Median milliseconds between one step's start and the next one's, without the first 20."""
    return 1e3 * statistics.median(b - a for a, b in itertools.pairwise(at[20:]))


def bare(module, data):
    parameters = list(module.backbone.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=module.learning_rate, weight_decay=0.0, fused=True)
    average = EMA(module.backbone, 0.99)
    module.train()
    at = []
    for step, batch in enumerate(data):
        at.append(time.process_time())
        loss = module.loss(batch, seeding.generator(0, "train", step, 0))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(module.backbone)
    return at


def main():
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for message in QUIET:
        warnings.filterwarnings("ignore", message=message)
    through, plain = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            module, data, _ = graft.load(
                "domains/molecule.yaml",
                "--data.draws=512",
                f"--data.steps_per_round={STEPS}",
                "--data.validation_draws=0",
                "--trainer.max_epochs=1",
            )
            clock = Clock()
            trainer = graft.trainer(1, accelerator="cpu", callbacks=[clock])
            data.run_dir = Path(folder) / str(number)
            trainer.progress_bar_callback._refresh_rate = 10  # as graft.fit has it
            trainer.loggers = [MetricsFile(data.run_dir / "metrics.csv")]
            trainer.fit(module, data)
            through.append(typical(clock.at))
            plain.append(typical(bare(module, trainer.train_dataloader)))
    difference = [a - b for a, b in zip(through, plain, strict=True)]
    for name, values in {"through Lightning": through, "bare loop": plain, "difference": difference}.items():
        print(f"{name:<18} median {statistics.median(values):6.2f} ms, {min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main()
