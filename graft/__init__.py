"""graft: fine-tune diffusion and flow models on a black-box reward by rejection sampling."""

import importlib
from typing import TYPE_CHECKING, Any

from graft.core import threads as threads  # first: its environment variables must be set before torch is imported
from graft.version import __version__ as __version__

if TYPE_CHECKING:
    from graft.cli import load
    from graft.commands import Run, fit, from_pretrained, load_run, pretrain, sample, table, trainer
    from graft.commands.level_comparison import levels
    from graft.core.datatypes import SampleRequest, TrainingBatch
    from graft.domain import Domain
    from graft.errors import GraftError
    from graft.module import GraftModule
    from graft.objectives import Objective
    from graft.policy import Policy, Tuning
    from graft.reward import Reward
    from graft.rollouts import Rollouts
    from graft.sampler import Stage, Trajectory, run_stages

__all__ = [
    "Domain",
    "GraftError",
    "GraftModule",
    "Objective",
    "Policy",
    "Reward",
    "Rollouts",
    "Run",
    "SampleRequest",
    "Stage",
    "TrainingBatch",
    "Trajectory",
    "Tuning",
    "fit",
    "from_pretrained",
    "levels",
    "load",
    "load_run",
    "pretrain",
    "run_stages",
    "sample",
    "table",
    "trainer",
]

_WHERE = {
    "load": "cli",
    **dict.fromkeys(
        ("Run", "fit", "from_pretrained", "load_run", "pretrain", "sample", "table", "trainer"), "commands"
    ),
    "levels": "commands.level_comparison",
    "GraftError": "errors",
    "Domain": "domain",
    **dict.fromkeys(("Policy", "Tuning"), "policy"),
    **dict.fromkeys(("SampleRequest", "TrainingBatch"), "core.datatypes"),
    "GraftModule": "module",
    "Objective": "objectives",
    "Reward": "reward",
    "Rollouts": "rollouts",
    **dict.fromkeys(("Stage", "Trajectory", "run_stages"), "sampler"),
}


def __dir__() -> list[str]:
    """Return the public names, with those that are not imported yet."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``graft --help`` does not wait for torch (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module 'graft' has no attribute {name!r}")
    return getattr(importlib.import_module(f"graft.{_WHERE[name]}"), name)
