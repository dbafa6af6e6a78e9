"""One Python function for each command of the command line, and the parts that these functions share."""

from graft.commands.finetune import RoundWeightsCallback, fit
from graft.commands.level_comparison import levels
from graft.commands.pretraining import pretrain
from graft.commands.run import Run, from_pretrained, load_run
from graft.commands.samples import evaluate_both, render_samples, sample, sample_chunks, table, write_samples
from graft.commands.session import (
    TRAINER_DEFAULTS,
    OpenRun,
    attach_logging,
    open_run,
    saves,
    train,
    trainer,
    versions,
)
from graft.commands.summary import to_json

__all__ = [
    "TRAINER_DEFAULTS",
    "OpenRun",
    "RoundWeightsCallback",
    "Run",
    "attach_logging",
    "evaluate_both",
    "fit",
    "from_pretrained",
    "levels",
    "load_run",
    "open_run",
    "pretrain",
    "render_samples",
    "sample",
    "sample_chunks",
    "saves",
    "table",
    "to_json",
    "train",
    "trainer",
    "versions",
    "write_samples",
]
