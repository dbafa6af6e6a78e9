"""The content of ``summary.json`` of a run that fine-tunes."""

import math
from dataclasses import asdict
from typing import Any

import torch

from graft.commands.levels import results
from graft.dataloaders.sampling import SampleRequests, groups
from graft.evaluation.alarms import AlarmCallback
from graft.module import GraftModule
from graft.reward import by_term, oriented
from graft.rollouts import Rollouts
from graft.rounds import RoundSummary
from graft.rounds import gain as gains
from graft.rounds.scoring import store_groups
from graft.version import versions


def run_summary(
    module: GraftModule, data: Rollouts, seconds: float, chosen: "results.Analysis | None"
) -> dict[str, Any]:
    """Return the content of ``summary.json``, without the monitored metrics.

    Args:
        module: The model after the comparison with the reference.
        data: The rollouts after the last round.
        seconds: Duration of the run.
        chosen: The comparison of levels if ``model.level`` is ``auto``.
    """
    reference, tuned = (to_json(module.evaluators[w].summary()) for w in ("reference", "tuned"))
    for figures in (reference, tuned):
        figures |= {name: figures.get(name) for name in ("reward", "reward_stderr", "reward_std")}
    last = data.summaries[-1]
    name, unit = data.rounds.reward_label
    found = in_std = None  # None if the reward failed for all samples of a model
    if tuned["reward"] is not None and reference["reward"] is not None:
        found = _gain(module, data)
        if reference["reward_std"]:
            in_std = oriented(found.reward, data.rounds.higher_is_better) / reference["reward_std"]
    counts = data.source.summary
    apart = found is None or not data.accept.is_selective or not data.rounds.same_scale
    accepted = to_json({} if found is None or apart else {"gain": found.accepted, "of": found.of_accepted})
    return {
        "reference": reference,
        "tuned": tuned,
        "accepted_reward": last.accepted_reward,
        "accepted_gain": accepted.get("gain"),
        "matched_share": None if found is None else found.share,
        "gain": {
            "reward": None if found is None else found.reward,
            "in_reference_std": in_std,
            "of_accepted": accepted.get("of"),
        },
        "reward": {"name": name, "unit": unit, "higher_is_better": data.rounds.higher_is_better},
        "level": module.policy.handover_level,
        "upper_level": module.policy.interval.high,
        **({"levels": chosen.to_summary()} if chosen is not None else {}),
        "steps": module.policy.steps,
        "objective": module.objective.describe(module.policy),
        "rule": data.rounds.describe(),
        **({"scored_set": {**counts, "is_the_reward": data.rounds.same_scale}} if counts else {}),
        "rounds": [asdict(each) for each in data.summaries],
        "acceptance_rate": last.acceptance_rate,
        "kl_nats": last.kl_nats if data.accept.is_selective else None,
        "selective": data.accept.is_selective,
        "saturated": data.saturated,
        "reward_calls": sum(a.reward_calls for a in data.summaries),
        "denoiser_calls": sum(a.denoiser_calls for a in data.summaries),
        "reward_calls_by_term": by_term(data.reward, (a.reward_calls_by_term for a in data.summaries)),
        "evaluation_reward_calls": sum(evaluator.reward_calls for evaluator in module.evaluators.values()),
        "evaluation_reward_calls_by_term": by_term(data.reward, (j.calls_by_term for j in module.evaluators.values())),
        "evaluation_denoiser_calls": sum(evaluator.denoiser_calls for evaluator in module.evaluators.values()),
        "seconds": round(seconds, 1),
        "seed": module.seed,
        "versions": versions(),
    }


def _gain(module: GraftModule, data: Rollouts) -> gains.Gain:
    """Return the gain of the tuned samples and of the last accepted draws over the reference."""
    number = len(data.summaries) - 1
    _, index, weight = RoundSummary.read(data.rounds.round_dir(number))
    drawn = store_groups(module, data.rounds.store(number))
    rewards = torch.tensor(data.rounds.store(number).scores()[0].values, dtype=torch.float64)
    requests = SampleRequests(module, data.evaluation.test_draws, data.batch_size, ("test",), "reference")
    tuned, reference = (
        torch.tensor(module.evaluators[weights].rewards, dtype=torch.float64) for weights in ("tuned", "reference")
    )
    return gains.gain(tuned, reference, groups(requests), gains.means(rewards[index], drawn[index], weight))


def monitor_summary(watch: "AlarmCallback | None") -> dict[str, Any]:
    """Return the monitored metrics of each round and the alarms, for the summary."""
    if watch is None:
        return {"alarms": [], "monitored": [], "stopped_by_alarm": False, "restored_round": None}
    return {
        "alarms": [str(each) for each in watch.alarms],
        "monitored": [asdict(each) for each in watch.history],
        "stopped_by_alarm": watch.stopped,
        "restored_round": watch.good_round if watch.stopped else None,
    }


def to_json(values: dict[str, float]) -> dict[str, Any]:
    """Return values for JSON: None if not finite, integers for counts, nested for ``a/b``."""
    out: dict[str, Any] = {name: value if math.isfinite(value) else None for name, value in values.items()}
    for name in ("n", "failed_rewards"):
        if name in out:
            out[name] = int(out[name])
    for name in [name for name in out if "/" in name]:
        metric, part = name.split("/", 1)  # a part may have a slash in its name
        out.setdefault(metric, {})[part] = out.pop(name)
    return out
