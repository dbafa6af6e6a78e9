"""Time of the layout metrics on 10,000 layouts and as many real ones, MaxIoU included; on one core.

python tests/benchmarks/layout_metrics.py [FOLDER OF THE PUBLAYNET TOKEN FILES]

Without a folder the layouts are made: classes as often, and as many elements, as on PubLayNet's pages. FID and coverage
are on the features of the network that ships.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from domains.layouts.features import layout_features
from domains.layouts.layout import PUBLAYNET, Layout
from domains.layouts.metrics import make_metrics, metrics_table
from domains.layouts.readers import read_layouts

COUNT = 10_000


def made(seed: int) -> list[Layout]:
    """Pages of 1 to 20 elements, most of them texts."""
    rng = np.random.default_rng(seed)
    pages = []
    for _ in range(COUNT):
        n = 1 + rng.binomial(19, 0.5)
        low = rng.uniform(0, 0.6, (n, 2))
        boxes = np.concatenate([low, low + rng.uniform(0.02, 0.4, (n, 2))], 1)
        pages.append(Layout(rng.choice(5, n, p=(0.71, 0.19, 0.03, 0.03, 0.04)), boxes))
    return pages


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        files = (Path(sys.argv[1]) / f"src1_{name}.txt" for name in ("valid", "test"))
        pages, real = (read_layouts(str(file), PUBLAYNET, 20).layouts()[:COUNT] for file in files)
    else:
        pages, real = made(0), made(1)
    started = time.process_time()
    found = make_metrics(PUBLAYNET, real, layout_features)
    print(f"prepare       {time.process_time() - started:6.2f} s")
    values = {}
    for name, metric in found.items():
        before = time.process_time()
        metric.update(pages)
        values[name] = float(metric.compute())
        print(f"{name:<12}  {time.process_time() - before:6.2f} s")
    print(f"all           {time.process_time() - started:6.2f} s for {len(pages)} layouts and {len(real)} real ones\n")
    print(metrics_table({"layouts": values}, "layoutformer"))


if __name__ == "__main__":
    main()
