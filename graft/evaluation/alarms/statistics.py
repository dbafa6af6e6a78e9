"""Statistics of a set of draws, each with its values without one part of the draws, for a jackknife error."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from graft.core.distributed import disable_sync
from graft.domain import hooks
from graft.domain.distance import mmd, polynomial_kernel
from graft.reward import oriented

GROUPS = 20
"""Number of parts of the jackknife: its error has 19 degrees of freedom."""


@dataclass
class Statistic:
    """A statistic of a set of draws.

    Attributes:
        value: Value for all draws.
        leave_one_out: (G,) value without each part of the draws.
        direction: 1 if larger is better, -1 if smaller is better, 0 if the metric does not say.
    """

    value: float
    leave_one_out: Tensor
    direction: int = 1


@dataclass
class SampleSet:
    """Draws of one model, from all ranks, split into parts for the jackknife.

    Attributes:
        items: (n,) objects.
        features: (n, d) features of the objects; None if the domain has no features.
        held_out: (n,) held-out reward of each object, NaN where it failed; None for no held-out reward.
        higher_is_better: True if a larger held-out reward is better.
        part: (n,) number of the part of each draw.
        parts: Number of parts.
    """

    items: Sequence[Any]
    features: "Tensor | None" = None
    held_out: "Tensor | None" = None
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        groups = min(GROUPS, len(self.items))
        self.part = torch.arange(len(self.items)) % max(1, groups)
        self.parts = groups
        self.features = None if self.features is None else self.features.double()
        self.held_out = None if self.held_out is None else self.held_out.double()

    @property
    def held_out_std(self) -> float:
        """Standard deviation of the held-out reward; 0 for fewer than two rewards."""
        there = self.held_out[~self.held_out.isnan()] if self.held_out is not None else torch.zeros(0)
        return float(there.std()) if len(there) > 1 else 0.0


def statistics(
    draws: SampleSet, reference: SampleSet, metrics: Callable[[], Mapping[str, Metric]], skip: Sequence[str] = ()
) -> dict[str, Statistic]:
    """Return the statistics by name.

    They are the domain's metrics of one number, ``internal_diversity``, ``feature_distance`` and ``held_out``. A
    statistic that is not finite, for all draws or without one part, is not in the result.

    Args:
        draws: Draws of the model.
        reference: Draws of the reference; the i-th draws of both sets share the noise. ``draws`` itself for the
            reference's own statistics.
        metrics: Function that returns fresh metrics of the domain.
        skip: Names of statistics that are not computed.
    """
    out = _metrics(draws, metrics, skip)
    if draws.features is not None and reference.features is not None and len(draws.features) > 2:
        if "internal_diversity" not in skip:
            apart = torch.cdist(draws.features, draws.features, compute_mode="donot_use_mm_for_euclid_dist")
            out["internal_diversity"] = _mean_of_pairs(apart, draws)
        if "feature_distance" not in skip and (found := _feature_distance(draws, reference)) is not None:
            out["feature_distance"] = found
    if draws.held_out is not None and "held_out" not in skip:
        there = ~draws.held_out.isnan()
        keep = there & (draws.part != torch.arange(draws.parts)[:, None])
        if bool(keep.any(1).all()):
            rewards = draws.held_out.nan_to_num()
            without = (keep * rewards).sum(1) / keep.sum(1)
            out["held_out"] = Statistic(float(rewards[there].mean()), without, oriented(1, draws.higher_is_better))
    return {
        name: each
        for name, each in out.items()
        if math.isfinite(each.value) and bool(each.leave_one_out.isfinite().all())
    }


def _metrics(
    draws: SampleSet, metrics: Callable[[], Mapping[str, Metric]], skip: Sequence[str]
) -> dict[str, Statistic]:
    """Return the statistics of the domain's metrics.

    A metric is updated once with each part of the draws, and merged if torchmetrics can merge it.
    """
    chosen = {name: metric for name, metric in metrics().items() if name not in skip}
    wholes = {name: _updated(m, name, draws.items) for name, m in chosen.items() if getattr(m, "monitored", True)}
    numbers = {name: value for name, metric in wholes.items() if (value := _number(metric, name)) is not None}
    parts = [metrics() for _ in range(draws.parts)]
    out = {}
    for name, value in numbers.items():
        pieces = [_updated(part[name], name, draws.items[g :: draws.parts]) for g, part in enumerate(parts)]
        found = [_without(pieces, name, g) for g in range(draws.parts)]
        if math.nan in found or not _agrees(_merged(pieces, name), value):
            found = []
            for g in range(draws.parts):
                rest = [item for i, item in enumerate(draws.items) if i % draws.parts != g]
                number = _number(_updated(metrics()[name], name, rest), name)
                found.append(math.nan if number is None else number)
        better = wholes[name].higher_is_better
        without = torch.tensor(found, dtype=torch.float64)
        if len(found) > 1:
            out[name] = Statistic(value, without, 0 if better is None else oriented(1, better))
    return out


def _feature_distance(draws: SampleSet, reference: SampleSet) -> "Statistic | None":
    """Return the unbiased kernel distance to the reference.

    It is MMD² / (E k(x, x) − E k(x, x')) with the kernel of KID.

    The distance of a point mass at one draw of the reference is 1 on average. Pairs of draws that share the noise
    depend on each other and do not count, so that the distance is 0 on average for the reference's distribution. For
    the reference itself, the distance is that between two halves of its draws. None if all draws are equal.
    """
    a, b = reference.features, draws.features
    assert a is not None and b is not None
    own = polynomial_kernel(a, a)
    n = len(a)
    spread = float(own.diagonal().mean() - (own.sum() - own.diagonal().sum()) / (n * (n - 1)))
    if spread <= 0:
        return None
    if draws is reference:
        first, second = a[::2], a[1::2]
        value = mmd(first, second) / spread if len(second) > 1 else 0.0
        return Statistic(value, torch.full((draws.parts,), value, dtype=torch.float64), -1)
    across = polynomial_kernel(a, b)
    found = _mean_of_pairs((own + polynomial_kernel(b, b) - across - across.T) / spread, draws)
    return Statistic(found.value, found.leave_one_out, -1)


def _mean_of_pairs(pairs: Tensor, draws: SampleSet) -> Statistic:
    """Return the mean of (n, n) values over the pairs of different draws."""
    pairs = pairs.clone().fill_diagonal_(0)
    member = torch.nn.functional.one_hot(draws.part, draws.parts).double()
    count = member.sum(0)
    blocks = member.T @ pairs @ member
    rest = pairs.sum() - blocks.sum(0) - blocks.sum(1) + blocks.diagonal()
    left = len(pairs) - count
    return Statistic(float(pairs.sum()) / (len(pairs) * (len(pairs) - 1)), rest / (left * (left - 1)))


def _updated(metric: Metric, name: str, items: Sequence[Any]) -> Metric:
    hooks.update(metric, name, items)
    return disable_sync(metric)


def _number(metric: Metric, name: str) -> "float | None":
    value = hooks.compute(metric, name)
    return None if isinstance(value, dict) else value


def _merged(pieces: Sequence[Metric], name: str) -> "float | None":
    whole = copy.deepcopy(pieces[0])
    try:
        for piece in pieces[1:]:
            whole.merge_state(piece)
    except (RuntimeError, TypeError):  # torchmetrics: not every metric can be merged
        return None
    return _number(whole, name)


def _without(pieces: Sequence[Metric], name: str, part: int) -> float:
    rest = [piece for g, piece in enumerate(pieces) if g != part]
    found = _merged(rest, name) if rest else None
    return math.nan if found is None else found


def _agrees(found: "float | None", value: float) -> bool:
    """Return True if the merged value equals the value of all draws.

    A metric that keeps a mean as its state is merged with other weights than its updates have, and differs.
    """
    return found is not None and math.isclose(found, value, rel_tol=1e-4, abs_tol=1e-6)
