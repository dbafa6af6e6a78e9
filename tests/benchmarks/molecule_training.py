"""Changes of the training of the small molecule network, one at a time, at equal cost of training.

    python tests/benchmarks/molecule_training.py [--steps 1500] [--samples 1000] [--seeds 0,1] [--only NAME,NAME] \
        [--heavy_atoms 8] [--embedded 30000]

The data and settings are those of `domains/molecule_small_pretrain.yaml` but for the steps. A variant whose step costs
more than the shipped one's takes fewer of them: the ratio is the median over pairs of steps, taken in turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from molecule_samples import sample
from scipy.optimize import linear_sum_assignment
from torch import nn

from domains.molecules import Molecules
from domains.molecules.backbone import EGNN
from domains.molecules.chemistry import is_connected, is_stable, molecule_key
from domains.molecules.data import MoleculeData
from domains.molecules.egnn_layer import length
from graft.core import seeding
from graft.core.datatypes import TrainingBatch
from graft.core.interval import Interval
from graft.policy import Tuning
from graft.process import Gaussian, MultiFieldProcess, PolynomialSchedule
from graft.process.arguments import NoisyExample
from graft.process.projections import MaskProjection, ZeroCenterOfMass
from graft.process.schedules import LinearSchedule

ATOMS, TYPES, PAIRS = 8, 10, 9


# Networks


class SelfConditioned(EGNN):
    """Is shown its last estimate (Chen et al. 2023): in sampling always, in training in every other batch."""

    def __init__(self, num_types: int, hidden_dim: int = 64, **kwargs: Any) -> None:
        super().__init__(num_types, hidden_dim=hidden_dim, **kwargs)
        self.guess, self.near = nn.Linear(num_types, hidden_dim, bias=False), nn.Linear(21, hidden_dim, bias=False)
        self.last: Any = None

    def forward(self, state, time, condition):
        if self.training:
            self.last = None
            if torch.rand(()) < 0.5:
                with torch.no_grad():
                    self.last = super().forward(state, time, condition)
        elif float(time.max()) == 1:  # a new sample
            self.last = None
        self.last, out = None, super().forward(state, time, condition)
        self.last = None if self.training else out
        return out

    def denoise(self, x, h, clock, trust, pairs):
        start, pair, h = x, self.pair(self.basis(length(pairs.difference(x)))), self.embed(h)
        if self.last is not None:
            h = h + self.guess(self.last["h"].softmax(-1))
            pair = pair + self.near(self.basis(length(pairs.difference(self.last["x"]))))
        for layer in self.layers:
            h, x, pair = layer(h, x, pair, clock, pairs, self.basis)
        return x - start + trust * start, self.types(h)


class Attentive(EGNN):
    """Each message has a gate (Satorras et al. 2021, eq. 8)."""

    def __init__(self, num_types: int, hidden_dim: int = 64, **kwargs: Any) -> None:
        super().__init__(num_types, hidden_dim=hidden_dim, **kwargs)
        for layer in self.layers:
            layer.mix = Gated(hidden_dim)


class Gated(nn.Module):
    """A linear map and a gate; what follows it in the layer is a SiLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix, self.gate = nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, m):
        return self.mix(m) * self.gate(m).sigmoid()


# Losses


def plain(module, state, condition, level, generator):
    return module.policy.process.loss(module.policy.backbone, state, level, 0.0, condition, None, generator)


def with_bonds(module, state, condition, level, generator):
    loss = plain(module, state, condition, level, generator)
    return loss + module.auxiliary_loss(TrainingBatch(state, condition), level)


def paired(module, state, condition, level, generator):
    """The noise of the positions turned and its atoms exchanged so that the data are near (Song et al. 2023)."""
    process = module.policy.process
    noise, x = process.noise(state, condition, generator), state["x"]
    counts = condition["mask"].sum(1).int().tolist()
    cost = torch.cdist(x, noise["x"]).square().numpy()
    order = torch.arange(ATOMS).repeat(len(x), 1)
    for row, n in enumerate(counts):
        order[row, :n] = torch.from_numpy(linear_sum_assignment(cost[row, :n, :n])[1])
    z = noise["x"].gather(1, order[..., None].expand_as(x))
    u, _, v = torch.linalg.svd(z.transpose(1, 2) @ x)
    flip = torch.ones(len(x), 3)
    flip[:, 2] = torch.det(u @ v).sign()
    noise["x"] = z @ (u * flip[:, None] @ v)
    data = torch.zeros_like(level)
    noisy = process.corrupt_given_noise(state, noise, level, data)
    output = process(module.policy.backbone, noisy, level, condition)
    return process.output_loss(output, NoisyExample(noisy, state, noise, level, data), condition)


# Densities of the level in training


def even(count, generator):
    return seeding.stratified_levels(count, Interval(), generator)


def logit_normal(mean: float, spread: float) -> Callable[..., torch.Tensor]:
    def drawn(count, generator):
        normal = torch.distributions.Normal(mean, spread)
        return normal.icdf(even(count, generator).clamp(1e-6, 1 - 1e-6)).sigmoid().double()

    return drawn


def power(exponent: float) -> Callable[..., torch.Tensor]:
    return lambda count, generator: even(count, generator) ** exponent


# Variants


@dataclass
class Variant:
    network: type[EGNN] = EGNN
    shape: dict[str, Any] = field(default_factory=dict)
    scale: float = 0.18
    weight: tuple[float, float] = (0.2, 300.0)
    types: float = 0.05
    flow: bool = False
    eta: float = 1.0
    warp: float = 2.0
    rate: float = 5e-3
    loss: Callable[..., torch.Tensor] = plain
    levels: Callable[..., torch.Tensor] = even

    def module(self, seed: int) -> Molecules:
        torch.manual_seed(seed)
        schedule = LinearSchedule() if self.flow else PolynomialSchedule()
        shared: dict[str, Any] = {"schedule": schedule, "eta": self.eta, "warp": self.warp}
        x = Gaussian(
            prediction_type="x0",
            shape=[ATOMS, 3],
            snr_weight_clamp=self.weight,
            projection=ZeroCenterOfMass(),
            **shared,
        )
        h = Gaussian(
            prediction_type="logits",
            shape=[ATOMS, TYPES],
            snr_weight_clamp=(0.2, 10.0),
            one_hot_scale=self.scale,
            projection=MaskProjection(),
            **shared,
        )
        network = self.network(TYPES, schedule=schedule, **self.shape)
        weights = {"x": 1.0, "h": self.types}
        return Molecules(
            network, MultiFieldProcess({"x": x, "h": h}, weights), steps=24, tuning=Tuning(ema_decay=0.999), seed=seed
        )


VARIANTS = {
    "shipped": Variant(),
    "self-conditioning": Variant(SelfConditioned),
    "bond head": Variant(shape={"bond_loss_weight": 0.05}, loss=with_bonds),
    "bond head, levels logit-normal(0, 1)": Variant(
        shape={"bond_loss_weight": 0.05}, loss=with_bonds, levels=logit_normal(0.0, 1.0)
    ),
    "bond head of 0.15": Variant(shape={"bond_loss_weight": 0.15}, loss=with_bonds),
    "bond head of 0.5": Variant(shape={"bond_loss_weight": 0.5}, loss=with_bonds),
    "bond head of 0.15, levels logit-normal(0, 1)": Variant(
        shape={"bond_loss_weight": 0.15}, loss=with_bonds, levels=logit_normal(0.0, 1.0)
    ),
    "gated messages": Variant(Attentive),
    "3 layers of 96": Variant(shape={"hidden_dim": 96, "num_layers": 3}),
    "8 layers of 48": Variant(shape={"hidden_dim": 48, "num_layers": 8}),
    "levels logit-normal(0, 1)": Variant(levels=logit_normal(0.0, 1.0)),
    "levels logit-normal(-0.7, 1.2)": Variant(levels=logit_normal(-0.7, 1.2)),
    "levels u^1.4": Variant(levels=power(1.4)),
    "levels u^0.7": Variant(levels=power(0.7)),
    "SNR weight up to 30": Variant(weight=(0.2, 30.0)),
    "SNR weight up to 3000": Variant(weight=(0.2, 3000.0)),
    "one-hot of 0.1": Variant(scale=0.1),
    "one-hot of 0.25": Variant(scale=0.25),
    "one-hot of 1": Variant(scale=1.0),
    "flow, deterministic": Variant(flow=True, eta=0.0),
    "flow, deterministic, paired": Variant(flow=True, eta=0.0, loss=paired),
    "flow, stochastic": Variant(flow=True),
}


def batches(data: MoleculeData, module: Molecules, seed: int, size: int = 64):
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(data.train_set), generator=generator).tolist()
        for start in range(0, len(order) - size + 1, size):
            yield module.encode(data.train_set.batch(order[start : start + size]))


def train(module: Molecules, variant: Variant, data: MoleculeData, steps: int, seed: int) -> None:
    optimizer = torch.optim.AdamW(module.policy.backbone.parameters(), lr=variant.rate, weight_decay=0.0, fused=True)
    fall = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1.0, (i + 1) / 101) * (0.5 + 0.5 * float(np.cos(np.pi * min(1.0, i / steps))))
    )
    module.policy.backbone.train()
    for i, (state, condition) in zip(range(steps), batches(data, module, seed), strict=False):
        generator = seeding.make_generator(seed, "train", i)
        loss = variant.loss(module, state, condition, variant.levels(len(condition["mask"]), generator), generator)
        optimizer.zero_grad()
        loss.mean().backward()
        nn.utils.clip_grad_norm_(module.policy.backbone.parameters(), 1.0)
        optimizer.step()
        fall.step()
        module.policy.ema.update(module.policy.backbone)


def costs(data: MoleculeData, variants: dict[str, Variant]) -> dict[str, float]:
    """Return the cost of a training step relative to that of the shipped variant."""
    ratios = {}
    for name, variant in variants.items():
        both = [VARIANTS["shipped"], variant]
        modules = [each.module(0) for each in both]
        for module, each in zip(modules, both, strict=True):
            train(module, each, data, 5, 0)
        took = []
        for turn in range(PAIRS):
            pair = []
            for module, each in zip(modules, both, strict=True):
                began = time.process_time()
                train(module, each, data, 4, turn)
                pair.append(time.process_time() - began)
            took.append(pair[1] / pair[0])
        ratios[name] = 1.0 if name == "shipped" else statistics.median(took)
    return ratios


def share(flags: Any) -> float:
    values = list(flags)
    return sum(values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--heavy_atoms", type=int, default=ATOMS, help="heavy atoms of the largest molecule, at most 8")
    parser.add_argument("--embedded", type=int, default=30000, help="enumerated molecules that get a conformer")
    parser.add_argument("--only", default=",".join(VARIANTS).replace(", ", "; "))
    flags = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in VARIANTS if name.replace(", ", "; ") in flags.only.split(",")]
    data = MoleculeData("enumerated", max_heavy_atoms=flags.heavy_atoms, max_embedded=flags.embedded)
    histogram = torch.zeros(ATOMS + 1)
    for count, number in data.histogram().items():
        histogram[count] = number
    ratios = costs(data, {name: VARIANTS[name] for name in names})
    print("| variant | cost of a step | steps | stable | connected | distinct valid | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        variant, steps, rows = VARIANTS[name], round(flags.steps / ratios[name]), []
        began = time.process_time()
        for seed in map(int, flags.seeds.split(",")):
            module = variant.module(seed)
            module.dataset_statistics = {"histogram": histogram}
            train(module, variant, data, steps, seed)
            mols = sample(module, flags.samples, seed, "tuned")
            distinct = len({molecule_key(mol) for mol in mols} - {""}) / len(mols)
            rows.append((share(map(is_stable, mols)), share(map(is_connected, mols)), distinct))
        figures = " | ".join(" / ".join(f"{row[i]:.3f}" for row in rows) for i in range(3))
        spent = time.process_time() - began
        print(f"| {name} | {ratios[name]:.2f} | {steps} | {figures} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    main()
