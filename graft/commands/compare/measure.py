"""Rewards, metrics and distances of a method's samples."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from graft.commands.compare.accepted_distribution import SEED, AcceptedDistribution
from graft.commands.compare.matched import Matched, match
from graft.core import seeding
from graft.domain.distance import coverage, frechet, internal_diversity, paired_mmd
from graft.evaluation import SampleEvaluator
from graft.evaluation.samples import Samples
from graft.module import GraftModule
from graft.reward import oriented
from graft.rounds.gain import gain

DISTANCES: dict[str, Callable[[Tensor, Tensor, Tensor], float]] = {
    "mmd": lambda a, b, weight: paired_mmd(a, b, weight=weight),
    "frechet": frechet,
    "coverage": lambda real, tuned, weight: coverage(real, tuned, weight=weight),
}
FEATURED = (
    *("internal_diversity", "distance_n", "distance_share"),
    *(name for distance in DISTANCES for name in (distance, f"{distance}_floor")),
    *("drift", "drift_floor"),
)
DRIFT = "frechet"
"""The distance to draws of the reference that measures the drift of a model."""
MIN_MATCHED = 6
"""Smallest number of samples on either side of a distance; the coverage needs as many."""


def measure(
    module: GraftModule,
    samples: Samples,
    rewards: Sequence[float],
    reference: Sequence[float],
    groups: Tensor,
    accepted: AcceptedDistribution,
    higher_is_better: bool,
) -> dict[str, "float | None"]:
    """Return the rewards, metrics and distances by name.

    A value is None if there is nothing to average.

    The names are the same for all samples of a domain. Metrics of several numbers are not in the result, nor are
    distances if the domain has no features. Gains and distances are matched by condition: see `graft.rounds.gain` and
    `graft.commands.compare.matched`.

    Args:
        module: The model.
        samples: The samples.
        rewards: (n,) reward of each sample, NaN where the reward failed.
        reference: (n,) reward of each sample of the reference; the i-th samples share noise and condition.
        groups: (n,) integer of the condition of each sample.
        accepted: The accepted distribution, which gains and distances are measured against.
        higher_is_better: True if a larger reward is better.
    """
    ours, theirs = torch.tensor(rewards, dtype=torch.float64), torch.tensor(reference, dtype=torch.float64)
    there, both = ~ours.isnan(), ~ours.isnan() & ~theirs.isnan()
    mean, std = _mean_std(ours[there])
    _, base_std = _mean_std(theirs[~theirs.isnan()])
    _, gain_std = _mean_std((ours - theirs)[both])
    found = gain(ours, theirs, groups, accepted.accepted)
    out = {
        "n": len(samples.items),
        "reward": mean,
        "reward_stderr": std / math.sqrt(max(1, int(there.sum()))),
        "reward_std": std,
        "failed_rewards": int((~there).sum()),
        "gain": found.reward,
        "gain_stderr": gain_std / math.sqrt(max(1, int(both.sum()))),  # the pairs have the same noise
        "gain_in_reference_std": oriented(found.reward, higher_is_better) / base_std if base_std else math.nan,
        "gain_of_accepted": found.of_accepted,
        "matched_share": found.share,
    }
    evaluator = SampleEvaluator(None, module.metrics())
    evaluator.update(samples.items, 0)
    values = evaluator.summary()
    out |= {name: values[name] for name in module.metrics() if name in values}
    if accepted.features is not None:
        out |= _by_features(module, samples.items, groups, accepted)
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in out.items()}


def _by_features(
    module: GraftModule, items: Sequence[Any], groups: Tensor, accepted: AcceptedDistribution
) -> dict[str, float]:
    """Return the diversity and the distances of samples by name.

    A value is NaN if there are too few samples.
    """
    assert accepted.features is not None
    out: dict[str, float] = dict.fromkeys(FEATURED, math.nan)
    features = module.features(items).double()
    if len(features) > 1:
        out["internal_diversity"] = internal_diversity(features)
    # One fixed seed gives all methods the same halves of the accepted samples.
    matched = match(accepted.groups, groups, seeding.make_generator(SEED, "halves"))
    out["distance_n"], out["distance_share"] = len(matched.half), matched.share
    out |= distances(accepted.features, features, matched)
    if accepted.drawn is not None:
        drawn = match(accepted.drawn_groups, groups, seeding.make_generator(SEED, "drawn"))
        found = distances(accepted.drawn, features, drawn)
        out |= {"drift": found[DRIFT], "drift_floor": found[f"{DRIFT}_floor"]} if found else {}
    return out


def distances(accepted: Tensor, tuned: Tensor, matched: Matched) -> dict[str, float]:
    """Return each distance of a model's samples to accepted samples and its floor, by name.

    The result is empty if fewer than `MIN_MATCHED` samples are matched.

    Args:
        accepted: (N, d) features of the accepted samples.
        tuned: (M, d) features of the model's samples.
        matched: Positions of the samples that are compared.
    """
    out: dict[str, float] = {}
    if len(matched.half) < MIN_MATCHED:
        return out
    half, other, mine = accepted[matched.half], accepted[matched.other], tuned[matched.tuned]
    for name, distance in DISTANCES.items():
        out[name], out[f"{name}_floor"] = distance(half, mine, matched.weight), distance(half, other, matched.weight)
    return out


def _mean_std(values: Tensor) -> tuple[float, float]:
    mean = float(values.mean()) if len(values) else math.nan
    return mean, float(values.std()) if len(values) > 1 else math.nan
