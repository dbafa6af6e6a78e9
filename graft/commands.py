"""One function for each command: what the command line does, callable from Python."""

import importlib.metadata
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, RichProgressBar, TQDMProgressBar

from graft import distributed, feasible, files, hits, report, rounds, runs, threads
from graft.alarms import AlarmCallback
from graft.batches import Weights
from graft.batches.resumable_loader import seeded_train_dataloader
from graft.batches.sampling import SampleRequests, groups, sample_objects
from graft.errors import GraftError
from graft.evaluation import SampleEvaluator
from graft.levels import search, show
from graft.module import GraftModule
from graft.network.weights import keep_reference
from graft.reward import by_term
from graft.rollouts import Rollouts
from graft.rounds import RoundSummary
from graft.rounds import gain as gains
from graft.runs import last_checkpoint, loggers
from graft.runs.checkpoint import ChecksummedCheckpointIO
from graft.runs.checkpoint import read as read_checkpoint
from graft.runs.interruption import Interruption
from graft.runs.lock import hold, holding
from graft.runs.logger import ResumableCSVLogger
from graft.runs.progress import RoundProgressCallback
from graft.runs.python_runs import checkpoint_of, of_objects
from graft.runs.stopwatch import Stopwatch

if TYPE_CHECKING:
    from graft.correct.data import InvertedNoiseData

TRAINER_DEFAULTS: dict[str, Any] = {
    "logger": False,  # metrics.csv is added to the user's loggers, see `attach`
    "enable_checkpointing": False,  # last.ckpt is added to the user's checkpoints, likewise
    "max_epochs": 1,  # Lightning's 1000 would be as many rounds
    "reload_dataloaders_every_n_epochs": 1,  # a round is an epoch
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "log_every_n_steps": 10,
}
"""Trainer settings that graft's commands start from."""

SHOWN = 24  # objects in a picture
HITS = 100  # the best of what a run has drawn


def trainer(rounds: int = 1, **settings: Any) -> Trainer:
    """A Trainer as graft's commands use it; ``settings`` are Lightning's."""
    own = {"enable_checkpointing": saves(settings.get("callbacks"))}
    asked = {"max_epochs": rounds, **settings}
    made = Trainer(**{**TRAINER_DEFAULTS, **own, **asked})
    made.__dict__["_asked"] = asked  # for the configuration of the run
    return made


def saves(callbacks: "Sequence[Callback] | Callback | None") -> bool:
    """Return whether one of the user's callbacks saves checkpoints, for which Lightning must be told to expect it."""
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
    """Fine-tune: rollouts, acceptance, training; then compare with the reference and write the run's files.

    Args:
        module: The model, with its reference's weights.
        data: The rollouts.
        run_dir: Folder of the run.
        trainer: ``trainer(rounds)``, or one of your own with `TRAINER_DEFAULTS`'s settings.
        config: The configuration as YAML, kept with the run and with the weights; written from the objects if empty.
        command: That repeats the run, shown in the report.
        checkpoint: To go on from: a file, or ``last``, the run's own.
        overwrite: Remove the run that is in the folder.

    Returns:
        What ``summary.json`` holds.

    Raises:
        GraftError: The folder holds a run, and it is neither gone on with nor overwritten.
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
    if module.reference_file is None:
        raise GraftError("fine-tuning needs a reference: give model.weights")
    if trainer.max_epochs is not None and trainer.max_epochs < 1:
        raise GraftError(f"trainer.max_epochs is {trainer.max_epochs}, but a run takes at least one round")
    distributed.launch(trainer, module)
    folder = prepare_run_dir(trainer, run_dir)
    checkpoint = distributed.on_rank_zero(trainer, lambda: checkpoint_of(folder, asked, overwrite))
    clock.keep(folder, trainer)
    data.run_dir = folder
    keep_reference(module, folder)
    config = config or distributed.on_rank_zero(
        trainer, lambda: of_objects(module, data, trainer, folder, asked is not None)
    )
    attach_logging(trainer, folder, config, checkpoint)
    watch = (
        AlarmCallback(data.alarms, data.held_out_reward, folder)
        if data.alarms is not None and data.validation_draws
        else None
    )
    if watch is not None:
        trainer.callbacks.insert(0, watch)  # type: ignore[attr-defined]
    trainer.callbacks.append(RoundProgressCallback())  # type: ignore[attr-defined]
    if data.save_round_weights:
        trainer.callbacks.insert(0, RoundWeightsCallback(config))  # type: ignore[attr-defined]
    train(module, data, trainer, folder, checkpoint)
    if not data.accounts:
        raise GraftError("no round was done: raise trainer.max_epochs, trainer.max_steps or trainer.max_time")
    module.save_weights(folder / "tuned.safetensors", config)
    module.export(folder)
    evaluate_both(module, data, trainer)
    chosen = search.Analysis.read(folder) if module.level_setting == "auto" else None
    summary = _summary(module, data, clock.seconds, chosen) | _watched(watch)
    if trainer.is_global_zero:
        write_samples(module, folder)
        _write_report(module, data, trainer, folder, summary, command)
        files.write_json(folder / "summary.json", summary)  # last: its presence says that the run is finished
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
    """Train a reference on data; write its weights and what it draws.

    Args:
        module: The model, without weights.
        data: The domain's data set.
        run_dir: Folder of the run.
        trainer: Lightning's.
        config: The configuration as YAML, kept with the run and with the weights; written from the objects if empty.
        checkpoint: To go on from: a file, or ``last``, the run's own.
        draws: Samples that the summary judges.
        overwrite: Remove the run that is in the folder.

    Returns:
        What ``summary.json`` holds.

    Raises:
        GraftError: The folder holds a run, and it is neither gone on with nor overwritten.
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
    if module.level_setting == "auto" or module.level or module.upper_level < 1:
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
    left_out: Any = getattr(data, "left_out", None)  # by record, or numbers by reason, as the domain's data say it
    if isinstance(left_out, list) and trainer.is_global_zero:
        files.write_text(folder / "invalid_records.csv", rounds.invalid_records_csv(left_out))
    summary = {
        "reference": to_json(judge.summary()),
        **({"invalid": len(left_out)} if isinstance(left_out, list) else {}),
        **({"invalid": sum(left_out.values()), "invalid_by_reason": left_out} if isinstance(left_out, dict) else {}),
        "steps": trainer.global_step,
        "parameters": sum(p.numel() for p in module.backbone.parameters()),
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
) -> search.Analysis:
    """Compare levels on draws of the reference; write ``levels.json`` and ``levels.png``.

    Args:
        module: The model, with its reference's weights; its own level does not matter.
        data: The rollouts, whose reward and acceptance rule are asked about; ``data.level_search`` says how.
        run_dir: Folder for the files.
        trainer: ``trainer()``, or Lightning's.
        config: The configuration as YAML, kept beside them as ``levels.yaml``.
    """
    if module.reference_file is None:
        raise GraftError("levels are compared on draws of a reference: give model.weights")
    distributed.launch(trainer, module)
    folder = prepare_run_dir(trainer, run_dir)
    comparison = _Comparison(data)
    trainer.predict(module, comparison, return_predictions=False)
    assert comparison.found is not None
    if trainer.is_global_zero:
        show.write(comparison.found, folder)
        if config:
            files.write_text(folder / "levels.yaml", config)
    return comparison.found


class _Comparison(LightningDataModule):
    """Compares levels where Lightning asks for what to predict: by then the strategy is ready, as it is for a round."""

    def __init__(self, data: Rollouts) -> None:
        super().__init__()
        self.data = data
        self.found: search.Analysis | None = None

    def setup(self, stage: str) -> None:
        self.data.require_reward.setup()

    def predict_dataloader(self) -> "list[Any]":
        self.data.trainer = self.trainer
        self.found = search.search_levels(self.data)
        return []


class RoundWeightsCallback(Callback):
    """Keeps the tuned weights of every round beside it: an earlier one is a run that was stopped early."""

    def __init__(self, config: str) -> None:
        self.config = config

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write them, before the checkpoint that says the round is done."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, GraftModule)
        path = data.round_dir(trainer.current_epoch) / "tuned.safetensors"
        pl_module.save_weights(path, self.config)


def evaluate_both(module: GraftModule, data: "Rollouts | InvertedNoiseData", trainer: Trainer) -> None:
    """Evaluate fresh samples of the reference and of the tuned model, drawn with the same noise."""
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
    """Draw objects.

    Returns:
        (objects, denoiser calls) of each chunk.

    Raises:
        GraftError: So many take years, or more memory than there is.
    """
    feasible.check_sampling(module, "-n", count)
    return list(
        sample_objects(
            module, trainer, SampleRequests(module, count, chunk or module.default_batch_size, (purpose,), weights)
        )
    )


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    try:
        ours = importlib.metadata.version("graft-diffusion")
    except importlib.metadata.PackageNotFoundError:
        from graft import __version__ as ours
    return {
        "graft": ours,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
    }


def attach_logging(trainer: Trainer, folder: Path, config: str, checkpoint: "Path | None") -> None:
    """Give the trainer the run's log and checkpoints, beside the user's own."""
    step = distributed.on_rank_zero(trainer, lambda: read_checkpoint(checkpoint)["global_step"]) if checkpoint else 0
    loggers.attach(trainer, ResumableCSVLogger(folder / "metrics.csv", step), config, render_samples)
    last_checkpoint.attach(trainer, folder)
    bar = trainer.progress_bar_callback
    if isinstance(bar, TQDMProgressBar | RichProgressBar) and bar.refresh_rate == 1:
        bar._refresh_rate = 10  # drawing it at every step costs milliseconds
    if config and trainer.is_global_zero:
        files.write_text(folder / "config.yaml", config)


def train(
    module: GraftModule, data: LightningDataModule, trainer: Trainer, folder: Path, checkpoint: "Path | None"
) -> None:
    """Lightning's fit, which a signal ends where it can go on.

    Raises:
        Interrupted: It did.
        GraftError: The checkpoint is another network's.
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
    """The run's folder, which all processes write to.

    Raises:
        GraftError: It cannot be made, or some process does not see what the first one made.
    """
    folder = Path(run_dir)

    def make() -> str:
        runs.make_run_dir(folder)
        hold(folder)  # first: what another process writes is neither looked at nor removed
        runs.refuse_links(folder)
        runs.remove_temporary(folder)
        return str(folder)

    distributed.on_rank_zero(trainer, make)
    if not trainer.strategy.reduce_boolean_decision(folder.is_dir(), all=True):
        raise GraftError(
            f"the run's folder {folder} is not seen by all {trainer.world_size} processes: use --run_dir on a file "
            "system that every node shares"
        )
    return folder


def _summary(module: GraftModule, data: Rollouts, seconds: float, chosen: "search.Analysis | None") -> dict[str, Any]:
    reference, tuned = (to_json(module.evaluators[w].summary()) for w in ("reference", "tuned"))
    for judged in (reference, tuned):
        judged |= {name: judged.get(name) for name in ("reward", "reward_stderr", "reward_std")}
    last = data.accounts[-1]
    name, unit = data.reward_label
    found = in_std = None  # where the reward failed for all samples of one
    if tuned["reward"] is not None and reference["reward"] is not None:
        found = _gain(module, data)
        if reference["reward_std"]:
            in_std = (found.reward if data.higher_is_better else -found.reward) / reference["reward_std"]
    apart = found is None or not data.accept.is_selective or not data.same_scale
    beside = to_json({} if found is None or apart else {"gain": found.accepted, "of": found.of_accepted})
    return {
        "reference": reference,
        "tuned": tuned,
        "accepted_reward": last.accepted_reward,
        "accepted_gain": beside.get("gain"),
        "matched_share": None if found is None else found.share,
        "gain": {
            "reward": None if found is None else found.reward,
            "in_reference_std": in_std,
            "of_accepted": beside.get("of"),
        },
        "reward": {"name": name, "unit": unit, "higher_is_better": data.higher_is_better},
        "level": module.level,
        "start": module.upper_level,
        **({"levels": chosen.account()} if chosen is not None else {}),
        "steps": module.steps,
        "objective": module.objective.describe(module),
        "rule": data.describe(),
        **({"scored_set": {**counts, "is_the_reward": data.same_scale}} if (counts := data.source.summary) else {}),
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
    """Return the gain of the tuned model's samples beside that of the draws that the last round accepted."""
    number = len(data.accounts) - 1
    _, index, weight = RoundSummary.read(data.round_dir(number))
    drawn, rewards = data.groups(number), torch.tensor(data.round_rewards(number), dtype=torch.float64)
    requests = SampleRequests(module, data.test_draws, data.batch_size, ("test",), "reference")
    tuned, reference = (
        torch.tensor(module.evaluators[weights].rewards, dtype=torch.float64) for weights in ("tuned", "reference")
    )
    return gains.gain(tuned, reference, groups(requests), gains.means(rewards[index], drawn[index], weight))


def _watched(watch: "AlarmCallback | None") -> dict[str, Any]:
    """What was watched in each round, and the alarms."""
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
    """As JSON has them: None for NaN and infinity, whole numbers for counts."""
    out: dict[str, Any] = {name: value if math.isfinite(value) else None for name, value in values.items()}
    for name in ("n", "failed_rewards"):
        if name in out:
            out[name] = int(out[name])
    for name in [name for name in out if "/" in name]:
        metric, part = name.split("/")
        out.setdefault(metric, {})[part] = out.pop(name)
    return out


def write_samples(module: GraftModule, folder: Path) -> None:
    """Write what was judged, as files and pictures."""
    for name, judge in module.evaluators.items():
        if module.file_suffix:
            path = folder / "samples" / f"{name}{module.file_suffix}"
            files.write_with(path, partial(module.write, judge.items, rewards=judge.rewards or None))
        drawing = render_samples(module, judge)
        if drawing is not None:
            files.write_bytes(folder / "samples" / f"{name}.png", drawing)


def render_samples(module: GraftModule, judge: SampleEvaluator) -> "bytes | None":
    """PNG of the first of the objects that were judged."""
    legends: Sequence[str] | None = [report.format_number(r) for r in judge.rewards[:SHOWN]] if judge.rewards else None
    return module.render(judge.items[:SHOWN], legends)


def _write_report(
    module: GraftModule, data: Rollouts, trainer: Trainer, folder: Path, summary: dict[str, Any], command: str
) -> None:
    last = len(data.accounts) - 1
    _, index, weight = RoundSummary.read(data.round_dir(last))
    scores = data.round_rewards(last)
    matching = gains.matching(data.groups(last), index, weight).tolist()
    rewards = {
        "reference": _finite(module.evaluators["reference"].rewards),
        **({"accepted": _finite([scores[i] for i in index.tolist()])} if data.same_scale else {}),
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
    title = f"{type(module).__name__}: {data.reward_label[0]}"
    shown = {name: png for name, png in pictures.items() if png is not None}
    best = _write_hits(module, data, folder)
    levels = show.section(folder)
    report.write(folder / "report.html", summary, title, command, rewards, curves, shown, levels, best, matching)


def _write_hits(module: GraftModule, data: Rollouts, folder: Path) -> str:
    """Write the best of all that the run has drawn and scored; the report's section on them."""
    judge = module.evaluators["tuned"]
    best = hits.top_samples(module, data, len(data.accounts), judge.items, judge.rewards, HITS) if judge.rewards else []
    if not best:
        return ""
    hits.write(module, best, folder / "hits.csv", data.reward_label[0])
    if module.file_suffix not in ("", ".csv"):
        hits.write(module, best, folder / f"hits{module.file_suffix}", data.reward_label[0])
    return hits.section(module, best, data.reward_label[0])


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
