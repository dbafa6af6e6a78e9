"""The dense against the torch_geometric backbone: sampling and training, small and mixed sizes of molecules.

python tests/benchmarks/backbone.py
"""

import statistics
import time

import torch

from domains.molecules.backbone import EGNN, MessagePassingEGNN

PAIRS = 9


def batch(counts, atoms, types):
    mask = (torch.arange(atoms) < counts[:, None]).float()
    nodes = mask[..., None]
    size = len(counts)
    return {"x": torch.randn(size, atoms, 3) * nodes, "h": torch.randn(size, atoms, types) * nodes}, {"mask": mask}


def seconds(net, state, condition, train):
    time_ = torch.rand(len(condition["mask"]))
    started = time.perf_counter()
    with torch.set_grad_enabled(train):
        out = net(state, time_, condition)
        if train:
            (out["x"].square().sum() + out["h"].square().sum()).backward()
    return time.perf_counter() - started


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {
        "7 atoms, all": torch.full((128,), 7),
        "2 to 7 atoms": torch.randint(2, 8, (128,)),
        "18 atoms, all": torch.full((64,), 18),
        "3 to 29 atoms": torch.randint(3, 30, (64,)),
    }
    print(
        f"{'':<16}{'':<9}{'dense':>10}{'messages':>10}{'ratio':>8}   (ms a call, median of {PAIRS}; range of the ratio)"
    )
    for name, counts in sizes.items():
        state, condition = batch(counts, int(counts.max()), 10)
        nets = [EGNN(10), MessagePassingEGNN(10)]
        for train in (False, True):
            for net in nets:
                seconds(net, state, condition, train)
            took = [[seconds(net, state, condition, train) for net in nets] for _ in range(PAIRS)]
            dense, messages = (1e3 * statistics.median(column) for column in zip(*took, strict=True))
            ratios = sorted(b / a for a, b in took)
            kind = "train" if train else "sample"
            print(
                f"{name:<16}{kind:<9}{dense:>10.1f}{messages:>10.1f}{statistics.median(ratios):>8.2f}"
                f"   ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            )


if __name__ == "__main__":
    main()
