"""Forward processes: how states are noised, and one step back."""

from graft.inversion.base import InversionError
from graft.process.base import Level, Model, Process
from graft.process.categorical import Categorical
from graft.process.gaussian import Gaussian
from graft.process.masked import MaskedCategorical
from graft.process.mixed import Mixed
from graft.process.output import checked
from graft.process.projections import Masked, Projection, ZeroCentre
from graft.process.rotation import Rotation
from graft.process.schedules import Betas, Cosine, Flow, Polynomial, Schedule, VarianceExploding
from graft.process.uniform import UniformCategorical

__all__ = [
    "Betas",
    "Categorical",
    "Cosine",
    "Flow",
    "Gaussian",
    "InversionError",
    "Level",
    "Masked",
    "MaskedCategorical",
    "Mixed",
    "Model",
    "Polynomial",
    "Process",
    "Projection",
    "Rotation",
    "Schedule",
    "UniformCategorical",
    "VarianceExploding",
    "ZeroCentre",
    "checked",
]
