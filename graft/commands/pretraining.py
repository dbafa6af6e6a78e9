"""Train a reference on data."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer

from graft import report
from graft.commands.run_report import class_path
from graft.commands.samples import sample_chunks, write_samples
from graft.commands.session import OpenRun, open_run, train
from graft.commands.summary import to_json
from graft.dataloaders.seeded import seeded_train_dataloader
from graft.errors import GraftError
from graft.evaluation import SampleEvaluator
from graft.io.atomic import write_text
from graft.io.invalid_records import count_by_reason, invalid_records_csv
from graft.io.json_files import write_json
from graft.module import GraftModule
from graft.runs import loggers
from graft.version import versions


def pretrain(
    module: GraftModule,
    data: LightningDataModule,
    run_dir: "str | Path",
    trainer: Trainer,
    config: str = "",
    command: str = "",
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
        command: Command that repeats the run, for the card of the weights.
        checkpoint: Checkpoint to resume from: a file, or ``last`` for the checkpoint of the run.
        draws: Number of samples to evaluate.
        overwrite: True to remove an earlier run in the folder.

    Returns:
        The content of ``summary.json``.

    Raises:
        GraftError: The folder holds a run, and the call neither resumes nor overwrites it.
    """
    if module.policy.corrector is not None:
        raise GraftError("pretrain trains the model itself: leave out model.corrector")
    if module.level_setting == "auto" or not module.policy.interval.is_whole:
        raise GraftError("pretrain trains the whole network: leave model.level at 0 and model.upper_level at 1")
    with open_run(module, data, run_dir, trainer, config, checkpoint, overwrite) as run:
        return _pretrain(module, data, trainer, run, command, draws)


def _pretrain(
    module: GraftModule, data: LightningDataModule, trainer: Trainer, run: OpenRun, command: str, draws: int
) -> dict[str, Any]:
    folder = run.folder
    with seeded_train_dataloader(data, trainer, module.seed):
        train(module, data, trainer, folder, run.checkpoint)
    module.save_weights(folder / "reference.safetensors", run.config)
    evaluator = SampleEvaluator(None, module.metrics())
    for items, calls in sample_chunks(module, trainer, draws, "pretrain"):
        evaluator.update(items, calls)
    module.evaluators = {"reference": evaluator}
    if (log := loggers.find_run_log(trainer)) is not None:
        log.samples(trainer, module, "test/{}/samples")
    left_out: Any = getattr(data, "left_out", None)
    if isinstance(left_out, list) and trainer.is_global_zero:
        write_text(folder / "invalid_records.csv", invalid_records_csv(left_out))
    summary = {
        "reference": to_json(evaluator.summary()),
        **(
            {"invalid": len(left_out), "invalid_by_reason": count_by_reason(left_out)}
            if isinstance(left_out, list)
            else {}
        ),
        "steps": trainer.global_step,
        "parameters": sum(p.numel() for p in module.policy.backbone.parameters()),
        "seconds": round(run.clock.seconds, 1),
        "seed": module.seed,
        "versions": versions(),
    }
    if trainer.is_global_zero:
        write_samples(module, folder)
        source = Path(str(getattr(data, "source", ""))).name
        write_text(folder / "CARD.md", report.reference_card(summary, class_path(module), source, command))
        write_json(folder / "summary.json", summary)  # written last, because it marks the run as finished
    return summary
