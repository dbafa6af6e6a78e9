"""Bonds by EDM's table of lengths, the metric of molecules with explicit hydrogens (Hoogeboom et al., 2022).

The table knows H, C, N, O and F. It misreads aromatic six-rings: use `valence_bonds` for molecules that are kept.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Typical bond lengths in pm (single, double, triple) by atomic numbers, as used by EDM.
_LENGTHS: dict[tuple[int, int], tuple[int, ...]] = {
    (1, 1): (74,),
    (1, 6): (109,),
    (1, 7): (101,),
    (1, 8): (96,),
    (1, 9): (92,),
    (6, 6): (154, 134, 120),
    (6, 7): (147, 129, 116),
    (6, 8): (143, 120, 113),
    (6, 9): (135,),
    (7, 7): (145, 125, 110),
    (7, 8): (140, 121),
    (7, 9): (136,),
    (8, 8): (148, 121),
    (8, 9): (142,),
    (9, 9): (142,),
}
_MARGINS = (10, 5, 3)  # pm above the typical single, double, triple bond that still count as one


def _limits() -> NDArray[np.float64]:
    """Return (3, 10, 10) Å by order - 1 and atomic numbers: the largest length of such a bond.

    0 stands for no such bond.
    """
    limits = np.zeros((3, 10, 10))
    for (a, b), lengths in _LENGTHS.items():
        for k, length in enumerate(lengths):
            limits[k, a, b] = limits[k, b, a] = (length + _MARGINS[k]) / 100
    return limits


_LIMITS = _limits()


def bond_orders(elements: NDArray[Any], positions: NDArray[Any]) -> NDArray[np.int8]:
    """Return (B, N, N) symmetric bond orders, 0 to 3, by distance: EDM's strict and nested rule.

    Single if d < single + 10 pm, double if also d < double + 5 pm, triple if also d < triple + 3 pm.

    Args:
        elements: (B, N) atomic numbers of H, C, N, O, F; 0 is padding, which has no bonds.
        positions: (B, N, 3) Å.
    """
    batch, nodes = elements.shape
    orders = np.zeros((batch, nodes, nodes), np.int8)
    for start in range(0, batch, 1024):  # limits the memory of (B, N, N) doubles
        part = slice(start, start + 1024)
        # Differences of positions: the Gram matrix loses digits, which decide near the limits.
        x = positions[part].astype(np.float64)
        distances = np.sqrt(np.square(x[:, :, None] - x[:, None]).sum(-1))
        rows, columns = elements[part, :, None], elements[part, None, :]
        for limit in _LIMITS:
            orders[part] += distances < limit[rows, columns]
    orders[:, np.arange(nodes), np.arange(nodes)] = 0
    return orders
