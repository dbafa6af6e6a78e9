"""Score the check of the reference as a detector: references that are consistent with their draws, and that are not.

    python tests/benchmarks/reference_error.py run [--seeds 0,1] [--out runs/reference_error] [--only digits]
    python tests/benchmarks/reference_error.py table [--out runs/reference_error]

Each reference is tuned for one round by shaping and by anchored shaping from the same draws. A reference is bad if
shaping lowers the reward, or gains less than half as much as anchored shaping. The check decides in the first round.
``run`` resumes: a finished run is not repeated.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import Generator, Tensor

from graft.io.tensors import read_tensors, write_tensors
from graft.objectives.reference_error import ErrorRatio

DIGITS = Path("domains/images/reference/digits.safetensors")
ONE = ["--trainer.max_epochs", "1", "--data.replay_rounds", "1", "--data.evaluation.validation_draws", "0"]
ROUND = ["--data.draws", "1024", "--data.steps_per_round", "200", "--data.evaluation.test_draws", "512"]
PICTURES = ["--data.draws", "512", "--data.steps_per_round", "100", "--data.evaluation.test_draws", "256"]
PLAIN = ["--model.upper_level", "1", "--model.level", "0"]
REFERENCES: dict[str, tuple[str, list[str]]] = {
    "digits": ("image", ROUND),
    "digits, 8 steps": ("image", [*ROUND, "--model.steps", "8"]),
    "digits, 4 steps": ("image", [*ROUND, "--model.steps", "4"]),
    "digits, weights with noise of 0.1": ("image", [*ROUND, "--noise", "0.1"]),
    "digits, weights with noise of 0.2": ("image", [*ROUND, "--noise", "0.2"]),
    "digits, weights with noise of 0.4": ("image", [*ROUND, "--noise", "0.4"]),
    "digits, untrained": ("image", [*ROUND, "--noise", "untrained"]),
    "layouts": ("layout", [*ROUND, *PLAIN]),
    "pictures of captions": ("text_to_image", PICTURES),
    "pictures of captions, guidance 3": ("text_to_image", [*PICTURES, "--model.guidance.guidance_scale", "3"]),
    "molecules": ("molecule", ROUND),
}
OBJECTIVES = {"shaping": "graft.objectives.Shaping", "anchored": "graft.objectives.AnchoredShaping"}


def changed_digits(folder: Path, noise: str) -> Path:
    """Write the digits' network with other weights.

    Args:
        folder: Folder of the file.
        noise: ``untrained``, or the share of each tensor's own standard deviation that is added as normal noise.
    """
    path = folder / f"digits_noise_{noise}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(0)
        tensors, about = read_tensors(DIGITS)
        for name, tensor in tensors.items():
            if not name.startswith("backbone/"):
                continue
            if noise == "untrained":
                tensors[name] = initial(name, tensor, generator)
            elif tensor.numel() > 1:
                added = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
                tensors[name] = tensor + float(noise) * tensor.std() * added
        write_tensors(path, tensors, about)
    return path


def initial(name: str, tensor: Tensor, generator: Generator) -> Tensor:
    """Return initial weights as torch's layers have them: uniform within 1 / sqrt(inputs), 1 in norms, no biases."""
    if tensor.ndim > 1:
        bound = tensor[0].numel() ** -0.5
        return bound * (2 * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) - 1)
    return torch.ones_like(tensor) if name.endswith("weight") else torch.zeros_like(tensor)


def run(args: argparse.Namespace) -> None:
    """Run each reference with each objective and seed."""
    for name, (config, flags) in REFERENCES.items():
        if args.only and args.only not in name:
            continue
        flags = list(flags)
        if "--noise" in flags:
            at = flags.index("--noise")
            flags[at : at + 2] = ["--model.weights", str(changed_digits(args.out, flags[at + 1]))]
        for seed in args.seeds.split(","):
            for short, objective in OBJECTIVES.items():
                folder = args.out / name.replace(", ", "-").replace(" ", "_") / f"{short}_{seed}"
                if (folder / "summary.json").exists():
                    continue
                command = [sys.executable, "-m", "graft", "fit", "--config", f"domains/{config}.yaml", *ONE, *flags]
                command += ["--model.objective", objective, "--seed_everything", seed, "--run_dir", str(folder)]
                command += ["--ckpt_path", "auto"]
                print(f"{name}, {short}, seed {seed}", flush=True)
                if status := subprocess.run(command, check=False).returncode:
                    sys.exit(f"graft fit ended with status {status}; the same command resumes")


def table(args: argparse.Namespace) -> None:
    """Print the gains in standard deviations of the reference's reward, the ratio and the decision."""
    print("| reference | seed | gain of shaping | gain of anchored shaping | ratio (lower bound) | warned | bad |")
    print("|---|---|---|---|---|---|---|")
    for name in REFERENCES:
        folder = args.out / name.replace(", ", "-").replace(" ", "_")
        for path in sorted(folder.glob("shaping_*/summary.json")):
            seed = path.parent.name.partition("_")[2]
            other = folder / f"anchored_{seed}/summary.json"
            if not other.exists():
                continue
            plain, anchored = (json.loads(each.read_text()) for each in (path, other))
            gains = [each["gain"]["in_reference_std"] for each in (plain, anchored)]
            found = ErrorRatio(**plain["rounds"][0]["reference_error"])
            bad = gains[0] < 0 or gains[0] < gains[1] / 2
            decided = ("yes" if found.is_large else "no"), ("yes" if bad else "no")
            print(f"| {name} | {seed} | {gains[0]:.2f} | {gains[1]:.2f} | {found} | {' | '.join(decided)} |")


def main() -> None:
    """Run or tabulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["run", "table"])
    parser.add_argument("--out", type=Path, default=Path("runs/reference_error"))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--only", default="", help="part of the names of references")
    args = parser.parse_args()
    {"run": run, "table": table}[args.do](args)


if __name__ == "__main__":
    main()
