"""graft: fine-tune diffusion and flow models by shaping the law of an intermediate state."""

import importlib
from typing import TYPE_CHECKING, Any

from graft import threads as threads  # first: it must be imported before torch

if TYPE_CHECKING:
    from graft.batches import SampleRequest, TrainingBatch
    from graft.cli import load
    from graft.commands import fit, pretrain, sample, trainer
    from graft.errors import GraftError
    from graft.module import GraftModule
    from graft.objectives import Objective
    from graft.reward import Reward
    from graft.rollouts import Rollouts
    from graft.sampler import Stage, Trajectory, run_stages

__version__ = "0.1.0"
__all__ = [
    "GraftError",
    "GraftModule",
    "Objective",
    "Reward",
    "Rollouts",
    "SampleRequest",
    "Stage",
    "TrainingBatch",
    "Trajectory",
    "fit",
    "load",
    "pretrain",
    "run_stages",
    "sample",
    "trainer",
]

_WHERE = {
    "load": "cli",
    **dict.fromkeys(("fit", "pretrain", "sample", "trainer"), "commands"),
    "GraftError": "errors",
    **dict.fromkeys(("SampleRequest", "TrainingBatch"), "batches"),
    "GraftModule": "module",
    "Objective": "objectives",
    "Reward": "reward",
    "Rollouts": "rollouts",
    **dict.fromkeys(("Stage", "Trajectory", "run_stages"), "sampler"),
}


def __dir__() -> list[str]:
    """The public names, also those that are not imported yet."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for: ``graft --help`` must not wait for torch (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module 'graft' has no attribute {name!r}")
    return getattr(importlib.import_module(f"graft.{_WHERE[name]}"), name)
