"""Rewards of molecules, one idea in each file; configs name a class by its path."""

from domains.molecules.rewards.combine import DesirabilityWindow, GeometricMean
from domains.molecules.rewards.counts import RingCount, SmartsCount
from domains.molecules.rewards.descriptors import QED, TPSA, LogP, RDKitDescriptor
from domains.molecules.rewards.featurise import DescriptorFeatures, MorganFeatures
from domains.molecules.rewards.gates import AlertFree, Gated
from domains.molecules.rewards.predictor import MLP, SklearnPredictor, TorchPredictor
from domains.molecules.rewards.program import ExternalProgram
from domains.molecules.rewards.quality import Stability, Validity
from domains.molecules.rewards.similarity import Scaffold, Similarity
from domains.molecules.rewards.strain import Strain
from domains.molecules.rewards.synthesis import SyntheticAccessibility
from domains.molecules.rewards.vina import Vina
from domains.molecules.rewards.xtb import XTB
from graft.reward import WeightedSum

__all__ = [
    "MLP",
    "QED",
    "TPSA",
    "XTB",
    "AlertFree",
    "DescriptorFeatures",
    "DesirabilityWindow",
    "ExternalProgram",
    "Gated",
    "GeometricMean",
    "LogP",
    "MorganFeatures",
    "RDKitDescriptor",
    "RingCount",
    "Scaffold",
    "Similarity",
    "SklearnPredictor",
    "SmartsCount",
    "Stability",
    "Strain",
    "SyntheticAccessibility",
    "TorchPredictor",
    "Validity",
    "Vina",
    "WeightedSum",
]
