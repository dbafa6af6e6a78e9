"""Compare a training step through Lightning with a bare PyTorch step of the same network, data, loss and optimizer.

    python tests/benchmarks/training_step.py [--steps 400] [--batch 8] [--profile] [--lightning] [-- --config NAME ...]

Every step through Lightning, with all that ``graft fit`` attaches, is paired with a bare step right before it, on a
copy of the network and of the optimizer. Prints milliseconds of processor time of one thread, for other programs
disturb that less than they do the time on the wall: medians and means of both and of the paired differences. With few
samples in a batch the network takes little and the difference shows better; it does not depend on their number.
``--profile`` shows what the steps through Lightning consist of. ``--lightning`` measures Lightning without graft: a
module of as many parameters, whose loss is their sum, in a trainer with ``barebones=True``.
"""

import argparse
import copy
import cProfile
import logging
import pstats
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import lightning.pytorch
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

import graft
from graft import commands
from graft.cli import IGNORED_WARNINGS
from graft.core import seeding
from graft.network import EMA
from graft.runs.progress import RoundProgressCallback

FIRST = 20  # steps that are left out


class Paired(Callback):
    """Takes a bare step before each of Lightning's, and notes the processor time of both."""

    def __init__(self, profile):
        self.bare, self.through = [], []
        self.profile = cProfile.Profile() if profile else None

    def on_train_start(self, trainer, module):
        self.batches = iter(trainer.train_dataloader)
        self.objective = module.objective
        self.policy = copy.copy(module.policy)  # the same process and settings, another network
        self.policy._modules = {**module.policy._modules, "backbone": copy.deepcopy(module.policy.backbone)}
        self.parameters = list(self.policy.backbone.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3, weight_decay=0.0, fused=True)
        ema = module.policy.ema
        self.average = None if ema is None else EMA(self.policy.backbone, ema.decay)
        self.since = None

    def step(self, number):
        batch = next(self.batches)
        loss, _ = self.objective.loss(self.policy, batch, seeding.make_generator(0, "train", number, 0))
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.policy.backbone)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if self.profile is not None and self.since is not None:
            self.profile.disable()
        now = time.process_time()
        if self.since is not None:
            self.through.append(1e3 * (now - self.since))
        begun = time.process_time()
        self.step(batch_idx)
        self.bare.append(1e3 * (time.process_time() - begun))
        if self.profile is not None and batch_idx >= FIRST:
            self.profile.enable()
        self.since = time.process_time()


class Sum(lightning.pytorch.LightningModule):
    """Parameters, and their sum as the loss; a bare step on a copy of them before each of Lightning's."""

    def __init__(self, parameters):
        super().__init__()
        self.values = nn.ParameterList([nn.Parameter(p.detach().clone()) for p in parameters])
        self.copy = [nn.Parameter(p.detach().clone()) for p in parameters]
        self.bare, self.through, self.since = [], [], None

    def training_step(self, batch, batch_idx):
        return sum(value.sum() for value in self.values)

    def configure_optimizers(self):
        self.own = torch.optim.AdamW(self.copy, lr=1e-3, fused=True)
        return torch.optim.AdamW(self.values, lr=1e-3, fused=True)

    def on_train_batch_start(self, batch, batch_idx):
        now = time.process_time()
        if self.since is not None:
            self.through.append(1e3 * (now - self.since))
        loss = sum(value.sum() for value in self.copy)
        self.own.zero_grad()
        loss.backward()
        self.own.step()
        self.since = time.process_time()
        self.bare.append(1e3 * (self.since - now))


def alone(parameters, steps):
    """Print what Lightning's loop costs by itself."""
    module = Sum(parameters)
    lightning.pytorch.Trainer(max_epochs=1, accelerator="cpu", barebones=True).fit(
        module, torch.utils.data.DataLoader(torch.zeros(steps, 1))
    )
    show(module.through[FIRST:], module.bare[FIRST:-1])


def show(through, bare):
    """Print both and the paired differences."""
    difference = [a - b for a, b in zip(through, bare, strict=True)]
    for name, values in {"through Lightning": through, "bare": bare, "difference": difference}.items():
        quarters = statistics.quantiles(values, n=4)
        print(
            f"{name:<18} median {statistics.median(values):6.2f} ms ({quarters[0]:.2f} to {quarters[2]:.2f}), "
            f"mean {statistics.fmean(values):6.2f} ms of {len(values)} steps"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--lightning", action="store_true")
    parser.add_argument("settings", nargs="*", default=["--config", "domains/molecule.yaml"])
    flags = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    with tempfile.TemporaryDirectory() as folder:
        module, data, _ = graft.load(
            *flags.settings[1:],
            "--data.draws=256",
            f"--data.train_batch_size={flags.batch}",
            f"--data.steps_per_round={flags.steps}",
            "--data.evaluation.validation_draws=0",
        )
        pairs = Paired(flags.profile)
        trainer = graft.trainer(1, accelerator="cpu")
        if flags.lightning:
            return alone([p for p in module.policy.backbone.parameters() if p.requires_grad], flags.steps)
        data.run_dir = Path(folder)
        commands.attach_logging(trainer, data.run_dir, "", None)  # as graft.fit does
        trainer.callbacks += [RoundProgressCallback(), pairs]
        trainer.callbacks.insert(0, commands.RoundWeightsCallback(""))
        commands.train(module, data, trainer, data.run_dir, None)
    show(pairs.through[FIRST:], pairs.bare[FIRST:-1])
    if pairs.profile is not None:
        pstats.Stats(pairs.profile).sort_stats("cumtime").print_stats(60)


if __name__ == "__main__":
    main()
