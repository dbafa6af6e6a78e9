"""QM9 through torch_geometric, in EDM's split."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graft.errors import GraftError

MOLECULES = 130_831  # of QM9's 133,885 without the 3,054 whose geometry did not converge to the molecule they were
PARTS = {"train": (0, 100_000), "valid": (100_000, 117_748), "test": (117_748, 130_831)}

SIZES = {3: 1, 4: 4, 5: 5, 6: 9, 7: 16, 8: 49, 9: 124, 10: 362, 11: 807, 12: 1689, 13: 3060, 14: 5136, 15: 7796,
         16: 10644, 17: 13025, 18: 13364, 19: 13832, 20: 9482, 21: 9970, 22: 3393, 23: 4848, 24: 539, 25: 1506, 26: 48,
         27: 266, 29: 25}  # fmt: skip
"""Molecules of EDM's training part by their number of atoms, hydrogens included: what samples of QM9 are drawn with."""


def split(part: str) -> NDArray[np.int64]:
    """Positions, among QM9's molecules in their order, of a part of EDM's split: ``train``, ``valid`` or ``test``."""
    first, end = PARTS[part]
    return np.random.RandomState(0).permutation(MOLECULES)[first:end]


def read(part: str, root: str) -> "list[tuple[NDArray[Any], NDArray[Any]]]":
    """(atomic numbers (n,), positions (n, 3) Å) of the molecules of a part, downloaded to ``root`` the first time.

    Raises:
        GraftError: There is no such part, or QM9 cannot be had.
    """
    if part not in PARTS:
        raise GraftError(f"QM9 has no part {part!r}: give qm9:train, qm9:valid or qm9:test")
    from torch_geometric import datasets

    try:
        found = datasets.QM9(root)
    except Exception as error:  # of the network, of an archive, of RDKit
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise GraftError(
            f"QM9 cannot be downloaded or read ({first}): go online once, or give the path of EDM's .npz files"
        ) from None
    if len(found) != MOLECULES:
        raise GraftError(f"QM9 in {root} has {len(found)} molecules where EDM's split needs {MOLECULES}: remove it")
    chosen = (found[int(i)] for i in split(part))
    return [(mol.z.numpy(), mol.pos.double().numpy()) for mol in chosen]
