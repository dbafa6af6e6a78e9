"""The report of a run that fine-tunes, and its best samples."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from graft import report
from graft.commands.levels import show
from graft.commands.samples import render_samples
from graft.io.atomic import write_text
from graft.module import GraftModule
from graft.report import hits
from graft.reward import scored_forms
from graft.rollouts import Rollouts
from graft.rounds import RoundSummary
from graft.rounds import gain as gains
from graft.rounds.scoring import store_groups
from graft.runs import loggers

HITS = 100  # number of best objects in the hits of a run


def write_report(
    module: GraftModule, data: Rollouts, trainer: Trainer, folder: Path, summary: dict[str, Any], command: str
) -> None:
    """Write ``report.html``, ``CARD.md`` and the best samples of a run.

    Args:
        module: The model after the comparison with the reference.
        data: The rollouts after the last round.
        trainer: The trainer of the run.
        folder: Folder of the run.
        summary: Content of ``summary.json``.
        command: Command that repeats the run.
    """
    last = len(data.summaries) - 1
    _, index, weight = RoundSummary.read(data.rounds.round_dir(last))
    scores = data.rounds.store(last).scores()[0].values
    matching = gains.matching(store_groups(module, data.rounds.store(last)), index, weight).tolist()
    rewards = {
        "reference": _finite(module.evaluators["reference"].rewards),
        **({"accepted": _finite([scores[i] for i in index.tolist()])} if data.rounds.same_scale else {}),
        "tuned": _finite(module.evaluators["tuned"].rewards),
    }
    pictures = {name: render_samples(module, evaluator) for name, evaluator in module.evaluators.items()}
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in loggers.metrics_file(trainer).rows:
        for name, value in row.items():
            if name.startswith("validation/") and name.count("/") == 1:
                curves.setdefault(name.removeprefix("validation/"), []).append((float(row["epoch"]) + 1, float(value)))
    for number, each in enumerate(data.summaries, 1):
        curves.setdefault(report.accepted_label(summary), []).append((number, each.accepted_reward))
    reference = report.reference_values(summary)
    curves = {
        name: ([(0, reference[name]), *points] if reference.get(name) is not None else points)
        for name, points in curves.items()
        if name not in ("reward_stderr", "reward_std", "failed_rewards")
    }
    title = f"{type(module).__name__}: {data.rounds.reward_label[0]}"
    shown = {name: png for name, png in pictures.items() if png is not None}
    best = _write_hits(module, data, folder)
    levels = show.levels_section(folder)
    report.write_report(folder / "report.html", summary, title, command, rewards, curves, shown, levels, best, matching)
    card = report.tuned_card(summary, class_path(module), reference_name(module), command)
    write_text(folder / "CARD.md", card)


def _write_hits(module: GraftModule, data: Rollouts, folder: Path) -> str:
    """Write the best objects of a run, and return the HTML section of the report on them."""
    evaluator = module.evaluators["tuned"]
    if not evaluator.rewards:
        return ""
    best, invalid = hits.top_samples(module, data, len(data.summaries), evaluator.items, evaluator.rewards, HITS)
    if not best:
        return ""
    hits.write_hits(module, best, folder / "hits.csv", data.rounds.reward_label[0])
    if module.file_suffix not in ("", ".csv"):
        hits.write_hits(module, best, folder / f"hits{module.file_suffix}", data.rounds.reward_label[0])
    first = best[: hits.IN_VIEWER]
    forms = scored_forms(data.reward, [hit.item for hit in first]) if data.reward is not None else []
    if forms and module.file_suffix:
        part, found = forms[0]
        path = folder / f"hits_as_scored{module.file_suffix}"
        hits.write_hits(module, hits.as_scored(first, found), path, part.name)
    return hits.hits_section(module, best, data.rounds.reward_label[0], forms, invalid)


def class_path(module: GraftModule) -> str:
    """Return the class of a model by its path."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def reference_name(module: GraftModule) -> str:
    """Return the name of the file with the weights of the reference."""
    return Path((module.policy.reference_file or {}).get("path", "")).name


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
