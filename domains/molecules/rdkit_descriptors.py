"""Descriptors of `rdkit.Chem.Descriptors` by name."""

from collections.abc import Callable
from typing import Any

from rdkit.Chem import Descriptors

from graft.errors import GraftError

DESCRIPTORS: dict[str, Callable[[Any], float]] = dict(Descriptors.descList)


def find_descriptor(name: str) -> Callable[[Any], float]:
    """Return the function of a molecule that RDKit calls ``name``.

    Raises:
        GraftError: RDKit has no such descriptor.
    """
    if name not in DESCRIPTORS:
        near = sorted(known for known in DESCRIPTORS if name.lower() in known.lower()) or ["MolWt", "FractionCSP3"]
        raise GraftError(f"RDKit has no descriptor {name!r}: give one such as {', '.join(near[:5])}")
    return DESCRIPTORS[name]
