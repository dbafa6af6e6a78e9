"""Shares of molecules whose bonds are read from positions: graft, RDKit's DetermineBonds and OpenBabel.

``python tests/benchmarks/bonds.py FILE.sdf.gz [--noise 0.05] [--limit 40] [--seconds 10]``

graft gets the heavy atoms with their hydrogens and charges as types. The others get all atoms and the total charge.
OpenBabel takes part where the package ``openbabel-wheel`` is installed.
"""

import argparse
import gzip
import signal
import time

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from domains.molecules.builder import build
from domains.molecules.chemistry import molecule_key
from domains.molecules.vocabulary import DRUG_LIKE, NodeType

try:
    from openbabel import openbabel, pybel
except ImportError:
    pybel = None


def by_graft(mol, x):
    heavy = [atom for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    kinds = [NodeType.of(atom) for atom in heavy]
    if not set(kinds) <= set(DRUG_LIKE.index):
        return ""
    types = np.array([[DRUG_LIKE.index[kind] for kind in kinds]])
    return molecule_key(build(types, x[None, [atom.GetIdx() for atom in heavy]], np.array([len(heavy)]), DRUG_LIKE)[0])


def block(mol, x):
    lines = [f"{atom.GetSymbol()} {a:.4f} {b:.4f} {c:.4f}" for atom, (a, b, c) in zip(mol.GetAtoms(), x, strict=True)]
    return f"{len(lines)}\n\n" + "\n".join(lines) + "\n"


def by_rdkit(mol, x):
    bare = Chem.MolFromXYZBlock(block(mol, x))
    rdDetermineBonds.DetermineBonds(bare, charge=Chem.GetFormalCharge(mol))
    return molecule_key(bare)


def by_openbabel(mol, x):
    found = pybel.readstring("xyz", block(mol, x))
    found.OBMol.SetTotalCharge(Chem.GetFormalCharge(mol))
    parsed = Chem.MolFromSmiles(found.write("can").split()[0])
    return molecule_key(parsed) if parsed is not None else ""


def bounded(function, seconds, *args):
    def stop(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return function(*args)
    except Exception:
        return ""
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation of noise on positions, Å")
    parser.add_argument("--limit", type=int, default=40, help="largest number of heavy atoms")
    parser.add_argument("--seconds", type=float, default=10.0, help="limit of one molecule")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    methods = {"graft": by_graft, "DetermineBonds": by_rdkit} | ({"OpenBabel": by_openbabel} if pybel else {})
    if pybel:
        openbabel.obErrorLog.SetOutputLevel(0)
    with gzip.open(args.file) as file, rdBase.BlockLogs():
        mols = [mol for mol in Chem.ForwardSDMolSupplier(file, removeHs=False) if mol is not None]
        mols = [mol for mol in mols if mol.GetNumHeavyAtoms() <= args.limit]
        same, spent = dict.fromkeys(methods, 0), dict.fromkeys(methods, 0.0)
        for mol in mols:
            x = mol.GetConformer().GetPositions()
            x = x + args.noise * rng.normal(size=x.shape)
            wanted = molecule_key(mol)
            for name, method in methods.items():
                start = time.perf_counter()
                same[name] += bounded(method, args.seconds, mol, x) == wanted
                spent[name] += time.perf_counter() - start
    for name in methods:
        print(f"{name:16} {same[name]} of {len(mols)} = {same[name] / len(mols):.4f}, {spent[name]:.1f} s")


if __name__ == "__main__":
    main()
