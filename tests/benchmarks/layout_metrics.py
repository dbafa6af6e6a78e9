"""Seconds that the layout metrics take on 10,000 layouts and as many real ones, MaxIoU included; on one core.

python tests/benchmarks/layout_metrics.py [FOLDER OF THE PUBLAYNET TOKEN FILES]

Without a folder the layouts are made: classes as often, and as many elements, as on PubLayNet's pages. FID and coverage
are on the features of the network that ships.
"""

import importlib.util
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from domains.layouts.metrics import metrics, table

NAMES = ("text", "title", "list", "table", "figure")
COUNT = 10_000


def made(seed: int) -> list[SimpleNamespace]:
    """Pages of 1 to 20 elements, most of them texts."""
    rng = np.random.default_rng(seed)
    pages = []
    for _ in range(COUNT):
        n = 1 + rng.binomial(19, 0.5)
        low = rng.uniform(0, 0.6, (n, 2))
        boxes = np.concatenate([low, low + rng.uniform(0.02, 0.4, (n, 2))], 1)
        pages.append(SimpleNamespace(labels=rng.choice(5, n, p=(0.71, 0.19, 0.03, 0.03, 0.04)), boxes=boxes))
    return pages


def read(path: Path) -> list[SimpleNamespace]:
    pages = []
    for line in path.read_text().splitlines()[:COUNT]:
        words = line.split()  # class, left, top, right, bottom, bar
        boxes = np.array([words[i::6] for i in range(1, 5)], float).T / 127
        pages.append(SimpleNamespace(labels=np.array([NAMES.index(word) for word in words[::6]]), boxes=boxes))
    return pages


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        pages, real = (read(Path(sys.argv[1]) / f"src1_{name}.txt") for name in ("valid", "test"))
    else:
        pages, real = made(0), made(1)
    network = None
    if importlib.util.find_spec("domains.layouts.features") is not None:
        from domains.layouts.features import features as network
    started = time.process_time()
    found = metrics(NAMES, real, network)
    print(f"prepare       {time.process_time() - started:6.2f} s")
    values = {}
    for name, metric in found.items():
        before = time.process_time()
        metric.update(pages)
        values[name] = float(metric.compute())
        print(f"{name:<12}  {time.process_time() - before:6.2f} s")
    print(f"all           {time.process_time() - started:6.2f} s for {len(pages)} layouts and {len(real)} real ones\n")
    print(table({"layouts": values}, "layoutformer"))


if __name__ == "__main__":
    main()
