"""Processor time of the parts of `graft fit --model.level auto` on the default molecules.

python tests/benchmarks/shares.py [ROUNDS]
"""

import sys
import tempfile
import time

import torch

import graft
from graft.rollouts import Rollouts, data_module

ROUNDS = 3


def timed(owner, name, spent):
    method = getattr(owner, name)

    def wrapper(*args, **kwargs):
        started = time.process_time()
        try:
            return method(*args, **kwargs)
        finally:
            spent[name] = spent.get(name, 0.0) + time.process_time() - started

    setattr(owner, name, wrapper)


def main():
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    spent: dict[str, float] = {}
    timed(data_module, "resolve", spent)
    for name in ("_sample", "_score", "_round", "train_dataloader"):
        timed(Rollouts, name, spent)
    with tempfile.TemporaryDirectory() as folder:
        module, data, trainer = graft.load(
            "domains/molecule.yaml",
            "--config=molecule/pgraft.yaml",
            f"--trainer.max_epochs={rounds}",
            "--model.level=auto",
        )
        started = time.process_time()
        graft.fit(module, data, folder, trainer)
        whole = time.process_time() - started
    accepting = spent["_round"] - spent["_sample"] - spent["_score"]
    serving = spent["train_dataloader"] - spent["_round"] - spent["resolve"]
    parts = {
        "sampling": spent["_sample"],
        "scoring": spent["_score"],
        "choosing the level": spent["resolve"],
        "accepting and keeping states": accepting,
        "serving what was accepted": serving,
        "training, judging and writing": whole - spent["train_dataloader"],
    }
    for name, seconds in parts.items():
        print(f"{name:<30} {seconds:8.2f} s {seconds / whole:7.1%}")
    print(f"{'choosing and shaping together':<30} {spent['resolve'] + accepting + serving:8.2f} s ", end="")
    print(f"{(spent['resolve'] + accepting + serving) / whole:6.1%} of {whole:.0f} s for {rounds} rounds")


if __name__ == "__main__":
    main()
