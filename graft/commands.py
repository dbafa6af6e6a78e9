"""One Python function for each command of the command line."""

import importlib.metadata
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, RichProgressBar, TQDMProgressBar
from typing_extensions import override

from graft import distributed, feasible, files, hits, report, rounds, runs, threads
from graft.alarms import AlarmCallback
from graft.dataloaders.sampling import SampleRequests, groups, sample_objects
from graft.dataloaders.seeded import seeded_train_dataloader
from graft.datatypes import Weights
from graft.errors import GraftError
from graft.evaluation import SampleEvaluator
from graft.levels import results, search, show
from graft.levels.choose import ChooseLevel
from graft.module import GraftModule
from graft.policy.weights import keep_reference
from graft.reward import by_term, oriented
from graft.rollouts import Rollouts
from graft.rounds import RoundSummary
from graft.rounds import gain as gains
from graft.rounds.scoring import store_groups
from graft.runs import last_checkpoint, loggers
from graft.runs.checkpoint import ChecksummedCheckpointIO
from graft.runs.checkpoint import read as read_checkpoint
from graft.runs.interruption import Interruption
from graft.runs.lock import hold, holding
from graft.runs.logger import ResumableCSVLogger
from graft.runs.progress import RoundProgressCallback
from graft.runs.python_runs import checkpoint_of, of_objects
from graft.runs.stopwatch import Stopwatch

TRAINER_DEFAULTS: dict[str, Any] = {
    "logger": False,  # `attach_logging` adds metrics.csv to the loggers of the user
    "enable_checkpointing": False,  # `attach_logging` adds last.ckpt to the checkpoints of the user
    "max_epochs": 1,  # the default of Lightning would be 1000 rounds
    "reload_dataloaders_every_n_epochs": 1,  # a round is an epoch
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "log_every_n_steps": 10,
    "gradient_clip_val": 1.0,
}
"""Default trainer settings of all commands."""

SHOWN = 24  # number of objects in a picture
HITS = 100  # number of best objects in the hits of a run


def trainer(rounds: int = 1, **settings: Any) -> Trainer:
    """Return a Lightning Trainer with the default settings of graft.

    Args:
        rounds: Number of rounds.
        settings: Settings of the Trainer, which override the defaults.
    """
    own = {"enable_checkpointing": saves(settings.get("callbacks"))}
    asked = {"max_epochs": rounds, **settings}
    made = Trainer(**{**TRAINER_DEFAULTS, **own, **asked})
    made.__dict__["_asked"] = asked  # the configuration of the run needs the settings
    return made


def saves(callbacks: "Sequence[Callback] | Callback | None") -> bool:
    """Return True if a callback of the user saves checkpoints, which Lightning must know."""
    listed = [callbacks] if isinstance(callbacks, Callback) else callbacks or []
    return any(isinstance(each, Checkpoint) for each in listed)


def fit(
    module: GraftModule,
    data: Rollouts,
    run_dir: "str | Path",
    trainer: Trainer,
    config: str = "",
    command: str = "",
    checkpoint: "str | Path | None" = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Fine-tune a model in rounds, compare it with the reference, and return the summary.

    Args:
        module: The model with the weights of its reference.
        data: The rollouts.
        run_dir: Folder of the run.
        trainer: A trainer from `trainer`, or another one with the settings of `TRAINER_DEFAULTS`.
        config: Configuration as YAML, stored with the run and the weights; if empty, it is written from the objects.
        command: Command that repeats the run, for the report.
        checkpoint: Checkpoint to resume from: a file, or ``last`` for the checkpoint of the run.
        overwrite: True to remove an earlier run in the folder.

    Returns:
        The content of ``summary.json``.

    Raises:
        GraftError: The folder holds a run, and the call neither resumes nor overwrites it.
    """
    with runs.withdrawn(Path(run_dir)), holding(), Stopwatch() as clock:
        return _fit(clock, module, data, run_dir, trainer, config, command, checkpoint, overwrite)


def _fit(
    clock: Stopwatch,
    module: GraftModule,
    data: Rollouts,
    run_dir: "str | Path",
    trainer: Trainer,
    config: str,
    command: str,
    asked: "str | Path | None",
    overwrite: bool,
) -> dict[str, Any]:
    if module.policy.reference_file is None:
        raise GraftError("model.weights is not set; fine-tuning needs the weights of a reference: give model.weights")
    if trainer.max_epochs is not None and trainer.max_epochs < 1:
        raise GraftError(
            f"trainer.max_epochs is {trainer.max_epochs}; it must be at least 1, since a round is an epoch"
        )
    distributed.launch(trainer, module)
    folder = prepare_run_dir(trainer, run_dir)
    checkpoint = distributed.on_rank_zero(trainer, lambda: checkpoint_of(folder, asked, overwrite))
    clock.keep(folder, trainer)
    data.run_dir = folder
    keep_reference(module.policy, folder)
    config = config or distributed.on_rank_zero(
        trainer, lambda: of_objects(module, data, trainer, folder, asked is not None)
    )
    attach_logging(trainer, folder, config, checkpoint)
    watch = (
        AlarmCallback(data.evaluation.alarms, data.held_out_reward, folder)
        if data.evaluation.alarms is not None and data.evaluation.validation_draws
        else None
    )
    if watch is not None:
        trainer.callbacks.insert(0, watch)  # type: ignore[attr-defined]
    trainer.callbacks.insert(0, ChooseLevel())  # type: ignore[attr-defined]
    trainer.callbacks.append(RoundProgressCallback())  # type: ignore[attr-defined]
    if data.storage.save_round_weights:
        trainer.callbacks.insert(0, RoundWeightsCallback(config))  # type: ignore[attr-defined]
    train(module, data, trainer, folder, checkpoint)
    if not data.accounts:
        raise GraftError("no round was done: raise trainer.max_epochs, trainer.max_steps or trainer.max_time")
    module.save_weights(folder / "tuned.safetensors", config)
    module.export(folder)
    evaluate_both(module, data, trainer)
    chosen = results.Analysis.read(folder) if module.level_setting == "auto" else None
    summary = _summary(module, data, clock.seconds, chosen) | _watched(watch)
    if trainer.is_global_zero:
        write_samples(module, folder)
        _write_report(module, data, trainer, folder, summary, command)
        files.write_json(
            folder / "summary.json", summary
        )  # the summary comes last, because it marks the run as finished
    clock.finish()
    trainer.strategy.barrier()
    return summary


def pretrain(
    module: GraftModule,
    data: LightningDataModule,
    run_dir: "str | Path",
    trainer: Trainer,
    config: str = "",
    checkpoint: "str | Path | None" = None,
    draws: int = 1000,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train a reference on data, write its weights and samples, and return the summary.

    Args:
        module: The model without weights.
        data: The data module of the domain.
        run_dir: Folder of the run.
        trainer: The Lightning Trainer.
        config: Configuration as YAML, stored with the run and the weights; if empty, it is written from the objects.
        checkpoint: Checkpoint to resume from: a file, or ``last`` for the checkpoint of the run.
        draws: Number of samples to evaluate.
        overwrite: True to remove an earlier run in the folder.

    Returns:
        The content of ``summary.json``.

    Raises:
        GraftError: The folder holds a run, and the call neither resumes nor overwrites it.
    """
    with runs.withdrawn(Path(run_dir)), holding(), Stopwatch() as clock:
        return _pretrain(clock, module, data, run_dir, trainer, config, checkpoint, draws, overwrite)


def _pretrain(
    clock: Stopwatch,
    module: GraftModule,
    data: LightningDataModule,
    run_dir: "str | Path",
    trainer: Trainer,
    config: str,
    asked: "str | Path | None",
    draws: int,
    overwrite: bool,
) -> dict[str, Any]:
    if module.level_setting == "auto" or module.policy.interval.low or module.policy.interval.high < 1:
        raise GraftError("pretrain trains the whole network: leave model.level at 0 and model.upper_level at 1")
    distributed.launch(trainer, module)
    folder = prepare_run_dir(trainer, run_dir)
    checkpoint = distributed.on_rank_zero(trainer, lambda: checkpoint_of(folder, asked, overwrite))
    clock.keep(folder, trainer)
    config = config or distributed.on_rank_zero(
        trainer, lambda: of_objects(module, data, trainer, folder, asked is not None)
    )
    attach_logging(trainer, folder, config, checkpoint)
    with seeded_train_dataloader(data, trainer, module.seed):
        train(module, data, trainer, folder, checkpoint)
    module.save_weights(folder / "reference.safetensors", config)
    judge = SampleEvaluator(None, module.metrics())
    for items, calls in sample(module, trainer, draws, "pretrain"):
        judge.update(items, calls)
    module.evaluators = {"reference": judge}
    if (log := loggers.of(trainer)) is not None:
        log.samples(trainer, module, "test/{}/samples")
    left_out: Any = getattr(data, "left_out", None)  # a list of records, or a dict of counts by reason
    if isinstance(left_out, list) and trainer.is_global_zero:
        files.write_text(folder / "invalid_records.csv", rounds.invalid_records_csv(left_out))
    summary = {
        "reference": to_json(judge.summary()),
        **({"invalid": len(left_out)} if isinstance(left_out, list) else {}),
        **({"invalid": sum(left_out.values()), "invalid_by_reason": left_out} if isinstance(left_out, dict) else {}),
        "steps": trainer.global_step,
        "parameters": sum(p.numel() for p in module.policy.backbone.parameters()),
        "seconds": round(clock.seconds, 1),
        "seed": module.seed,
        "versions": versions(),
    }
    if trainer.is_global_zero:
        write_samples(module, folder)
        files.write_json(folder / "summary.json", summary)
    clock.finish()
    trainer.strategy.barrier()
    return summary


def levels(
    module: GraftModule, data: Rollouts, run_dir: "str | Path", trainer: Trainer, config: str = ""
) -> results.Analysis:
    """Compare levels on draws of the reference; write ``levels.json`` and return its content.

    The function also writes the figure ``levels.png``.

    Args:
        module: The model with the weights of its reference; its own level has no effect.
        data: The rollouts with the reward, the acceptance rule and the settings ``level_search``.
        run_dir: Folder of the files.
        trainer: A trainer from `trainer`, or another Lightning Trainer.
        config: Configuration as YAML, stored as ``levels.yaml``.

    Raises:
        GraftError: The model has no reference.
    """
    if module.policy.reference_file is None:
        raise GraftError("model.weights is not set; levels are compared on draws of a reference: give model.weights")
    distributed.launch(trainer, module)
    folder = prepare_run_dir(trainer, run_dir)

    def search_within() -> results.Analysis:
        data.trainer = trainer
        data.rounds.require_reward.setup()
        return search.search_levels(data)

    found = distributed.run_within(trainer, module, search_within)
    if trainer.is_global_zero:
        show.write(found, folder)
        if config:
            files.write_text(folder / "levels.yaml", config)
    return found


class RoundWeightsCallback(Callback):
    """Saves the tuned weights of every round, which equal those of a run that ends there.

    Args:
        config: Configuration as YAML, stored with the weights.
    """

    def __init__(self, config: str) -> None:
        self.config = config

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the weights before the checkpoint that marks the round as finished."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, GraftModule)
        path = data.rounds.round_dir(trainer.current_epoch) / "tuned.safetensors"
        pl_module.save_weights(path, self.config)


def evaluate_both(module: GraftModule, data: Any, trainer: Trainer) -> None:
    """Evaluate fresh samples of the reference and of the tuned model from the same noise."""
    try:
        trainer.test(module, data, verbose=False)
    finally:
        if data.reward is not None:
            data.reward.teardown()


def sample(
    module: GraftModule,
    trainer: Trainer,
    count: int,
    purpose: str = "sample",
    weights: Weights = "tuned",
    chunk: "int | None" = None,
) -> "list[tuple[list[Any], int]]":
    """Sample objects and return (objects, denoiser calls) of each chunk.

    Args:
        module: The model.
        trainer: The trainer that samples.
        count: Number of samples.
        purpose: Word that seeds the conditions and the noise.
        weights: Name of the weights that sample.
        chunk: Number of samples in a chunk; the default of the domain if None.

    Raises:
        GraftError: The samples take more than a year, or more than the memory.
    """
    feasible.check_sampling(module, module.policy, "-n", count)
    return list(
        sample_objects(
            module, trainer, SampleRequests(module, count, chunk or module.default_batch_size, (purpose,), weights)
        )
    )


def versions() -> dict[str, str]:
    """Return the versions of graft, Python, torch and Lightning by name."""
    try:
        ours = importlib.metadata.version("graft-diffusion")
    except importlib.metadata.PackageNotFoundError:
        from graft.version import __version__ as ours
    return {
        "graft": ours,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
    }


def attach_logging(trainer: Trainer, folder: Path, config: str, checkpoint: "Path | None") -> None:
    """Add ``metrics.csv`` and ``last.ckpt`` of a run to a trainer; write ``config.yaml``.

    Loggers and checkpoint callbacks of the user stay.

    Args:
        trainer: Trainer of the run.
        folder: Folder of the run.
        config: Configuration as YAML.
        checkpoint: Checkpoint to resume from, or None.
    """
    step = distributed.on_rank_zero(trainer, lambda: read_checkpoint(checkpoint)["global_step"]) if checkpoint else 0
    loggers.attach(trainer, ResumableCSVLogger(folder / "metrics.csv", step), config, render_samples)
    last_checkpoint.attach(trainer, folder)
    bar = trainer.progress_bar_callback
    if isinstance(bar, TQDMProgressBar | RichProgressBar) and bar.refresh_rate == 1:
        bar._refresh_rate = 10  # a refresh at every step takes milliseconds
    if config and trainer.is_global_zero:
        files.write_text(folder / "config.yaml", config)


def train(
    module: GraftModule, data: LightningDataModule, trainer: Trainer, folder: Path, checkpoint: "Path | None"
) -> None:
    """Call ``Trainer.fit`` so that a signal ends it at a point to resume from.

    Args:
        module: The model.
        data: The data module.
        trainer: The trainer.
        folder: Folder of the run.
        checkpoint: Checkpoint to resume from, or None.

    Raises:
        Interrupted: A signal came.
        GraftError: The checkpoint is of another network, or EarlyStopping monitors an unknown metric.
    """
    if notice := threads.notice():
        distributed.rank_zero_print(notice)
    interruption = Interruption(folder)
    trainer.callbacks.insert(0, interruption)  # type: ignore[attr-defined]
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = ChecksummedCheckpointIO()
    with interruption.guard():
        try:
            trainer.fit(module, data, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)
        except RuntimeError as error:
            if str(error).startswith("Early stopping conditioned"):
                raise GraftError(f"trainer.callbacks: {error}") from None
            if "loading state_dict" not in str(error):
                raise
            raise GraftError(
                f"{checkpoint} does not fit the network ({' '.join(str(error).split())[:200]}): it is another run's"
            ) from None


def prepare_run_dir(trainer: Trainer, run_dir: "str | Path") -> Path:
    """Return the folder of a run after making and locking it.

    Args:
        trainer: Trainer of the run. All ranks must call the function.
        run_dir: Path of the folder.

    Raises:
        GraftError: The folder cannot be made or locked, holds a link, or is not visible to all ranks.
    """
    folder = Path(run_dir)

    def make() -> str:
        runs.make_run_dir(folder)
        hold(folder)  # the lock comes first, so that files of another process are not touched
        runs.refuse_links(folder)
        runs.remove_temporary(folder)
        return str(folder)

    distributed.on_rank_zero(trainer, make)
    if not trainer.strategy.reduce_boolean_decision(folder.is_dir(), all=True):
        raise GraftError(
            f"--run_dir is {folder}, which is not visible to all {trainer.world_size} ranks: use a folder on a file "
            "system that every node shares"
        )
    return folder


def _summary(module: GraftModule, data: Rollouts, seconds: float, chosen: "results.Analysis | None") -> dict[str, Any]:
    reference, tuned = (to_json(module.evaluators[w].summary()) for w in ("reference", "tuned"))
    for judged in (reference, tuned):
        judged |= {name: judged.get(name) for name in ("reward", "reward_stderr", "reward_std")}
    last = data.accounts[-1]
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
        "level": module.policy.interval.low,
        "upper_level": module.policy.interval.high,
        **({"levels": chosen.account()} if chosen is not None else {}),
        "steps": module.policy.steps,
        "objective": module.objective.describe(module.policy),
        "rule": data.rounds.describe(),
        **({"scored_set": {**counts, "is_the_reward": data.rounds.same_scale}} if counts else {}),
        "rounds": [asdict(account) for account in data.accounts],
        "acceptance_rate": last.acceptance_rate,
        "kl_nats": last.kl_nats if data.accept.is_selective else None,
        "selective": data.accept.is_selective,
        "saturated": data.saturated,
        "reward_calls": sum(a.reward_calls for a in data.accounts),
        "denoiser_calls": sum(a.denoiser_calls for a in data.accounts),
        "reward_calls_by_term": by_term(data.reward, (a.reward_calls_by_term for a in data.accounts)),
        "evaluation_reward_calls": sum(judge.reward_calls for judge in module.evaluators.values()),
        "evaluation_reward_calls_by_term": by_term(data.reward, (j.calls_by_term for j in module.evaluators.values())),
        "evaluation_denoiser_calls": sum(judge.denoiser_calls for judge in module.evaluators.values()),
        "seconds": round(seconds, 1),
        "seed": module.seed,
        "versions": versions(),
    }


def _gain(module: GraftModule, data: Rollouts) -> gains.Gain:
    """Return the gain of the tuned samples and of the last accepted draws over the reference."""
    number = len(data.accounts) - 1
    _, index, weight = RoundSummary.read(data.rounds.round_dir(number))
    drawn = store_groups(module, data.rounds.store(number))
    rewards = torch.tensor(data.rounds.store(number).scores()[0].values, dtype=torch.float64)
    requests = SampleRequests(module, data.evaluation.test_draws, data.batch_size, ("test",), "reference")
    tuned, reference = (
        torch.tensor(module.evaluators[weights].rewards, dtype=torch.float64) for weights in ("tuned", "reference")
    )
    return gains.gain(tuned, reference, groups(requests), gains.means(rewards[index], drawn[index], weight))


def _watched(watch: "AlarmCallback | None") -> dict[str, Any]:
    """Return the monitored metrics of each round and the alarms, for the summary."""
    found = [asdict(each) for each in watch.history] if watch is not None else []
    stopped = watch is not None and watch.stopped
    kept = watch.good_round if watch is not None and watch.stopped else None
    return {
        "alarms": [str(each) for each in watch.alarms] if watch is not None else [],
        "monitored": found,
        "stopped_by_alarm": stopped,
        "restored_round": kept,
    }


def to_json(values: dict[str, float]) -> dict[str, Any]:
    """Return values for JSON: None if not finite, integers for counts, nested for ``a/b``."""
    out: dict[str, Any] = {name: value if math.isfinite(value) else None for name, value in values.items()}
    for name in ("n", "failed_rewards"):
        if name in out:
            out[name] = int(out[name])
    for name in [name for name in out if "/" in name]:
        metric, part = name.split("/")
        out.setdefault(metric, {})[part] = out.pop(name)
    return out


def write_samples(module: GraftModule, folder: Path) -> None:
    """Write the evaluated samples of each evaluator as a file and a picture."""
    for name, judge in module.evaluators.items():
        if module.file_suffix:
            path = folder / "samples" / f"{name}{module.file_suffix}"
            files.write_with(path, partial(module.write, judge.items, rewards=judge.rewards or None))
        drawing = render_samples(module, judge)
        if drawing is not None:
            files.write_bytes(folder / "samples" / f"{name}.png", drawing)


def render_samples(module: GraftModule, judge: SampleEvaluator) -> "bytes | None":
    """Return a PNG of the first evaluated objects, or None if the domain renders none."""
    legends: Sequence[str] | None = [report.format_number(r) for r in judge.rewards[:SHOWN]] if judge.rewards else None
    return module.render(judge.items[:SHOWN], legends)


def _write_report(
    module: GraftModule, data: Rollouts, trainer: Trainer, folder: Path, summary: dict[str, Any], command: str
) -> None:
    last = len(data.accounts) - 1
    _, index, weight = RoundSummary.read(data.rounds.round_dir(last))
    scores = data.rounds.store(last).scores()[0].values
    matching = gains.matching(store_groups(module, data.rounds.store(last)), index, weight).tolist()
    rewards = {
        "reference": _finite(module.evaluators["reference"].rewards),
        **({"accepted": _finite([scores[i] for i in index.tolist()])} if data.rounds.same_scale else {}),
        "tuned": _finite(module.evaluators["tuned"].rewards),
    }
    pictures = {name: render_samples(module, judge) for name, judge in module.evaluators.items()}
    curves: dict[str, list[tuple[float, float]]] = {}
    number = 0
    for row in loggers.metrics_file(trainer).rows:
        for name, value in row.items():
            if name.startswith("validation/") and name.count("/") == 1:
                curves.setdefault(name.removeprefix("validation/"), []).append((float(row["epoch"]) + 1, float(value)))
    for account in data.accounts:
        number += 1
        curves.setdefault(report.accepted_label(summary), []).append((number, account.accepted_reward))
    reference = report.reference_values(summary)
    curves = {
        name: ([(0, reference[name]), *points] if reference.get(name) is not None else points)
        for name, points in curves.items()
        if name not in ("reward_stderr", "reward_std", "failed_rewards")
    }
    title = f"{type(module).__name__}: {data.rounds.reward_label[0]}"
    shown = {name: png for name, png in pictures.items() if png is not None}
    best = _write_hits(module, data, folder)
    levels = show.section(folder)
    report.write(folder / "report.html", summary, title, command, rewards, curves, shown, levels, best, matching)


def _write_hits(module: GraftModule, data: Rollouts, folder: Path) -> str:
    """Write the best objects of a run, and return the HTML section of the report on them."""
    judge = module.evaluators["tuned"]
    best = hits.top_samples(module, data, len(data.accounts), judge.items, judge.rewards, HITS) if judge.rewards else []
    if not best:
        return ""
    hits.write(module, best, folder / "hits.csv", data.rounds.reward_label[0])
    if module.file_suffix not in ("", ".csv"):
        hits.write(module, best, folder / f"hits{module.file_suffix}", data.rounds.reward_label[0])
    return hits.section(module, best, data.rounds.reward_label[0])


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
