"""QM9 through torch_geometric, in EDM's split."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graft.errors import GraftError

MOLECULES = 130_831  # QM9 has 133,885; 3,054 did not keep their bonds when their geometry was optimised
PARTS = {"train": (0, 100_000), "valid": (100_000, 117_748), "test": (117_748, 130_831)}

SIZES = {3: 1, 4: 4, 5: 5, 6: 9, 7: 16, 8: 49, 9: 124, 10: 362, 11: 807, 12: 1689, 13: 3060, 14: 5136, 15: 7796,
         16: 10644, 17: 13025, 18: 13364, 19: 13832, 20: 9482, 21: 9970, 22: 3393, 23: 4848, 24: 539, 25: 1506, 26: 48,
         27: 266, 29: 25}  # fmt: skip
"""Number of molecules of EDM's training part by number of atoms, hydrogens included."""


def edm_split(part: str) -> NDArray[np.int64]:
    """Return the positions in QM9 of the molecules of a part of EDM's split."""
    first, end = PARTS[part]
    return np.random.RandomState(0).permutation(MOLECULES)[first:end]


def read_qm9(part: str, root: str) -> "list[tuple[NDArray[Any], NDArray[Any]]]":
    """Return (atomic numbers (n,), positions (n, 3) Å) of each molecule of a part.

    Args:
        part: ``train``, ``valid`` or ``test``.
        root: Folder that QM9 is downloaded to the first time.

    Raises:
        GraftError: There is no such part, or QM9 cannot be downloaded or read.
    """
    if part not in PARTS:
        raise GraftError(f"QM9 has no part {part!r}: give qm9:train, qm9:valid or qm9:test")
    from torch_geometric import datasets

    try:
        found = datasets.QM9(root)
    except Exception as error:  # the network, the archive and RDKit raise errors of their own
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise GraftError(
            f"QM9 cannot be downloaded or read ({first}): go online once, or give the path of EDM's .npz files"
        ) from None
    if len(found) != MOLECULES:
        raise GraftError(f"QM9 in {root} has {len(found)} molecules where EDM's split needs {MOLECULES}: remove it")
    chosen = (found[int(i)] for i in edm_split(part))
    return [(mol.z.numpy(), mol.pos.double().numpy()) for mol in chosen]
