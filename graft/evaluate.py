"""What a model's samples are like, over several runs: the domain's metrics with the spread between the runs."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from lightning.pytorch import Trainer
from scipy import stats

from graft import feasible
from graft.batches import Weights
from graft.batches.sampling import SampleRequests, sample_objects
from graft.evaluation import SampleEvaluator
from graft.module import GraftModule


@dataclass
class MetricInterval:
    """A metric over the runs.

    Attributes:
        mean: Over the runs.
        interval: Half of the 95 % t interval of the mean; None for one run.
        runs: The value of each.
    """

    mean: float
    interval: "float | None"
    runs: list[float]


def evaluate(
    module: GraftModule, trainer: Trainer, count: int, runs: int, weights: Weights = "tuned", chunk: int = 128
) -> dict[str, MetricInterval]:
    """The domain's metrics of ``count`` samples, drawn anew ``runs`` times with seeds of their own.

    Args:
        module: The model.
        trainer: Lightning's.
        count: Samples of a run.
        runs: How many runs.
        weights: Whose samples.
        chunk: Samples that are drawn at a time.
    """
    feasible.check_sampling(module, "-n", count, runs)
    found: dict[str, list[float]] = {}
    for run in range(runs):
        judge = SampleEvaluator(None, module.metrics())
        for items, calls in sample_objects(
            module, trainer, SampleRequests(module, count, chunk, ("evaluate", run), weights)
        ):
            judge.update(items, calls)
        for name, value in judge.summary().items():
            found.setdefault(name, []).append(value)
    return {name: _figure(values) for name, values in found.items() if name != "n"}


def _figure(values: list[float]) -> MetricInterval:
    mean = sum(values) / len(values)
    if len(values) == 1:
        return MetricInterval(mean, None, values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return MetricInterval(mean, float(stats.t.ppf(0.975, len(values) - 1)) * spread / math.sqrt(len(values)), values)


def table(figures: dict[str, MetricInterval]) -> str:
    """Figures as text."""
    lines = []
    for name, figure in figures.items():
        spread = "" if figure.interval is None else f" ± {figure.interval:.4f}"
        lines.append(f"{name.replace('_', ' '):<22} {figure.mean:.4f}{spread}")
    return "\n".join(lines)


def plain(figures: dict[str, MetricInterval]) -> dict[str, Any]:
    """Figures as JSON has them."""
    return {name: asdict(figure) for name, figure in figures.items()}
