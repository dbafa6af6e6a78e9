"""Copies of finished runs whose weights lie further from the reference, for `graft compare` to evaluate.

    python tests/benchmarks/moved_weights.py COMPARISON METHOD SHARE LABEL

A run of METHOD in the folder of a comparison becomes one of LABEL with weights reference + SHARE · (tuned − reference).
A LABEL is of one SHARE: copies that are there are kept.
The comparison's command with `LABEL.yaml`, a copy of METHOD's file, among its `--methods` then evaluates them.
"""

import shutil
import sys
from pathlib import Path

import torch

from graft.io.tensors import read_tensors, write_tensors


def move(run: Path, made: Path, share: float) -> None:
    """Copy a run, with moved weights."""
    part = made.parent / f".{made.name}"  # a copy that was interrupted is not taken for a whole one
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(run, part)
    tuned, about = read_tensors(run / "tuned.safetensors")
    reference, _ = read_tensors(about["reference"]["path"])
    moved = {
        name: torch.lerp(reference[name], weights, share) if weights.is_floating_point() else weights
        for name, weights in tuned.items()
    }
    about = {name: value for name, value in about.items() if name not in ("sha256", "format")}
    write_tensors(part / "tuned.safetensors", moved, about)
    part.rename(made)


def main(comparison: str, method: str, share: str, label: str) -> None:
    runs = Path(comparison) / "runs"
    for run in sorted(runs.glob(f"{method}_*seed*")):
        name = run.name.removeprefix(method)
        if name.lstrip("_0123456789.").startswith("seed"):  # not a longer name of another method
            made = runs / f"{label}{name}"
            if not made.exists():
                move(run, made, float(share))
            print(made)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
