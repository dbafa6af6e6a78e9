"""Bonds of heavy atoms: distances determine which atoms are bonded, valences determine the bond orders.

Two atoms are bonded if they are at most `MARGIN` farther apart than a single bond. Hydrogens and charges come with the
types of the nodes. What the valence of an atom has left is spent on double and triple bonds: a matching in which each
atom takes part as often as its valence demands. Unlike a table of lengths for each bond order, the rule does not
depend on hundredths of an Ångström, and it finds a Kekulé form of every aromatic system.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import networkx
import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

MARGIN = 0.3
"""Å beyond the sum of the covalent radii at which two atoms are still bonded.

The distance of bonded atoms exceeds that sum by less than 0.2 Å, the distance of atoms with a common neighbour by more
than 0.35 Å (bicyclo[1.1.1]pentane), and by 0.55 Å in most molecules.
"""

_RADII = np.array([0.0, *(Chem.GetPeriodicTable().GetRcovalent(z) for z in range(1, 119))])  # Å, Cordero et al. 2008
TRIPLE = 2  # largest number of further electron pairs of a bond


class Completed(NamedTuple):
    """Bonds of a molecule.

    Attributes:
        orders: Order of each bond, in the order of the given pairs.
        leftover: For each atom the electron pairs that found no partner; negative if the atom has too many bonds.
    """

    orders: list[int]
    leftover: list[int]


def connections(elements: NDArray[Any], positions: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return the bonded pairs of a batch: molecule, first atom, second atom and relative length, each (P,).

    The relative length is the distance over the sum of the covalent radii.

    Args:
        elements: (B, N) atomic numbers; 0 is padding, which has no bonds.
        positions: (B, N, 3) Å.
    """
    found: list[tuple[NDArray[Any], ...]] = []
    first, second = np.triu_indices(elements.shape[1], 1)
    for start in range(0, len(elements), 256):  # limits the memory of (B, P, 3) differences
        z, x = elements[start : start + 256], positions[start : start + 256].astype(np.float64)
        distance = np.linalg.norm(x[:, first] - x[:, second], axis=-1)
        radii = _RADII[z[:, first]] + _RADII[z[:, second]]
        there = (z[:, first] > 0) & (z[:, second] > 0)
        molecule, pair = np.nonzero((distance < radii + MARGIN) & there)
        found.append((molecule + start, first[pair], second[pair], distance[molecule, pair] / radii[molecule, pair]))
    if not found:
        none = np.zeros(0, np.int64)
        return none, none, none, np.zeros(0)
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def connected(first: NDArray[Any], second: NDArray[Any], distance: NDArray[Any]) -> NDArray[np.bool_]:
    """Return True where atoms of two atomic numbers are bonded at a distance in Å."""
    bonded: NDArray[np.bool_] = distance < _RADII[first] + _RADII[second] + MARGIN
    return bonded


def complete(
    valences: Sequence[Sequence[int]], pairs: Sequence[tuple[int, int]], lengths: Sequence[float]
) -> Completed:
    """Return the orders of bonds that use up the valence of every atom, if there are such.

    Each atom first has the smallest valence that its bonds allow. Atoms with several valences (S, P) take a larger one
    if a neighbour is left with electrons. Among several solutions shorter bonds have the larger orders.

    Args:
        valences: Possible sums of bond orders of each atom, in ascending order.
        pairs: Bonded atoms.
        lengths: Relative length of each bond.
    """
    degree = [0] * len(valences)
    around: list[list[int]] = [[] for _ in valences]
    for bond, (i, j) in enumerate(pairs):
        degree[i] += 1
        degree[j] += 1
        around[i].append(bond)
        around[j].append(bond)
    options = [[v - d for v in found if v >= d] for found, d in zip(valences, degree, strict=True)]
    excess = [0 if left else min(0, max(found) - d) for left, found, d in zip(options, valences, degree, strict=True)]
    demand = [left[0] if left else 0 for left in options]
    extra, leftover = _match(demand, pairs, around, lengths)
    while any(leftover):
        raised = [
            i
            for i, left in enumerate(options)
            if left
            and demand[i] < left[-1]
            and any(leftover[pairs[bond][0] if pairs[bond][1] == i else pairs[bond][1]] for bond in around[i])
        ]
        for i in raised:
            larger = list(demand)
            larger[i] = next(value for value in options[i] if value > demand[i])
            again, rest = _match(larger, pairs, around, lengths)
            if sum(rest) < sum(leftover):
                demand, extra, leftover = larger, again, rest
                break
        else:
            break
    return Completed([1 + more for more in extra], [a or b for a, b in zip(leftover, excess, strict=True)])


def _match(
    demand: Sequence[int], pairs: Sequence[tuple[int, int]], around: Sequence[Sequence[int]], lengths: Sequence[float]
) -> tuple[list[int], list[int]]:
    """Return the further electron pairs of each bond, and those that each atom is left with."""
    left, extra = list(demand), [0] * len(pairs)
    _propagate(left, extra, pairs, around, range(len(left)))
    for component in _components(left, extra, pairs, around):
        start = {i: left[i] for i in component}
        bonds = {bond for i in component for bond in around[i] if set(pairs[bond]) <= component}
        before = {bond: extra[bond] for bond in bonds}
        for bond in sorted(bonds, key=lengths.__getitem__):
            i, j = pairs[bond]
            if left[i] and left[j]:
                left[i] -= 1
                left[j] -= 1
                extra[bond] += 1
                _propagate(left, extra, pairs, around, [i, j])
        if any(left[i] for i in component):  # shortest bonds first did not end well: search all ways
            for i, value in start.items():
                left[i] = value
            extra_of = _exact(start, {bond: pairs[bond] for bond in bonds}, before, lengths)
            for bond in bonds:
                extra[bond] = before[bond] + extra_of.get(bond, 0)
                for i in pairs[bond]:
                    left[i] -= extra_of.get(bond, 0)
    return extra, left


def _propagate(
    left: list[int],
    extra: list[int],
    pairs: Sequence[tuple[int, int]],
    around: Sequence[Sequence[int]],
    atoms: Sequence[int],
) -> None:
    """Bond each atom that has one possible partner, then those for which this leaves one, in place."""
    stack = list(atoms)
    while stack:
        i = stack.pop()
        if not left[i]:
            continue
        partners = [
            (bond, j)
            for bond in around[i]
            for j in (pairs[bond][1] if pairs[bond][0] == i else pairs[bond][0],)
            if left[j] and extra[bond] < TRIPLE
        ]
        if len(partners) == 1:
            bond, j = partners[0]
            number = min(left[i], left[j], TRIPLE - extra[bond])
            extra[bond] += number
            left[i] -= number
            left[j] -= number
            stack += [k for end in (i, j) for b in around[end] for k in pairs[b] if left[k]]


def _components(
    left: Sequence[int], extra: Sequence[int], pairs: Sequence[tuple[int, int]], around: Sequence[Sequence[int]]
) -> list[set[int]]:
    """Return the connected sets of atoms that have electrons left and a partner."""
    found: list[set[int]] = []
    seen: set[int] = set()
    for start, value in enumerate(left):
        if not value or start in seen:
            continue
        component, stack = {start}, [start]
        while stack:
            i = stack.pop()
            for bond in around[i]:
                for j in pairs[bond]:
                    if left[j] and j not in component and extra[bond] < TRIPLE:
                        component.add(j)
                        stack.append(j)
        seen |= component
        if len(component) > 1:
            found.append(component)
    return found


def _exact(
    left: dict[int, int], bonds: dict[int, tuple[int, int]], extra: dict[int, int], lengths: Sequence[float]
) -> dict[int, int]:
    """Return the further electron pairs of each bond in a maximum matching of Edmonds' algorithm.

    An atom with k electrons to pair stands for k vertices. A bond that would get more than `TRIPLE` is cut to it.
    """
    graph = networkx.Graph()
    for bond, (i, j) in bonds.items():
        for a in range(left[i]):
            for b in range(left[j]):
                graph.add_edge((i, a), (j, b), weight=2 - lengths[bond], bond=bond)
    found: dict[int, int] = {}
    for a, b in networkx.max_weight_matching(graph, maxcardinality=True):
        bond = graph.edges[a, b]["bond"]
        found[bond] = min(found.get(bond, 0) + 1, TRIPLE - extra[bond])
    return found
