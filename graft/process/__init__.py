"""Forward processes: how states are noised, and one step back."""

from graft.inversion.base import InversionError
from graft.process.base import Level, Model, Process
from graft.process.gaussian import Gaussian
from graft.process.mixed import Mixed
from graft.process.projections import Masked, Projection, ZeroCentre
from graft.process.rotation import Rotation
from graft.process.schedules import Betas, Cosine, Flow, Polynomial, Schedule, VarianceExploding

__all__ = [
    "Betas",
    "Cosine",
    "Flow",
    "Gaussian",
    "InversionError",
    "Level",
    "Masked",
    "Mixed",
    "Model",
    "Polynomial",
    "Process",
    "Projection",
    "Rotation",
    "Schedule",
    "VarianceExploding",
    "ZeroCentre",
]
