"""How near what grows around a kept fragment is to the distribution that it should have.

    python tests/benchmarks/molecule_fragment.py [--samples 1000] [--drawn 20000]

The fragment is the ring of cyclopropane, the model the shipped reference with 8 atoms. Rejection gives the exact
distribution: of many free samples those are kept in which three carbons are bonded to each other, once for
each such ring; they follow the conditional, but for the ring's bonds, which there have the lengths that the model gives
them. Compared is the distribution of the ring's surroundings: the sorted numbers of hydrogens of its carbons, and the
elements that are bonded to it.
"""

import argparse
import tempfile
import time
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from molecule_samples import sample
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from domains.molecules.chemistry import is_connected, is_stable, is_valid
from graft.cli import load

NODES = "--model.sizes=8"


def rings(mol: Any) -> list[tuple[int, ...]]:
    """The triples of carbons with three single bonds between them."""
    carbons = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() == 6]

    def single(i: int, j: int) -> bool:
        bond = mol.GetBondBetweenAtoms(i, j)
        return bond is not None and bond.GetBondTypeAsDouble() == 1

    return [ring for ring in combinations(carbons, 3) if all(single(*pair) for pair in combinations(ring, 2))]


def surroundings(mol: Any, ring: tuple[int, ...]) -> dict[str, str]:
    atoms = [mol.GetAtomWithIdx(i) for i in ring]
    neighbours = sorted(n.GetSymbol() for atom in atoms for n in atom.GetNeighbors() if n.GetIdx() not in ring)
    return {
        "hydrogens": "".join(map(str, sorted(atom.GetTotalNumHs() for atom in atoms))),
        "neighbours": "".join(neighbours),
    }


def good(mol: Any) -> bool:
    return bool(is_stable(mol) and is_connected(mol) and is_valid(mol))


def apart(first: list[str], second: list[str]) -> float:
    """Total variation distance of two samples."""
    one, two = Counter(first), Counter(second)
    return sum(abs(one[k] / len(first) - two[k] / len(second)) for k in one | two) / 2


def floor(pool: list[str], first: int, second: int, repeats: int = 200) -> float:
    """The mean distance of two samples of one distribution, of so many each."""
    rng, values = np.random.default_rng(0), np.array(pool)
    return float(
        np.mean([apart(list(rng.choice(values, first)), list(rng.choice(values, second))) for _ in range(repeats)])
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--drawn", type=int, default=20000)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    free, _, _ = load("domains/molecule.yaml", NODES)
    began, drawn = time.process_time(), sample(free, flags.drawn, 0, purpose="b")
    exact = [(mol, ring) for mol in drawn for ring in rings(mol)]
    share = sum(good(mol) for mol, _ in exact) / len(exact)
    print(
        f"free: {len(exact)} rings in {flags.drawn} samples, {share:.3f} good, {time.process_time() - began:.0f} CPU s"
    )
    print("| surroundings | good | hydrogens: distance (floor) | neighbours: distance (floor) | CPU s |")
    print("|---|---|---|---|---|")
    mol = Chem.AddHs(Chem.MolFromSmiles("C1CC1"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ring.sdf"
        with Chem.SDWriter(str(path)) as writer:
            writer.write(mol)
        for repeats in (1, 4, 10):
            module, _, _ = load(
                "domains/molecule.yaml", NODES, f"--model.fragment={path}", f"--model.resample={repeats}"
            )
            began, made = time.process_time(), sample(module, flags.samples, 1, purpose="b")
            kept = [(mol, (0, 1, 2)) for mol in made]
            cells = []
            for what in ("hydrogens", "neighbours"):
                is_, should = ([surroundings(m, r)[what] for m, r in some if good(m)] for some in (kept, exact))
                cells.append(f"{apart(is_, should):.3f} ({floor(should, len(is_), len(should)):.3f})")
            share, spent = sum(map(good, made)) / len(made), time.process_time() - began
            print(f"| resample {repeats} | {share:.3f} | {' | '.join(cells)} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    main()
