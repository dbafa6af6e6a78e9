"""graft: fine-tune diffusion and flow models by shaping the law of an intermediate state."""

from graft.cli import load
from graft.commands import fit, pretrain, sample, trainer
from graft.errors import GraftError
from graft.module import Draws, Examples, GraftModule
from graft.rollouts import Rollouts
from graft.sampler import Stage, Trajectory, run

__version__ = "0.1.0"
__all__ = [
    "Draws",
    "Examples",
    "GraftError",
    "GraftModule",
    "Rollouts",
    "Stage",
    "Trajectory",
    "fit",
    "load",
    "pretrain",
    "run",
    "sample",
    "trainer",
]
