"""graft: fine-tune diffusion and flow models by shaping the law of an intermediate state."""

from graft.errors import GraftError
from graft.module import Draws, Examples, GraftModule
from graft.sampler import Stage, Trajectory, run

__version__ = "0.1.0"
__all__ = ["Draws", "Examples", "GraftError", "GraftModule", "Stage", "Trajectory", "run"]
