"""Where training is asked: variants of the heavy-atom reference's training at one small budget, by its stability.

    python tests/benchmarks/molecule_training.py [--epochs 6] [--samples 1000]

Levels are u = v^p with v uniform: p = 1 is what graft does, p > 1 asks more at low noise. The weight of the positions'
loss is the SNR up to the number given.
"""

import argparse
import tempfile
import time
from unittest import mock

import torch
from torch import Generator, Tensor

from domains.molecules.chemistry import is_stable
from graft import commands, seeding
from graft.cli import _setup

UNIFORM = seeding.levels
VARIANTS = {  # name: (p, largest weight, seed of the training)
    "as shipped": (1.0, 300.0, 0),
    "as shipped, another seed": (1.0, 300.0, 1),
    "more at low noise, p = 1.5": (1.5, 300.0, 0),
    "more at high noise, p = 0.7": (0.7, 300.0, 0),
    "weight up to 1000": (1.0, 1000.0, 0),
}


def main() -> None:
    """Print a row for each variant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--samples", type=int, default=1000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name, (power, most, seed) in VARIANTS.items():

        def levels(count: int, lowest: float, generator: "Generator | None", power: float = power) -> Tensor:
            return lowest + (1 - lowest) * UNIFORM(count, 0.0, generator) ** power

        small = [f"--trainer.max_epochs={asked.epochs}", "--trainer.enable_progress_bar=false"]
        cli, _ = _setup("pretrain", ["--config", "domains/molecule_pretrain.yaml", *small, f"--seed_everything={seed}"])
        cli.model.process.fields["x"].weight = (0.2, most)
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(seeding, "levels", levels):
            commands.pretrain(cli.model, cli.datamodule, folder, cli.trainer, draws=8)
        spent = time.process_time() - began
        shares = []
        for draw in (0, 1):
            cli.model.seed = draw
            drawn = commands.sample(cli.model, cli.trainer, asked.samples, "benchmark")
            mols = [mol for part, _ in drawn for mol in part]
            shares.append(sum(map(is_stable, mols)) / len(mols))
        print(f"{name:<28} stable {shares[0]:.3f} {shares[1]:.3f}  {spent:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
