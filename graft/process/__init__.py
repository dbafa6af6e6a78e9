"""Forward processes, which noise states, and one step back along them."""

from graft.process.arguments import Level, Model, NoisyExample
from graft.process.base import Process
from graft.process.categorical import Categorical
from graft.process.gaussian import Gaussian
from graft.process.masked import MaskedCategorical
from graft.process.multi_field import MultiFieldProcess
from graft.process.output import check_output
from graft.process.projections import MaskProjection, Projection, ZeroCenterOfMass
from graft.process.rotation import TrigFlow
from graft.process.schedules import (
    BetaSchedule,
    CosineSchedule,
    LinearSchedule,
    PolynomialSchedule,
    Schedule,
    VarianceExploding,
)
from graft.process.symmetric_pairs import SymmetricPairs
from graft.process.uniform import UniformCategorical

__all__ = [
    "BetaSchedule",
    "Categorical",
    "CosineSchedule",
    "Gaussian",
    "Level",
    "LinearSchedule",
    "MaskProjection",
    "MaskedCategorical",
    "Model",
    "MultiFieldProcess",
    "NoisyExample",
    "PolynomialSchedule",
    "Process",
    "Projection",
    "Schedule",
    "SymmetricPairs",
    "TrigFlow",
    "UniformCategorical",
    "VarianceExploding",
    "ZeroCenterOfMass",
    "check_output",
]
