"""How like drugs generated molecules are: shares, distributions against held-out molecules, PoseBusters, FCD.

``python tests/benchmarks/drug_like.py SAMPLES.sdf HELD_OUT.smi [--train TRAIN.smi] [--poses 500]``

``SAMPLES.sdf`` is what ``graft sample --out`` writes: all samples, valid or not. Distances are total variations between
the valid and connected samples and the held-out molecules; those of two halves of the held-out molecules are the floor.
PoseBusters and FCD take part where the packages ``posebusters`` and ``fcd`` are installed.
"""

import argparse
import collections
import random

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import QED, rdMolDescriptors

from domains.molecules.chemistry import is_connected, is_valid, molecule_key


def rings(mol):
    return [len(ring) for ring in mol.GetRingInfo().AtomRings()]


DESCRIPTORS = {
    "aromatic rings": lambda mol: [rdMolDescriptors.CalcNumAromaticRings(mol)],
    "ring sizes": rings,
    "rings": lambda mol: [len(rings(mol))],
    "elements": lambda mol: [atom.GetSymbol() for atom in mol.GetAtoms()],
    "heavy atoms": lambda mol: [mol.GetNumHeavyAtoms()],
}


def total_variation(first, second, of):
    counts = [collections.Counter(value for mol in mols for value in of(mol)) for mols in (first, second)]
    shares = [{value: n / max(1, sum(count.values())) for value, n in count.items()} for count in counts]
    return sum(abs(shares[0].get(value, 0) - shares[1].get(value, 0)) for value in {*shares[0], *shares[1]}) / 2


def read_smiles(path):
    with open(path, encoding="utf-8") as file, rdBase.BlockLogs():
        mols = [Chem.MolFromSmiles(line.split()[0]) for line in file if line.strip()]
    return [mol for mol in mols if mol is not None]


def read_samples(path):
    """Return all samples of a file, with graft's validity; RDKit alone would accept radicals."""
    with rdBase.BlockLogs():
        for mol in Chem.SDMolSupplier(str(path), sanitize=False, removeHs=False):
            flagged = mol is not None and mol.HasProp("valid") and bool(int(mol.GetProp("valid")))
            yield mol if flagged and is_valid(mol) and is_connected(mol) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples")
    parser.add_argument("held_out")
    parser.add_argument("--train", help="SMILES that the model was trained on, for novelty")
    parser.add_argument("--poses", type=int, default=500, help="valid samples that PoseBusters checks")
    args = parser.parse_args()
    samples = list(read_samples(args.samples))
    good = [Chem.MolFromSmiles(molecule_key(mol)) for mol in samples if mol is not None]
    keys = {molecule_key(mol) for mol in good}
    held = read_smiles(args.held_out)
    random.Random(0).shuffle(held)
    halves = held[::2], held[1::2]
    print(f"samples                  {len(samples)}")
    print(f"valid and connected      {len(good) / len(samples):.4f}")
    print(f"unique of these          {len(keys) / max(1, len(good)):.4f}")
    if args.train:
        known = {molecule_key(mol) for mol in read_smiles(args.train)}
        print(f"novel of the unique      {len(keys - known) / max(1, len(keys)):.4f}")
    for name, mols in (("samples", good), ("held out", held)):
        aromatic = np.mean([rdMolDescriptors.CalcNumAromaticRings(mol) > 0 for mol in mols])
        print(f"{name:24} aromatic {aromatic:.3f}, mean QED {np.mean([QED.qed(mol) for mol in mols]):.3f}")
    for name, of in DESCRIPTORS.items():
        near, floor = total_variation(good, held, of), total_variation(*halves, of)
        print(f"total variation {name:16} {near:.3f} (two halves of the held-out set {floor:.3f})")
    try:
        from posebusters import PoseBusters
    except ImportError:
        print("PoseBusters is not installed")
    else:
        whole = [Chem.AddHs(mol, addCoords=True) for mol in samples if mol is not None][: args.poses]
        for mol in whole:
            Chem.SanitizeMol(mol)
        checks = PoseBusters("mol").bust(whole)
        print(f"PoseBusters              {checks.all(axis=1).mean():.4f} of {len(whole)} pass all checks")
        for name, share in checks.mean().sort_values().items():
            if share < 1:
                print(f"  {name:40} {share:.4f}")
    try:
        from fcd import get_fcd, load_ref_model
    except ImportError:
        print("fcd is not installed")
    else:
        model = load_ref_model()
        texts = [[Chem.MolToSmiles(mol) for mol in mols] for mols in (good, held, *halves)]
        near, floor = get_fcd(texts[0], texts[1], model), get_fcd(texts[2], texts[3], model)
        print(f"FCD                      {near:.3f} (two halves of the held-out set {floor:.3f})")


if __name__ == "__main__":
    main()
