"""What the samples of a method are like."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from graft import seeding
from graft.compare.accepted_distribution import SEED, AcceptedDistribution
from graft.compare.drawn import Drawn
from graft.compare.matched import Matched, match
from graft.distance import coverage, frechet, internal_diversity, paired_mmd
from graft.evaluation import SampleEvaluator
from graft.module import GraftModule
from graft.rounds.gain import gain

DISTANCES: dict[str, Callable[[Tensor, Tensor, Tensor], float]] = {
    "mmd": lambda a, b, weight: paired_mmd(a, b, weight=weight),
    "frechet": frechet,
    "coverage": lambda real, tuned, weight: coverage(real, tuned, weight=weight),
}
FEATURED = (
    *("internal_diversity", "distance_n", "distance_share"),
    *(name for distance in DISTANCES for name in (distance, f"{distance}_floor")),
)
LEAST = 6  # samples in a half of the law: what coverage needs


def measure(
    module: GraftModule,
    drawn: Drawn,
    rewards: Sequence[float],
    reference: Sequence[float],
    groups: Tensor,
    law: AcceptedDistribution,
    higher_is_better: bool,
) -> dict[str, "float | None"]:
    """By name, the same names for all samples of a domain; None where there is nothing to average.

    A domain's metrics of several numbers are left out, and so are distances where it has no features. Gains and
    distances are matched by condition: see `graft.rounds.gain` and `graft.compare.matched`.

    Args:
        module: Of the domain.
        drawn: The samples.
        rewards: Of them, NaN where it failed.
        reference: Of the reference's samples, each with the noise and the condition of the sample in its place.
        groups: (n,) integer of the condition of each sample.
        law: What they are compared with.
        higher_is_better: A larger reward is better.
    """
    ours, theirs = torch.tensor(rewards, dtype=torch.float64), torch.tensor(reference, dtype=torch.float64)
    there, both = ~ours.isnan(), ~ours.isnan() & ~theirs.isnan()
    mean, std = _mean_std(ours[there])
    _, base_std = _mean_std(theirs[~theirs.isnan()])
    _, gain_std = _mean_std((ours - theirs)[both])
    found = gain(ours, theirs, groups, law.accepted)
    out = {
        "n": len(drawn.items),
        "reward": mean,
        "reward_stderr": std / math.sqrt(max(1, int(there.sum()))),
        "reward_std": std,
        "failed_rewards": int((~there).sum()),
        "gain": found.reward,
        "gain_stderr": gain_std / math.sqrt(max(1, int(both.sum()))),  # of pairs with the same noise
        "gain_in_reference_std": (found.reward if higher_is_better else -found.reward) / base_std
        if base_std
        else math.nan,
        "gain_of_accepted": found.of_accepted,
        "matched_share": found.share,
    }
    judge = SampleEvaluator(None, module.metrics())
    judge.update(drawn.items, 0)
    values = judge.summary()
    out |= {name: values[name] for name in module.metrics() if name in values}
    if law.features is not None:
        out |= _featured(module, drawn.items, groups, law)
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in out.items()}


def _featured(module: GraftModule, items: Sequence[Any], groups: Tensor, law: AcceptedDistribution) -> dict[str, float]:
    assert law.features is not None
    out: dict[str, float] = dict.fromkeys(FEATURED, math.nan)
    features = module.features(items).double()
    if len(features) > 1:
        out["internal_diversity"] = internal_diversity(features)
    matched = match(law.groups, groups, seeding.make_generator(SEED, "halves"))  # of one seed, everyone's
    out["distance_n"], out["distance_share"] = len(matched.half), matched.share
    return out | distances(law.features, features, matched)


def distances(accepted: Tensor, tuned: Tensor, matched: Matched) -> dict[str, float]:
    """Each distance of a model's samples to accepted ones and its floor, by name; none of too few samples.

    Args:
        accepted: (N, d) features.
        tuned: (M, d) features.
        matched: Which of them are compared.
    """
    out: dict[str, float] = {}
    if len(matched.half) < LEAST:
        return out
    half, other, mine = accepted[matched.half], accepted[matched.other], tuned[matched.tuned]
    for name, distance in DISTANCES.items():
        out[name], out[f"{name}_floor"] = distance(half, mine, matched.weight), distance(half, other, matched.weight)
    return out


def _mean_std(values: Tensor) -> tuple[float, float]:
    mean = float(values.mean()) if len(values) else math.nan
    return mean, float(values.std()) if len(values) > 1 else math.nan
