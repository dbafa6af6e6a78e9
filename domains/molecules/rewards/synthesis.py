"""Synthetic accessibility."""

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

from rdkit import RDConfig
from typing_extensions import override

from domains.molecules.rewards.base import TargetDescriptor
from graft.errors import GraftError


class SyntheticAccessibility(TargetDescriptor):
    """SA score, 1 (easy) to 10 (hard), from fragment frequencies and complexity.

    Ertl and Schuffenhauer (2009); the code is that of RDKit's Contrib. The score was fitted to drug-sized molecules.

    Args:
        target: Target of the reward exp(-((SA - target) / width)² / 2); ``null`` for the score, smaller is better.
        width: Width of the window around ``target``.
    """

    name = "SA score"
    higher_is_better = False
    min_value, max_value = 1.0, 10.0

    def __init__(self, target: "float | None" = None, width: float = 1.0) -> None:
        super().__init__(target, width)

    @override
    def setup(self) -> None:
        """Load the table of fragments; raise GraftError if RDKit was installed without its Contrib."""
        scorer()

    @override
    def value(self, mol: Any) -> float:
        if mol.GetNumAtoms() == 0:
            raise ValueError("the molecule has no heavy atom")
        return float(scorer().calculateScore(mol))


@lru_cache(1)
def scorer() -> Any:
    """Return RDKit's ``sascorer`` module.

    Raises:
        GraftError: RDKit was installed without its Contrib.
    """
    path = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    spec = importlib.util.spec_from_file_location("sascorer", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise GraftError(f"the SA score needs RDKit's Contrib folder, but there is no {path}: install RDKit with it")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
