"""Samplers of one network: number of steps, noise of a step (eta) and spacing of the steps (warp).

    python tests/benchmarks/molecule_sampler.py [--config domains/molecule.yaml] [--steps 24,48] [--eta 0,1]
        [--eta_above 0] [--warp 2] [--samples 1000] [--seeds 0,1]

The network is the reference of the configuration. Its input is the time t, so that it can be evaluated at any spacing.
A row is printed for each combination of the settings, with a figure for each seed; CPU s is of all seeds.
"""

import argparse
import itertools
import time

import torch
from molecule_samples import sample

from domains.molecules.chemistry import is_connected, is_stable, is_valid, molecule_key
from graft.cli import load


def numbers(text: str) -> list[float]:
    """The numbers of a list with commas."""
    return [float(word) for word in text.split(",")]


def main() -> None:
    """Print a row for each setting."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="domains/molecule.yaml")
    parser.add_argument("--steps", type=numbers, default=[6, 12, 24, 48])
    parser.add_argument("--eta", type=numbers, default=[1.0, 0.5, 0.0])
    parser.add_argument("--eta_above", type=numbers, default=[0.0])
    parser.add_argument("--warp", type=numbers, default=[2.0])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seeds", default="0,1")
    args = parser.parse_args()
    torch.set_num_threads(1)
    module, _, _ = load(args.config)
    print("steps  eta  eta_above  warp  stable  connected  valid_connected  distinct  aromatic  CPU s")
    for steps, eta, above, warp in itertools.product(args.steps, args.eta, args.eta_above, args.warp):
        for field in module.policy.process.fields.values():
            field.eta, field.eta_above, field.warp = eta, above, warp
        module.policy.steps = int(steps)
        rows = []
        for seed in map(int, args.seeds.split(",")):
            began = time.process_time()
            mols = sample(module, args.samples, seed)
            spent = time.process_time() - began
            good = [mol for mol in mols if is_valid(mol) and is_connected(mol)]
            distinct = len({molecule_key(mol) for mol in mols} - {""}) / len(mols)
            aromatic = mean(any(atom.GetIsAromatic() for atom in mol.GetAtoms()) for mol in good)
            whole = len(good) / len(mols)
            rows.append((mean(map(is_stable, mols)), mean(map(is_connected, mols)), whole, distinct, aromatic, spent))
        figures = "  ".join("/".join(f"{row[i]:.3f}" for row in rows) for i in range(5))
        print(f"{steps:>5g}  {eta:g}  {above:g}  {warp:g}  {figures}  {sum(row[-1] for row in rows):.1f}", flush=True)


def mean(flags: object) -> float:
    """Return the share of true flags; NaN without flags."""
    values = list(flags)  # type: ignore[call-overload]
    return sum(values) / len(values) if values else float("nan")


if __name__ == "__main__":
    main()
