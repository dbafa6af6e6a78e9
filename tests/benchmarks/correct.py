"""Inverse noise correction against its rivals at equal cost: where it helps, and where it does not.

python tests/benchmarks/correct.py plane [SEEDS]    eight blobs in the plane, flows trained long and briefly
python tests/benchmarks/correct.py digits [SEEDS]   8x8 digits, a flow of fully connected layers
python tests/benchmarks/correct.py classes [SEEDS]  the same with the digits' classes as conditions
python tests/benchmarks/correct.py unet [SEEDS]     8x8 digits, the flow that ships
python tests/benchmarks/correct.py mnist [SEEDS]    28x28 digits, with classes and without
python tests/benchmarks/correct.py reward [SEEDS]   no data but a reward: the noise of accepted draws (`graft fit`)

Every cell is a run (all but the plane's on the command line), kept in the temporary folder of `toys.py`. The 28x28
digits have to be there, with a network of features, of whose accuracy its training tells:

python tests/benchmarks/mnist_digits.py PACKAGE --out FOLDER/mnist.npz    # the docstring says where the package is from
python -m domains.images.train_classifier --source FOLDER/mnist.npz --out FOLDER/mnist_features.safetensors --steps 1000
"""

import itertools
import json
import math
import statistics
import sys
from pathlib import Path

import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from toys import BLOBS, FOLDER, Toy, quiet, trainer
from trained import training

import graft
from graft import cli
from graft.commands.correct import InvertedNoiseData, correct
from graft.core import seeding
from graft.network.corrector import NoiseCorrector
from graft.process import Gaussian, LinearSchedule, TrigFlow

HERE = Path(__file__).parent
POINTS, SPREAD = 16_000, 0.15
TRAINED = {"long": 6000, "briefly": 500}  # optimizer steps of the flow in the plane


def graft_run(command: str, settings: list[str], seed: int, folder: Path) -> None:
    """Run a command of graft, or resume it."""
    place = ["--seed_everything", str(seed), "--run_dir", str(folder), "--ckpt_path", "auto"]
    assert cli.main([command, *settings, *place]) == 0


class Net(nn.Module):
    """A network that returns 0 before it is trained."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        sizes = [8, *[width] * depth]
        layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())]
        self.net = nn.Sequential(*layers, nn.Linear(width, 2))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        waves = math.pi * 2.0 ** torch.arange(3) * time[:, None]
        return self.net(torch.cat([state, waves.sin(), waves.cos()], 1))


class Plane(Toy):
    def encode(self, batch):
        return super().encode(batch[0])


class Blobs(LightningDataModule):
    def train_dataloader(self):
        generator = seeding.make_generator(0, "blobs")
        which = torch.randint(8, (POINTS,), generator=generator)
        points = BLOBS[which] + SPREAD * torch.randn(POINTS, 2, generator=generator)
        return DataLoader(TensorDataset(points), 256, shuffle=True)


def plane(trained: str, steps: int, seed: int) -> dict:
    """The summary of a cell."""
    process = Gaussian(LinearSchedule(), "velocity", (2,), eta=0.0)
    base = FOLDER / "plane" / trained / str(seed)
    if not (base / "summary.json").exists():
        torch.manual_seed(seed)
        made = Plane(Net(128, 3), process, seed=seed, **training(2e-3, warmup_steps=50, cosine=True, ema_decay=0.99))
        epochs = math.ceil(TRAINED[trained] / (POINTS // 256))
        graft.pretrain(made, Blobs(), base, trainer(epochs), draws=128)
    folder = FOLDER / "plane" / f"{trained}-{steps}" / str(seed)
    if not (folder / "summary.json").exists():
        torch.manual_seed(seed)
        made = Plane(
            Net(128, 3),
            process,
            str(base / "reference.safetensors"),
            steps=steps,
            corrector=NoiseCorrector(TrigFlow((2,)), Net(32, 2), 4),
            **training(3e-3, warmup_steps=50, cosine=True, ema_decay=0.99),
            seed=seed,
        )
        data = InvertedNoiseData(
            Blobs(),
            samples=8000,
            batch_size=2000,
            train_batch_size=256,
            test_draws=8000,
            num_repeats=2,
            max_invalid_fraction=0.5,
            baseline_steps=[1, 2, 3, 4, 6, 8, 16],
            seed=seed,
        )
        correct(made, data, folder, trainer(3))
    return json.loads((folder / "summary.json").read_text())


def pretrained(classes: bool, seed: int) -> tuple[Path, list[str]]:
    """(the weights of the flow of `flow_digits.yaml`, the flags that give it classes)."""
    base = FOLDER / ("digits-classes" if classes else "digits-flow") / "pretrained" / str(seed)
    flags = ["--model.classes", "10", "--model.backbone.init_args.classes", "10"] if classes else []
    if not (base / "summary.json").exists():
        configs = ["--config", str(HERE / "flow_digits.yaml"), "--config", str(HERE / "flow_digits_pretrain.yaml")]
        graft_run("pretrain", [*configs, *flags], seed, base)
    return base / "reference.safetensors", flags


def digits(solver: str, steps: int, warp: float, seed: int, classes: bool = False) -> dict:
    """The summary of a cell: the flow of `flow_digits.yaml`."""
    base, flags = pretrained(classes, seed)
    flags += ["--model.corrector.init_args.backbone.init_args.classes", "10"] if classes else []
    settings = ["--config", str(HERE / "flow_digits.yaml"), *SHARED, "--model.weights", str(base), *flags]
    return _ran(base.parents[2] / f"{solver}-{steps}-{warp:g}" / str(seed), settings, solver, steps, warp, seed)


def classes(solver: str, steps: int, warp: float, seed: int) -> dict:
    """The summary of a cell: network and corrector receive the digit's class."""
    return digits(solver, steps, warp, seed, True)


def reward(name: str, kind: str, seed: int) -> dict:
    """The summary of a cell: `domains/image_noise.yaml` with a reward and a corrector, or a fitted Gaussian."""
    folder = FOLDER / "digits-noise" / f"{name}-{kind}" / str(seed)
    if not (folder / "summary.json").exists():
        base, _ = pretrained(False, seed)
        flags = ["--config", "corrector/gaussian.yaml"] if kind == "Gaussian" else []
        flags += ["--model.weights", str(base), "--data.reward", name, "--trainer.enable_progress_bar", "false"]
        noise = str(HERE / "flow_digits_noise.yaml")
        graft_run("fit", ["--config", "domains/image_noise.yaml", "--config", noise, *flags], seed, folder)
    return json.loads((folder / "summary.json").read_text())


SHARED = [
    *["--config", str(HERE / "flow_digits_correct.yaml")],
    *["--data.num_repeats", "2", "--data.num_certificate_draws", "128", "--trainer.enable_progress_bar", "false"],
]


def unet(solver: str, steps: int, warp: float, seed: int) -> dict:
    """The summary of a cell: the flow that ships."""
    settings = ["--config", "domains/image_flow.yaml", "--data.num_repeats", "2", "--data.num_certificate_draws", "64"]
    settings += [
        "--data.num_dequantizations",
        "2",
        "--data.baseline_steps",
        "[1,2,4,8]",
        "--trainer.enable_progress_bar",
        "false",
    ]
    folder = FOLDER / "digits-unet" / f"{solver}-{steps}-{warp:g}" / str(seed)
    return _ran(folder, settings, solver, steps, warp, seed)


def _ran(folder: Path, settings: list[str], solver: str, steps: int, warp: float, seed: int) -> dict:
    if not (folder / "summary.json").exists():
        flags = ["--model.steps", str(steps), "--model.process.init_args.warp", f"{warp:g}"]
        flags += ["--data.max_invalid_fraction", "0.5", "--model.solver", f"graft.solvers.{solver}"]
        graft_run("correct", [*settings, *flags], seed, folder)
    return json.loads((folder / "summary.json").read_text())


def mnist(classes: str, solver: str, steps: int, warp: float, seed: int) -> dict:
    """The summary of a cell: the flow of `flow_mnist.yaml`, with the digits' classes as conditions or without."""
    data, features = FOLDER / "mnist.npz", FOLDER / "mnist_features.safetensors"
    if not (data.exists() and features.exists()):
        sys.exit(f"{data} and {features.name} are missing: the docstring of this file has the two commands")
    flags = ["--config", str(HERE / "flow_mnist.yaml"), "--model.features.init_args.weights", str(features)]
    more = (
        ["--model.classes", "10", "--model.backbone.init_args.num_class_embeds", "10"] if classes == "classes" else []
    )
    folder = FOLDER / f"mnist-{classes}"
    base = folder / "pretrained" / str(seed)
    if not (base / "summary.json").exists():
        train = ["--config", str(HERE / "flow_mnist_pretrain.yaml"), "--data.source", str(data)]
        graft_run("pretrain", [*flags, *train, *more, "--trainer.enable_progress_bar", "false"], seed, base)
    flags += ["--config", str(HERE / "flow_mnist_correct.yaml"), "--data.source.init_args.source", str(data), *more]
    flags += ["--model.corrector.init_args.backbone.init_args.classes", "10"] if more else []
    flags += ["--model.weights", str(base / "reference.safetensors"), "--data.num_repeats", "2"]
    flags += ["--trainer.enable_progress_bar", "false"]
    return _ran(folder / f"{solver}-{steps}-{warp:g}" / str(seed), flags, solver, steps, warp, seed)


CELLS = {
    "plane": [(plane, (trained, steps)) for trained in TRAINED for steps in (2, 4, 8)],
    "digits": [(digits, cell) for cell in (("Euler", 4, 2.0), ("Euler", 6, 2.0))],
    "classes": [(classes, ("Euler", 4, 2.0)), (classes, ("Euler", 6, 2.0))],
    "unet": [(unet, ("Euler", 4, 2.0)), (unet, ("Euler", 6, 2.0))],
    "mnist": [(mnist, (classes, "Euler", 10, 2.0)) for classes in ("classes", "none")],
    "reward": [(reward, (name, kind)) for name in ("Symmetry", "Ink") for kind in ("flow", "Gaussian")],
}
SHAPED = {
    "reward of the reference": lambda s: s["reference"]["reward"],
    "accepted": lambda s: s["accepted_reward"],
    "shaped": lambda s: s["tuned"]["reward"],
    "share of the gain": lambda s: (
        (s["tuned"]["reward"] - s["reference"]["reward"]) / (s["accepted_reward"] - s["reference"]["reward"])
    ),
    "FID to the data, reference": lambda s: s["reference"]["fid"],
    "shaped ": lambda s: s["tuned"]["fid"],
    "diversity, reference": lambda s: s["reference"]["diversity"],
    "shaped  ": lambda s: s["tuned"]["diversity"],
}
COLUMNS = {
    "flow, as many steps": lambda s: _own(s),
    "Gaussian": lambda s: s["conclusion"]["gaussian"],
    "corrected": lambda s: s["conclusion"]["distance"],
    "same solver, equal FLOPs": lambda s: s["conclusion"]["same_solver_at_equal_flops"],
    "best solver, equal FLOPs": lambda s: (s["conclusion"]["best_solver_at_equal_flops"] or {}).get("distance"),
    "trained longer, equal FLOPs": lambda s: s["conclusion"]["trained_longer_at_equal_flops"],
    "FLOPs at equal distance, same solver": lambda s: s["conclusion"]["flops_at_equal_distance"],
    "same solver and warp": lambda s: s["conclusion"]["flops_at_equal_distance_same_warp"],
    "floor": lambda s: s["distance"]["floor"],
    "kept": lambda s: s["inversion"]["kept"] / s["inversion"]["samples"],
    "known recovered": lambda s: s["inversion"]["known_noise"]["recovered"],
    "median gain": lambda s: s["inversion"]["noise_gain"]["median"],
    "MFLOP": lambda s: s["conclusion"]["flops"] / 1e6,
}


def _own(summary: dict) -> float:
    own = next(row for row in summary["frontier"] if row["name"] == "corrected")
    alike = ("solver", "steps", "warp")
    row = next(r for r in summary["frontier"] if r["name"] == "flow" and all(r[k] == own[k] for k in alike))
    return row["distances"][summary["distance"]["name"]]["mean"]


def _format_values(values: list) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    error = f" ± {statistics.stdev(known) / len(known) ** 0.5:.2g}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.3g}{error}" + (
        f" ({len(known)} of {len(values)})" if len(known) < len(values) else ""
    )


def main(which: str, seeds: list[int]) -> None:
    quiet()
    columns = SHAPED if which == "reward" else COLUMNS
    print("| cell | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
    for run, cell in CELLS[which]:
        found = [run(*cell, seed) for seed in seeds]
        cells = [_format_values([column(summary) for summary in found]) for column in columns.values()]
        print(f"| {', '.join(map(str, cell))} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], [int(seed) for seed in sys.argv[2:]] or [0, 1, 2])
