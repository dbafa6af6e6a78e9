"""``graft evaluate``: the domain's metrics of a model's samples over several runs, with 95 % intervals."""

from dataclasses import dataclass

from lightning.pytorch import Trainer

from graft.dataloaders.sampling import SampleRequests, sample_objects
from graft.evaluation import SampleEvaluator
from graft.evaluation.confidence import mean_interval
from graft.module import GraftModule
from graft.report.tables import format_name
from graft.rollouts import feasible

CHUNK = 128
"""Number of samples in a batch."""


@dataclass
class MetricInterval:
    """A metric over the runs.

    Attributes:
        mean: Mean over the runs.
        interval: Half the width of the mean's 95 % t interval; None for one run.
        runs: Value of each run.
    """

    mean: float
    interval: "float | None"
    runs: list[float]


def evaluate(module: GraftModule, trainer: Trainer, count: int, runs: int) -> dict[str, MetricInterval]:
    """Return the domain's metrics by name, over ``runs`` independent sets of ``count`` samples.

    Args:
        module: The model.
        trainer: Lightning's trainer.
        count: Number of samples of a run.
        runs: Number of runs; each run has its own seed.

    Raises:
        GraftError: The samples would take years, or more memory than there is.
    """
    feasible.check_sampling(module, module.policy, "-n", count, runs)
    values: dict[str, list[float]] = {}
    for run in range(runs):
        evaluator = SampleEvaluator(None, module.metrics())
        requests = SampleRequests(module, count, CHUNK, ("evaluate", run), "tuned")
        for items, calls in sample_objects(module, trainer, requests):
            evaluator.update(items, calls)
        for name, value in evaluator.summary().items():
            values.setdefault(name, []).append(value)
    return {name: _over_runs(each) for name, each in values.items() if name != "n"}


def _over_runs(values: list[float]) -> MetricInterval:
    found = mean_interval(values)
    assert found is not None
    return MetricInterval(found.mean, found.half, values)


def metrics_table(metrics: dict[str, MetricInterval]) -> str:
    """Return the metrics as text, one line each."""
    lines = []
    for name, metric in metrics.items():
        spread = "" if metric.interval is None else f" ± {metric.interval:.4f}"
        lines.append(f"{format_name(name):<22} {metric.mean:.4f}{spread}")
    return "\n".join(lines)
