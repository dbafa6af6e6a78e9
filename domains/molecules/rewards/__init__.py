"""Rewards of a molecule, one idea a file; a new one is a new file, named by its class's path in a config."""

from domains.molecules.rewards.combine import Desirability, Desirable
from domains.molecules.rewards.counts import Matches, Rings
from domains.molecules.rewards.descriptors import QED, TPSA, LogP, RDKit
from domains.molecules.rewards.featurise import Morgan, Named
from domains.molecules.rewards.gates import Gated, Vetoed
from domains.molecules.rewards.predictor import MLP, SklearnPredictor, TorchPredictor
from domains.molecules.rewards.program import Program
from domains.molecules.rewards.quality import Stability, Validity
from domains.molecules.rewards.reference import Scaffold, Similarity
from domains.molecules.rewards.strain import Strain
from domains.molecules.rewards.synthesis import SyntheticAccessibility
from graft.reward import Weighted

__all__ = [
    "MLP",
    "QED",
    "TPSA",
    "Desirability",
    "Desirable",
    "Gated",
    "LogP",
    "Matches",
    "Morgan",
    "Named",
    "Program",
    "RDKit",
    "Rings",
    "Scaffold",
    "Similarity",
    "SklearnPredictor",
    "Stability",
    "Strain",
    "SyntheticAccessibility",
    "TorchPredictor",
    "Validity",
    "Vetoed",
    "Weighted",
]
