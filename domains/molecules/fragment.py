"""A fragment that is fixed in 3-D while the rest of a molecule is generated around it.

In every estimate of x_0 of a sampler step the fragment's heavy atoms have their type and their shape (replacement in
the estimate, as in the inpainting of Lugmayr et al. 2022; resampling makes the two parts fit). In the end they are
exact.

Attachment points (atoms ``*`` of an SDF file) say where the rest grows: only their neighbours get further bonds, and
all atoms keep their hydrogens. Without attachment points any atom of the fragment may lose hydrogens to the rest.

The distribution of the rest is only approximately the conditional one; more resamplings bring it closer. The benchmark
``tests/benchmarks/molecule_fragment.py`` measures the difference.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from domains.molecules import records
from domains.molecules.bond_check import first_bond_mismatch
from domains.molecules.vocabulary import Vocabulary
from graft.core.state import Condition, State
from graft.errors import GraftError
from graft.io.paths import find_file

NEVER = -30.0  # logit of the other types


@dataclass
class Fragment:
    """Heavy atoms at fixed positions.

    Attributes:
        elements: (k,) int64 atomic numbers.
        positions: (k, 3) float64 Å, as in the file.
        allowed: (k, types) True where a node may have a type of the vocabulary.
    """

    elements: Tensor
    positions: Tensor
    allowed: Tensor

    def __len__(self) -> int:
        return len(self.elements)

    def identity(self) -> Any:
        """Return elements, positions and types, for `graft.io.fingerprint.fingerprint`."""
        return [self.elements.tolist(), self.positions.tolist(), self.allowed.tolist()]


def read_fragment(path: str, vocabulary: Vocabulary) -> Fragment:
    """Return the heavy atoms of the first record of an SDF or XYZ file.

    Args:
        path: Path of the file.
        vocabulary: Vocabulary of the model's nodes.

    Raises:
        GraftError: The file has no usable record, an atom has no type, or the positions give other bonds than the file.
    """
    file = find_file(path)
    if file.suffix.lower() not in (".sdf", ".xyz"):
        raise GraftError(f"a fragment is read from an .sdf or .xyz file with a 3-D structure, not from {path}")
    record = next(records.read_records(file), None)
    mol, why = record.parsed() if record is not None else (None, "no record")
    if mol is None:
        raise GraftError(f"the fragment in {path} cannot be used: {why}")
    points = [atom for atom in mol.GetAtoms() if atom.GetAtomicNum() == 0]
    if points and vocabulary.explicit:
        raise GraftError(
            f"the fragment in {path} has attachment points, which the convention with explicit hydrogens has no types "
            "for: remove them, or take a model of heavy atoms"
        )
    heavy = [atom for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    elements = np.array([atom.GetAtomicNum() for atom in heavy])
    allowed = np.array([_allowed(atom, bool(points), mol.GetNumBonds() > 0, vocabulary) for atom in heavy])
    if not len(heavy) or not allowed.any(1).all():
        raise GraftError(
            f"the fragment in {path} must be of {', '.join(dict.fromkeys(vocabulary.symbols))}, with hydrogens and "
            f"charges of the model's types ({', '.join(vocabulary.names)}), and has {_formula(heavy)}"
        )
    indices = [atom.GetIdx() for atom in heavy]
    bond = first_bond_mismatch(mol, indices, vocabulary)
    if bond is not None:  # no molecule with such a bond is stable, or the bond is another one in all samples
        raise GraftError(
            f"in the fragment in {path} {bond.ends} are {bond.distance:.2f} Å apart, which is {bond.found} where the "
            f"file has {bond.given}: give it another geometry"
        )
    x = mol.GetConformer().GetPositions()[indices]
    return Fragment(torch.from_numpy(elements), torch.from_numpy(x), torch.from_numpy(allowed))


def _allowed(atom: Any, points: bool, bonds: bool, vocabulary: Vocabulary) -> list[bool]:
    """Return for each type of the vocabulary whether a node of the fragment may have it.

    Args:
        atom: Atom of the fragment.
        points: The fragment has attachment points, so that every atom keeps its hydrogens.
        bonds: The file has bonds, which limit the number of hydrogens.
        vocabulary: Vocabulary of the types.
    """
    element, charge = atom.GetAtomicNum(), atom.GetFormalCharge()
    most = atom.GetTotalNumHs(includeNeighbors=True)
    return [
        kind.element == element
        and (
            vocabulary.explicit
            or (kind.charge == charge and (kind.hydrogens == most if points else not bonds or kind.hydrogens <= most))
        )
        for kind in vocabulary.kinds
    ]


def _formula(atoms: "list[Any]") -> str:
    return ", ".join(sorted({str(atom.GetSymbol()) for atom in atoms})) or "no heavy atom"


def fragment_condition(fragment: Fragment, atoms: int, count: int) -> "dict[str, Tensor]":
    """Return the condition that fixes the fragment as the first nodes of each sample.

    ``kept`` (count, atoms) is 1 for a fixed node, ``kept_x`` (count, atoms, 3) are Å around the centre of the fixed
    nodes, ``kept_types`` (count, atoms, types) 1 where a node may have a type.
    """
    k = len(fragment)
    x, allowed = torch.zeros(atoms, 3), torch.ones(atoms, fragment.allowed.shape[1])
    x[:k], allowed[:k] = (fragment.positions - fragment.positions.mean(0)).float(), fragment.allowed.float()
    kept = (torch.arange(atoms) < k).float()
    return {"kept": kept.repeat(count, 1), "kept_x": x.repeat(count, 1, 1), "kept_types": allowed.repeat(count, 1, 1)}


def constrain(output: dict[str, Tensor], condition: Condition) -> State:
    """Return estimates of x_0 and logits of the types with the fragment in them.

    The fragment lies at the centre of the estimate of its nodes.
    """
    kept = condition["kept"][..., None].to(output["x"])
    # the fixed nodes keep their centre, so that the centre of the whole sample stays zero
    shift = ((output["x"] - condition["kept_x"]) * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True)
    other = condition["kept_types"] == 0
    return {
        "x": torch.where(kept > 0, condition["kept_x"] + shift, output["x"]),
        "h": output["h"].masked_fill(other, NEVER),
    }


def align_to_fragment(x: Tensor, fragment: Fragment) -> Tensor:
    """Return (B, N, 3) positions moved to the place of the fragment in its file.

    The fixed nodes get exactly the file's positions.
    """
    k = len(fragment)
    moved = x + (fragment.positions - x[:, :k]).mean(1, keepdim=True)
    moved[:, :k] = fragment.positions
    return moved
