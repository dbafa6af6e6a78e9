"""The comparison of levels on draws of the reference, and the choice of a level for ``model.level: auto``."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from graft.commands.levels import statistics
from graft.commands.levels.results import Analysis, Level
from graft.commands.levels.sampling import (
    AcceptedStates,
    DrawnChunk,
    make_levels_generator,
    reroll,
    sample_scored_chunks,
)
from graft.commands.levels.statistics import Estimate
from graft.dataloaders.sampling import SampleRequests
from graft.errors import GraftError
from graft.io.fingerprint import fingerprint_hash
from graft.module import GraftModule
from graft.reward import oriented
from graft.reward.code import unidentified
from graft.rollouts import Rollouts, checks, feasible
from graft.rollouts.settings import DRAWS_PER_RESAMPLED, MIN_RETENTION

EXACT = Estimate(1.0, 1.0, 1.0)
"""A share that is 1 by definition."""


def origin(data: Rollouts) -> dict[str, Any]:
    """Return the settings that the analysis depends on, by name."""
    module, plan = data.module, data.level_search
    return {
        "seed": module.seed,
        "steps": module.policy.steps,
        "weights": (module.policy.reference_file or {}).get("sha256"),
        "rule": data.accept.describe(),
        "reward": data.rounds.require_reward.name,
        "reward_identity": None if unidentified(data.reward_fingerprint) else fingerprint_hash(data.reward_fingerprint),
        "candidates": list(plan.candidates_on_grid(module.policy.steps)),
        "draws": plan.num_draws(data.draws, data.batch_size, len(plan.candidates_on_grid(module.policy.steps))),
        "batch_size": data.batch_size,
        "resamples": plan.n_bootstrap,
    }


def search_levels(data: Rollouts, every: bool = True) -> Analysis:
    """Return the comparison of the candidate levels on draws of the reference.

    Args:
        data: The rollouts, within a trainer that has set up its strategy.
        every: Measure candidates that the objective refuses, too. They are never chosen.

    Raises:
        GraftError: The reward fails for all draws, or the rule accepts no gain.
    """
    module, about = data.module, origin(data)
    refused = checks.refused_levels(data, module)
    candidates = tuple(level for level in about["candidates"] if every or level not in refused)
    feasible.check_sampling(module, module.policy, "data.level_search.draws", about["draws"], 1 + len(candidates))
    stochastic = module.policy.process.stochastic
    requests = SampleRequests(module, about["draws"], data.batch_size, ("levels",), "reference", candidates)
    try:
        chunks = sample_scored_chunks(data, requests, stochastic)
        score_gap = {u: torch.cat([chunk.score_gap[u] for chunk in chunks]) for u in candidates}
        result = Analysis(
            level=0.0,
            reason="",
            levels=[_entry(module, 0.0), *(_entry(module, u) for u in candidates)],
            stochastic=stochastic,
            draws=about["draws"],
            accepted=None,
            resampled=0,
            failed_rewards=sum(chunk.failed for chunk in chunks),
            reward=None,
            accepted_reward=None,
            rule=about["rule"],
            denoiser_calls=sum(chunk.calls for chunk in chunks),
            reward_calls=sum(chunk.reward_calls + sum(chunk.guess_calls.values()) for chunk in chunks),
            origin=about,
        )
        counts = statistics.resamples(
            about["draws"], data.level_search.n_bootstrap, make_levels_generator(data, "resamples")
        )
        for level in result.levels[1:]:
            level.score_gap = statistics.estimate(partial(statistics.mean, score_gap[level.level]), counts)
            level.denoiser_calls += about["draws"]
            level.reward_calls += sum(chunk.guess_calls.get(level.level, 0) for chunk in chunks)
        if stochastic:
            _estimate_shares(data, chunks, result, counts)
    finally:
        data.rounds.require_reward.teardown()
    taken = [level for level in result.levels if level.level not in refused]
    result.level, result.reason = select_level(taken, stochastic)
    if refused:
        names = ", ".join(f"{level:.4g}" for level in refused)
        result.reason += f"; {names} left out, since {type(module.objective).__name__} does not take them here"
    return result


def select_level(levels: Sequence[Level], stochastic: bool) -> tuple[float, str]:
    """Return (level, reason) of the largest level that is safe: it keeps enough of the accepted gain for certain.

    The 95 % interval of its surviving share begins at `MIN_RETENTION` or above. If no level is safe, the level is 0.

    Args:
        levels: Entries of the levels, ascending.
        stochastic: True if the sampler draws noise; else the largest candidate is chosen.
    """
    candidates = [level for level in levels if level.level > 0]
    if not candidates:
        return 0.0, "level 0: there is no candidate"
    names = ", ".join(f"{level.level:.4g}" for level in candidates)
    if not stochastic:
        best = candidates[-1]
        return best.level, (
            f"level {best.level:.4g}: the sampler draws no noise, so the state at any level decides the sample and all "
            "of the gain survives by definition; only the distribution that is left to learn counts, and of "
            f"{names} the largest leaves the least"
        )
    safe = [level for level in candidates if _lower_end(level.retention) >= MIN_RETENTION]
    if safe:
        best = safe[-1]
        return best.level, (
            f"level {best.level:.4g}: of {names} the largest that is safe, at which at least {MIN_RETENTION:g} of the "
            f"accepted gain survives the hand-over by the lower end of the interval, {_describe_retention(best)}"
        )
    best = max(candidates, key=lambda level: _lower_end(level.retention))
    return 0.0, (
        f"level 0: none of {names} is safe, at which at least {MIN_RETENTION:g} of the accepted gain survives the "
        f"hand-over by the lower end of the interval (best is {best.level:.4g}, {_describe_retention(best)}), so the "
        "whole network is tuned (GRAFT); more data.level_search.draws narrow the intervals"
    )


def _describe_retention(level: Level) -> str:
    share = level.retention
    assert share is not None
    way = "as re-rolled" if level.measured_retention is not None else "as the fit predicts"
    return f"{way}: {share.value:.2f} (95 % interval {share.low:.2f} to {share.high:.2f})"


def _lower_end(share: "Estimate | None") -> float:
    return -math.inf if share is None or math.isnan(share.low) else share.low


def _entry(module: GraftModule, level: float) -> Level:
    """Return the entry of a level without its estimates.

    Retention is 1 by definition at level 0 and for deterministic samplers.
    """
    share = EXACT if level == 0 or not module.policy.process.stochastic else None
    snr = float(module.policy.process.log_snr(level)) if level > 0 else math.inf
    log_snr = snr if math.isfinite(snr) else None
    return Level(level, float(module.policy.process.time(level)), log_snr, share, share, None, None, 1 - level)


def _estimate_shares(data: Rollouts, chunks: list[DrawnChunk], result: Analysis, counts: Tensor) -> None:
    """Re-roll accepted draws, and set the decided share and the retention of each level."""
    rewards = torch.tensor([r for chunk in chunks for r in chunk.rewards], dtype=torch.float64)
    groups = torch.cat([chunk.groups for chunk in chunks])
    keys = [key for chunk in chunks for key in chunk.keys]
    higher_is_better = data.rounds.require_reward.higher_is_better
    chosen = data.accept(oriented(rewards, higher_is_better), groups, keys, make_levels_generator(data, "accept"))
    usable = ~rewards.isnan()
    position = usable.cumsum(0) - 1  # position of a usable draw among the usable draws
    index, weight = position[chosen.index], chosen.weight
    r, g, c = rewards[usable], groups[usable], counts[:, usable]
    fold = statistics.folds(len(r), make_levels_generator(data, "folds"))
    ones = torch.ones(1, len(r), dtype=torch.float64)
    gain = float(statistics.gain(r, g, index, weight, ones)[0])
    if not oriented(gain, higher_is_better) > 1e-9 * float(r.abs().max()):
        raise GraftError(
            f"the rule '{data.accept.describe()}' accepts no gain in {data.rounds.require_reward.name} on {len(r)} "
            "draws of the reference, so no share of it can survive. Give model.level a number."
        )
    result.accepted, result.reward = len(index), float(r.mean())
    result.accepted_reward = result.reward + gain
    states = AcceptedStates(chunks, chosen, result.draws // DRAWS_PER_RESAMPLED, make_levels_generator(data, "again"))
    result.resampled = len(states.rows)
    for level in result.levels[1:]:
        u = level.level
        guesses = torch.tensor([v for chunk in chunks for v in chunk.guesses[u]], dtype=torch.float64)[usable]
        again, calls, failed, reward_calls = reroll(data, states, u)
        level.reward_r2 = statistics.estimate(partial(statistics.decided, r, guesses, g, fold), c)
        level.predicted_retention = statistics.estimate(
            partial(statistics.predicted, r, guesses, g, fold, index, weight), c
        )
        found = statistics.estimate(partial(statistics.measured, r, again[usable], g, index, weight), c)
        level.measured_retention = None if math.isnan(found.value) else found
        level.denoiser_calls += calls
        level.reward_calls += reward_calls
        result.denoiser_calls += calls
        result.reward_calls += reward_calls
        result.failed_rewards += failed
