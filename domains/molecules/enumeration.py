"""A training set without a download: small organic molecules.

They are enumerated as graphs and embedded in 3-D by RDKit.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from domains.molecules.builder import BOND_TYPES
from domains.molecules.vocabulary import VALENCES
from graft.core.progress import progress as progress_bar

_C, _N, _O, _F = 6, 7, 8, 9
# Highest bond order of each pair of elements. O-O, N-F, O-F and F-F have no bonds.
_MOST = {(_C, _C): 3, (_C, _N): 3, (_C, _O): 2, (_C, _F): 1, (_N, _N): 1, (_N, _O): 1}
_MOST |= {(b, a): most for (a, b), most in _MOST.items()}

# Groups that a finished molecule must not have. Growth allows them, since a further bond may remove them.
_UNSTABLE = [
    Chem.MolFromSmarts(smarts)
    for smarts in (
        "[CX4]([OX2H,NX3;!H0])[#7,#8,F]",  # hydroxyl or amine next to another heteroatom: hemiacetals, aminals
        "[C;!a]=[C;!a][OX2H,NX3;!H0]",  # enols and enamines, tautomers of other molecules
        "C#C[#7,#8,F]",  # ynols, ynamines
        "O=C([OX2H])[#7,#8,F]",  # carbamic and carbonic acids
        "[NX3;!H0][NX3;!H0]",  # hydrazines free at both ends
        "[CX3]([#7,#8,F])([#7,#8,F])=[NX2H]",  # tautomers of ureas and carbamates
        "[OX2H]C=[NX2]",  # imidic acids, tautomers of amides
        "[CX3;!$(C[#7,#8,F])]=[NX2H]",  # imines free at the nitrogen hydrolyse
        "[CX4](F)[#7,#8]",  # fluorine next to a lone pair leaves
        "C(=O)F",  # acyl fluorides hydrolyse
        "[NX3;!$(NC=O)][OX2H]",  # hydroxylamines
    )
]

Graph = tuple[tuple[int, ...], dict[tuple[int, int], int]]
"""Atomic numbers, and the order of each bond (first atom < second atom)."""


def enumerate_molecules(max_heavy_atoms: int = 7) -> list[str]:
    """Return canonical SMILES of small organic molecules of C, N, O and F; deterministic.

    The molecules are sorted by size and then by alphabet. Trees of single bonds are grown atom by atom; then bond
    orders are raised and rings closed one bond at a time.

    Left out are bonds between heteroatoms other than N-N and N-O, chains of three heteroatoms, cumulenes, double bonds
    in rings of 3 and 4, triple bonds in rings, more than two rings, small rings fused to small rings, double bonds at
    bridgeheads, more heteroatoms than carbons, and groups that tautomerise or decompose.
    """
    atoms: list[Graph] = [((z,), {}) for z in (_C, _N, _O, _F)]
    trees = {_name(atom): atom for atom in atoms}
    found: list[str] = []
    for size in range(1, max_heavy_atoms + 1):
        graphs = dict(trees)
        queue = list(trees.values())
        while queue:
            for graph in _bonded(queue.pop()):
                name = _name(graph)
                if name not in graphs:
                    graphs[name] = graph
                    queue.append(graph)
        found += sorted({_smiles(graph) for graph in graphs.values()} - {""})
        if size < max_heavy_atoms:
            trees = {_name(larger): larger for tree in trees.values() for larger in _grown(tree)}
    return found


def _free(graph: Graph) -> list[int]:
    free = [VALENCES[z, 0][0] for z in graph[0]]
    for (a, b), order in graph[1].items():
        free[a] -= order
        free[b] -= order
    return free


def _neighbours(graph: Graph, atom: int) -> list[int]:
    return [b if a == atom else a for a, b in graph[1] if atom in (a, b)]


def _hetero_chain(graph: Graph, atom: int) -> bool:
    """Return True if heteroatom ``atom`` or a neighbour of it is bound to two heteroatoms."""
    near = {i: [j for j in _neighbours(graph, i) if graph[0][j] != _C] for i in [atom, *_neighbours(graph, atom)]}
    return any(graph[0][i] != _C and len(hetero) > 1 for i, hetero in near.items())


def _grown(tree: Graph) -> Iterator[Graph]:
    """Yield trees with one more atom."""
    elements, bonds = tree
    for i, free in enumerate(_free(tree)):
        for z in (_C, _N, _O, _F):
            if free and (elements[i], z) in _MOST:
                larger = ((*elements, z), {**bonds, (i, len(elements)): 1})
                if z == _C or not _hetero_chain(larger, len(elements)):
                    yield larger


def _bonded(graph: Graph) -> Iterator[Graph]:
    """Yield graphs with one bond raised by one order or one ring closed.

    Graphs that no further bond can make stable are left out.
    """
    elements, bonds = graph
    free = _free(graph)
    for b in range(len(elements)):
        for a in range(b):
            order = bonds.get((a, b), 0) + 1
            if free[a] and free[b] and order <= _MOST.get((elements[a], elements[b]), 0):
                if order == 1 and len(bonds) - len(elements) + 1 == 2:
                    continue  # a molecule has at most two rings
                larger = (elements, {**bonds, (a, b): order})
                if order == 1 and (elements[a] != _C or elements[b] != _C) and _hetero_chain(larger, a):
                    continue
                if not _cumulated(larger, a) and not _cumulated(larger, b) and not _strained(larger):
                    yield larger


def _cumulated(graph: Graph, atom: int) -> bool:
    return sum(order > 1 for pair, order in graph[1].items() if atom in pair) > 1


def _strained(graph: Graph) -> bool:
    elements, bonds = graph
    if len(bonds) < len(elements):
        return False
    mol = _mol(graph)
    Chem.GetSymmSSSR(mol)
    rings = [set(ring) for ring in mol.GetRingInfo().AtomRings()]
    for (a, b), order in bonds.items():
        for ring in rings:
            if a in ring and b in ring:
                most = 2 if len(ring) > 4 else 1
            else:
                most = 1 if len(ring) == 3 and (a in ring or b in ring) else 3
            if order > most:
                return True
    for i, first in enumerate(rings):
        for second in rings[:i]:
            shared = first & second
            if len(shared) > 1 and len(first) < 5 and len(second) < 5:
                return True
            if len(shared) > 2:  # bridged rings: the ends of the shared path are bridgeheads
                both = first | second
                heads = [x for x in shared if sum(y in both for y in _neighbours(graph, x)) > 2]
                if any(order > 1 and (a in heads or b in heads) for (a, b), order in bonds.items()):
                    return True
    return False


def _mol(graph: Graph) -> Any:
    mol = Chem.RWMol()
    for z in graph[0]:
        mol.AddAtom(Chem.Atom(z))
    for (a, b), order in graph[1].items():
        mol.AddBond(a, b, BOND_TYPES[order])
    mol.UpdatePropertyCache()
    return mol


def _name(graph: Graph) -> str:
    """Return a canonical name of the graph, without aromaticity.

    It takes less time than full sanitisation.
    """
    return str(Chem.MolToSmiles(_mol(graph)))


def _smiles(graph: Graph) -> str:
    """Return canonical SMILES, "" for a molecule that is left out."""
    elements = graph[0]
    if 2 * sum(z != _C for z in elements) > len(elements):
        return ""
    mol = _mol(graph)
    Chem.SanitizeMol(mol)
    return "" if any(mol.HasSubstructMatch(pattern) for pattern in _UNSTABLE) else str(Chem.MolToSmiles(mol))


def embed_enumerated(smiles: Iterable[str], seed: int = 0, progress: bool = True) -> "dict[str, NDArray[Any]]":
    """Return one 3-D structure of each molecule, by ETKDG and then MMFF94; deterministic.

    Hydrogens are included.

    Args:
        smiles: Molecules. A molecule that cannot be embedded, or that MMFF94 has no parameters for, is left out.
        seed: Seed of ETKDG's random start.
        progress: Show a progress bar.

    Returns:
        Arrays as in a QM9 file: ``num_atoms`` (M,), ``charges`` (M, N) atomic numbers with 0 as padding, ``positions``
        (M, N, 3) float32 Å with zero centre of mass, and ``smiles`` (M,).
    """
    kept: list[tuple[str, NDArray[Any], NDArray[Any]]] = []
    todo = list(smiles)
    with rdBase.BlockLogs(), progress_bar("embedding", len(todo), "molecule", not progress) as bar:
        for text in todo:
            bar.update()
            mol = Chem.AddHs(Chem.MolFromSmiles(text))
            if (
                rdDistGeom.EmbedMolecule(mol, randomSeed=seed) == 0
                and rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=500) == 0
            ):
                x = mol.GetConformer().GetPositions()
                kept.append((text, np.array([a.GetAtomicNum() for a in mol.GetAtoms()]), x - x.mean(0)))
    counts = np.array([len(z) for _, z, _ in kept])
    charges = np.zeros((len(kept), counts.max()), np.int64)
    positions = np.zeros((*charges.shape, 3), np.float32)
    for i, (_, z, x) in enumerate(kept):
        charges[i, : len(z)], positions[i, : len(z)] = z, x
    return {
        "num_atoms": counts,
        "charges": charges,
        "positions": positions,
        "smiles": np.array([k for k, _, _ in kept]),
    }
