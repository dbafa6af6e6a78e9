"""One Python function for each command of the command line, and the parts that these functions share."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graft.commands.finetune import RoundWeightsCallback, fit
    from graft.commands.pretraining import pretrain
    from graft.commands.run import Run, from_pretrained, load_run
    from graft.commands.samples import evaluate_both, render_samples, sample, sample_chunks, table, write_samples
    from graft.commands.session import TRAINER_DEFAULTS, OpenRun, attach_logging, open_run, saves, train, trainer
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
    "write_samples",
]

_FILES = {
    "finetune": ("RoundWeightsCallback", "fit"),
    "pretraining": ("pretrain",),
    "run": ("Run", "from_pretrained", "load_run"),
    "samples": ("evaluate_both", "render_samples", "sample", "sample_chunks", "table", "write_samples"),
    "session": ("TRAINER_DEFAULTS", "OpenRun", "attach_logging", "open_run", "saves", "train", "trainer"),
    "summary": ("to_json",),
}
_WHERE = {name: file for file, names in _FILES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a name on first use, so that ``graft --version`` does not wait for torch (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module 'graft.commands' has no attribute {name!r}")
    return getattr(importlib.import_module(f"graft.commands.{_WHERE[name]}"), name)
