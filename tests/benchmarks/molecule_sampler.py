"""What the sampler makes of one and the same network: steps, noise of a step (eta), and how steps are spaced (warp).

    python tests/benchmarks/molecule_sampler.py [--samples 1000] [--seeds 0,1]

The network is the heavy-atom reference that ships. It is told the time t, so that it can be asked at any spacing.
"""

import argparse
import time

import torch

from domains.molecules.chemistry import is_connected, is_stable, key
from graft.cli import load
from graft.core import seeding
from graft.core.datatypes import SampleRequest

SETTINGS = [
    *[(steps, eta, 2.0) for steps in (6, 12, 24, 48, 96) for eta in (1.0, 0.5, 0.0)],
    *[(24, 1.0, warp) for warp in (1.0, 1.5, 2.5, 3.0)],
]


def main() -> None:
    """Print a row for each setting."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seeds", default="0,1")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    module, _, _ = load("domains/molecule.yaml")
    print("steps  eta  warp  stable  connected  distinct  CPU s")
    for steps, eta, warp in SETTINGS:
        for field in module.policy.process.fields.values():
            field.eta, field.warp = eta, warp
        module.policy.steps = steps
        rows = []
        for seed in map(int, asked.seeds.split(",")):
            module.seed, began, mols = seed, time.process_time(), []
            for chunk in range(0, asked.samples, 250):
                count = min(250, asked.samples - chunk)
                condition = module.sample_conditions(count, seeding.make_generator(seed, "condition", chunk))
                drawn = module.predict_step(SampleRequest(condition, ("benchmark", chunk), "reference"))
                mols += module.decode(drawn.state, condition)
            spent = time.process_time() - began
            distinct = len({key(mol) for mol in mols} - {""}) / len(mols)
            rows.append((mean(map(is_stable, mols)), mean(map(is_connected, mols)), distinct, spent))
        figures = "  ".join("/".join(f"{row[i]:.3f}" for row in rows) for i in range(3))
        print(f"{steps:>5}  {eta:.1f}  {warp:.1f}  {figures}  {sum(row[3] for row in rows):.1f}", flush=True)


def mean(flags: object) -> float:
    """The share of what holds."""
    values = list(flags)  # type: ignore[call-overload]
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
