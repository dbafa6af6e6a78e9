"""A library of fragments: the parts of larger molecules that medicinal chemists grow, link and merge.

A molecule is cut at its BRICS bonds (Degen et al. 2008). Each connected union of the pieces that has a fitting size is
a fragment; hydrogens take the places of the cuts. Fragments of drug-like molecules have their rings, linkers and
functional groups at a size that a small network learns.

Run ``python -m domains.molecules.fragment_library MOLECULES.smi.gz FRAGMENTS.smi`` to write a library.
"""

import argparse
import os
import random
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from rdkit import Chem, rdBase
from rdkit.Chem import BRICS

from domains.molecules import records
from graft.core.progress import progress
from graft.errors import GraftError
from graft.io.atomic import write_text

MOST_PIECES = 6  # pieces of a union: molecules of more pieces have thousands of unions
CHUNK = 2000  # molecules of a task of a process
_REACTIVE = [Chem.MolFromSmarts(smarts) for smarts in ("[CX3;!H0]=O", "[S;!H0]=O")]
"""Groups that a cut leaves and that no chemist keeps: aldehydes and formamides, sulfinic acids."""


def fragments(smiles: str, low: int = 8, high: int = 16) -> list[str]:
    """Return the sorted canonical SMILES of the fragments of a molecule, without stereochemistry.

    The molecule itself is one of them if its size fits.

    Args:
        smiles: Molecule; an unreadable one has no fragments.
        low: Smallest number of heavy atoms of a fragment.
        high: Largest number of heavy atoms of a fragment.
    """
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
        if mol is None:
            return []
        cuts = [tuple(bond) for bond, _ in BRICS.FindBRICSBonds(mol)]  # type: ignore[no-untyped-call]
        broken = Chem.RWMol(mol)
        for a, b in cuts:
            broken.RemoveBond(a, b)
        piece = {atom: i for i, atoms in enumerate(Chem.GetMolFrags(broken)) for atom in atoms}
        sizes = [list(piece.values()).count(i) for i in range(len(set(piece.values())))]
        near: dict[int, set[int]] = {i: set() for i in range(len(sizes))}
        for a, b in cuts:
            near[piece[a]].add(piece[b])
            near[piece[b]].add(piece[a])
        found = {_union(mol, piece, union) for union in _unions(sizes, near, low, high)}
    return sorted(found - {""})


def _unions(sizes: list[int], near: dict[int, set[int]], low: int, high: int) -> set[frozenset[int]]:
    """Return the connected sets of at most `MOST_PIECES` pieces with a fitting number of atoms."""
    seen = {frozenset([i]) for i, size in enumerate(sizes) if size <= high}
    queue = list(seen)
    while queue:
        union = queue.pop()
        if len(union) == MOST_PIECES:
            continue
        for i in {j for k in union for j in near[k]} - union:
            larger = union | {i}
            if larger not in seen and sum(sizes[k] for k in larger) <= high:
                seen.add(larger)
                queue.append(larger)
    return {union for union in seen if sum(sizes[k] for k in union) >= low}


def _union(mol: Chem.Mol, piece: dict[int, int], union: frozenset[int]) -> str:
    """Return the SMILES of some pieces with hydrogens in the places of the cuts, "" if it is no molecule."""
    part = Chem.RWMol(mol)
    for bond in list(mol.GetBonds()):
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        inside = [piece[end] in union for end in ends]
        if sum(inside) == 1:  # the atom that stays gets a hydrogen; only [nH] needs an explicit one
            atom = part.GetAtomWithIdx(ends[inside.index(True)])
            if atom.GetNoImplicit() or (atom.GetIsAromatic() and atom.GetAtomicNum() == 7):
                atom.SetNumExplicitHs(atom.GetNumExplicitHs() + 1)
    part.BeginBatchEdit()
    for index, i in piece.items():
        if i not in union:
            part.RemoveAtom(index)
    part.CommitBatchEdit()
    if Chem.SanitizeMol(part, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        return ""
    if any(part.HasSubstructMatch(pattern) for pattern in _REACTIVE):
        return ""
    return str(Chem.MolToSmiles(part, isomericSmiles=False))


def _of_chunk(chunk: list[str], low: int, high: int) -> list[str]:
    return sorted({fragment for smiles in chunk for fragment in fragments(smiles, low, high)})


def library(molecules: Iterable[str], low: int, high: int, processes: int = 1) -> set[str]:
    """Return the distinct fragments of many molecules; arguments as of `fragments`."""
    found: set[str] = set()
    lines = iter(molecules)
    chunks = iter(lambda: list(islice(lines, CHUNK)), [])
    with progress("fragments", None, "molecule") as bar:
        if processes == 1:
            for chunk in chunks:
                found.update(_of_chunk(chunk, low, high))
                bar.update(len(chunk))
            return found
        of_chunk = partial(_of_chunk, low=low, high=high)
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            for part in pool.map(of_chunk, chunks):
                found.update(part)
                bar.update(CHUNK)
    return found


def main(arguments: "list[str] | None" = None) -> None:
    """Write a library of fragments, in random order."""
    parser = argparse.ArgumentParser(
        prog="python -m domains.molecules.fragment_library", description=main.__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "molecules", type=Path, help="SMILES file (.smi) or table (.csv, .tsv, .txt), with or without .gz"
    )
    parser.add_argument("fragments", type=Path, help="SMILES file that is written")
    parser.add_argument("--low", type=int, default=8, help="smallest number of heavy atoms (default 8)")
    parser.add_argument("--high", type=int, default=16, help="largest number of heavy atoms (default 16)")
    parser.add_argument("--molecules-used", type=int, help="number of molecules that are cut, chosen at random")
    parser.add_argument("--number", type=int, help="number of fragments that are kept, at random")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="processes (default: one a CPU)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order (default 0)")
    args = parser.parse_args(arguments)
    if records.suffix(args.molecules) not in (".smi", *records.TABLES):
        raise GraftError(f"{args.molecules} must end in .smi, {', '.join(records.TABLES)}, or one of these and .gz")
    chosen = [record.title for record in records.read_records(args.molecules)]
    random.Random(args.seed).shuffle(chosen)
    found = sorted(library(chosen[: args.molecules_used], args.low, args.high, args.processes))
    if not found:
        raise GraftError(f"{args.molecules} has no molecule with fragments of {args.low} to {args.high} heavy atoms")
    random.Random(args.seed).shuffle(found)
    write_text(args.fragments, "".join(f"{smiles}\n" for smiles in found[: args.number]))
    print(f"{min(len(found), args.number or len(found))} of {len(found)} fragments in {args.fragments}")


if __name__ == "__main__":
    try:
        main()
    except GraftError as error:
        print(f"fragment_library: {error}", file=sys.stderr)
        sys.exit(2)
