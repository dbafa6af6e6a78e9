"""What the samples of a method are like."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from graft import seeding
from graft.compare.drawn import Drawn
from graft.compare.law import SEED, Law
from graft.distance import beside, coverage, frechet, internal_diversity, mmd
from graft.judge import Judge
from graft.module import GraftModule

DISTANCES: dict[str, Callable[[Tensor, Tensor], float]] = {"mmd": mmd, "frechet": frechet, "coverage": coverage}
FEATURED = (
    *("internal_diversity", "distance_n"),
    *(name for distance in DISTANCES for name in (distance, f"{distance}_floor")),
)
LEAST = 6  # samples in a half of the law: what coverage needs


def measure(
    module: GraftModule, drawn: Drawn, rewards: Sequence[float], reference: Sequence[float], law: Law, maximise: bool
) -> dict[str, "float | None"]:
    """By name, the same names for all samples of a domain; None where there is nothing to average.

    A domain's metrics of several numbers are left out, and so are distances where it has no features.

    Args:
        module: Of the domain.
        drawn: The samples.
        rewards: Of them, NaN where it failed.
        reference: Of the reference's samples, each with the noise and the condition of the sample in its place.
        law: What they are compared with.
        maximise: A larger reward is better.
    """
    ours, theirs = torch.tensor(rewards, dtype=torch.float64), torch.tensor(reference, dtype=torch.float64)
    there, both = ~ours.isnan(), ~ours.isnan() & ~theirs.isnan()
    mean, std = _mean_std(ours[there])
    base, base_std = _mean_std(theirs[~theirs.isnan()])
    _, gain_std = _mean_std((ours - theirs)[both])
    gain, accepted = mean - base, law.accepted_reward - law.reward
    out = {
        "n": len(drawn.items),
        "reward": mean,
        "reward_stderr": std / math.sqrt(max(1, int(there.sum()))),
        "reward_std": std,
        "failed_rewards": int((~there).sum()),
        "gain": gain,
        "gain_stderr": gain_std / math.sqrt(max(1, int(both.sum()))),  # of pairs with the same noise
        "gain_in_reference_std": (gain if maximise else -gain) / base_std if base_std else math.nan,
        "gain_of_accepted": gain / accepted if accepted else math.nan,
    }
    judge = Judge(None, module.metrics())
    judge.update(drawn.items, 0)
    found = judge.summary()
    out |= {name: found[name] for name in module.metrics() if name in found}
    if law.features is not None:
        out |= _featured(module, drawn.items, law)
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in out.items()}


def _featured(module: GraftModule, items: Sequence[Any], law: Law) -> dict[str, float]:
    assert law.features is not None
    out: dict[str, float] = dict.fromkeys(FEATURED, math.nan)
    features = module.features(items).double()
    if len(features) > 1:
        out["internal_diversity"] = internal_diversity(features)
    if min(len(law.features) // 2, len(features)) < LEAST:
        return out
    for name, distance in DISTANCES.items():
        found = beside(distance, law.features, features, seeding.generator(SEED, "halves"))  # everyone's halves
        out[name], out[f"{name}_floor"], out["distance_n"] = found.value, found.floor, found.n
    return out


def _mean_std(values: Tensor) -> tuple[float, float]:
    mean = float(values.mean()) if len(values) else math.nan
    return mean, float(values.std()) if len(values) > 1 else math.nan
