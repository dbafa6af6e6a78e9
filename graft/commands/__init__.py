"""One Python function for each command of the command line, and what these functions share."""

from graft.commands.finetune import RoundWeightsCallback, fit
from graft.commands.level_comparison import levels
from graft.commands.pretraining import pretrain
from graft.commands.samples import evaluate_both, render_samples, sample, write_samples
from graft.commands.session import (
    TRAINER_DEFAULTS,
    attach_logging,
    prepare_run_dir,
    saves,
    train,
    trainer,
    versions,
)
from graft.commands.summary import to_json

__all__ = [
    "TRAINER_DEFAULTS",
    "RoundWeightsCallback",
    "attach_logging",
    "evaluate_both",
    "fit",
    "levels",
    "prepare_run_dir",
    "pretrain",
    "render_samples",
    "sample",
    "saves",
    "to_json",
    "train",
    "trainer",
    "versions",
    "write_samples",
]
