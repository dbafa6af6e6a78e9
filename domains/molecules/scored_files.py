"""Molecules with scores: a file of `records.KINDS` with the score in a property or column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import torch

from domains.molecules import records
from domains.molecules.bond_check import first_bond_mismatch
from domains.molecules.chemistry import mirror_image
from domains.molecules.conformers import SECONDS
from domains.molecules.dataset import LARGE, OTHER, MoleculeDataset, to_graphs
from domains.molecules.entries import Entry, Reading, arrays_of, entries_of, notes_of
from domains.molecules.filtering import PropertyFilters
from domains.molecules.score_column import ScoreColumn
from domains.molecules.standardise import Standard
from domains.molecules.vocabulary import Vocabulary
from graft.core import limits
from graft.errors import GraftError


@dataclass
class ScoredMolecules:
    """Molecules of a file and their scores.

    Attributes:
        molecules: Usable molecules.
        values: Score of each usable molecule.
        left_out: (record, counted from 1, reason) of the invalid records.
        replicates: Number of records of a molecule that an earlier record has; the mean of their scores is taken.
        filtered: Number of records that the filters remove.
        notes: Sentences on the file that are no faults of a record.
    """

    molecules: MoleculeDataset
    values: list[float]
    left_out: list[tuple[int, str]]
    replicates: int = 0
    filtered: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """Settings with which a file of scored molecules is read.

    Args:
        filters: Value, list of values or range ``{low: 1, high: 5}`` that a column must have, by its name
            (`domains.molecules.filtering.PropertyFilters`).
        smiles_column: Column of the SMILES in a table; None for a column of that name.
        largest_fragment: Keep the largest fragment of a salt or mixture, which is left out otherwise.
        neutralise: Remove charges by adding and removing protons.
        max_replicate_factor: Replicates differ widely if their largest score is more than this many times the
            smallest, where both are positive.
        max_replicate_deviations: Replicates also differ widely if their range is more than this many standard
            deviations of all scores.
        embedding_seconds: Limit of the embedding of one molecule.
        embedding_workers: Number of processes that embed; None for the number of cores.
    """

    filters: "Mapping[str, Any] | None" = None
    smiles_column: "str | None" = None
    largest_fragment: bool = False
    neutralise: bool = False
    max_replicate_factor: float = 10.0
    max_replicate_deviations: float = 1.0
    embedding_seconds: float = SECONDS
    embedding_workers: "int | None" = None

    def __post_init__(self) -> None:
        """Raise GraftError if a setting is out of range."""
        limits.check("max_replicate_factor", self.max_replicate_factor, 1)
        limits.check("max_replicate_deviations", self.max_replicate_deviations, 0, above=True)
        for name in ("largest_fragment", "neutralise"):
            if not isinstance(getattr(self, name), bool):
                raise GraftError(f"{name} is {getattr(self, name)!r}; it must be true or false")


def parse_options(given: Mapping[str, Any]) -> Options:
    """Return the options of a configuration.

    Raises:
        GraftError: There is no such option, or a value is out of range.
    """
    known = [each.name for each in fields(Options)]
    for name in given:
        if name not in known:
            raise GraftError(f"files of molecules have no option {name!r}; there are: {', '.join(known)}")
    return Options(**given)


def read_scored_molecules(
    path: Path, score: str, vocabulary: Vocabulary, nodes: int, options: "Options | None" = None
) -> ScoredMolecules:
    """Return the molecules of a file and their scores.

    SDF records need a 3-D structure; the SMILES of a table are embedded by ETKDG and MMFF94. Records of one SMILES
    (stereoisomers and isotopes differ) are replicates: one molecule with their mean score. Replicates that differ
    widely are counted in a note. Structures of one molecule in an SDF or XYZ file are poses, each with its own score.

    Args:
        path: Path of the file.
        score: Property or column that holds the score.
        vocabulary: Vocabulary of the nodes.
        nodes: Largest number of nodes of a molecule.
        options: Filters and further settings.

    Raises:
        GraftError: The file is of another kind, or has no such property or column.
    """
    options = options or Options()
    if records.suffix(path) not in records.KINDS:
        *some, last = records.KINDS
        kinds = f"{', '.join(some)} and {last}"
        raise GraftError(f"scored molecules are read from {kinds} files (or these with .gz), not from {str(path)!r}")
    scores = ScoreColumn(score, PropertyFilters(options.filters))
    standard = Standard(vocabulary, None, nodes, options.largest_fragment, options.neutralise)
    reading = Reading(standard, options.smiles_column, None, options.embedding_seconds, options.embedding_workers)
    kept = list(scores.of(records.read_records(path, options.smiles_column)))
    scores.check(path)
    entries, left_out = entries_of(kept, reading)
    left_out += scores.left_out
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(str(entry.number) if entry.record.has_structure else entry.identity, []).append(entry)
    firsts = [group[0] for group in groups.values()]
    if not firsts:
        none = torch.zeros(0, dtype=torch.long)
        empty = MoleculeDataset(none, torch.zeros(0, 3), none, [])
        return ScoredMolecules(empty, [], sorted(left_out), 0, scores.filtered, scores.notes)
    molecules, unused = to_graphs(arrays_of(firsts), vocabulary, nodes, nodes)
    fit: list[list[Entry]] = []
    for group, why in zip(groups.values(), unused, strict=True):
        if not why:
            fit.append(group)
            continue
        because = _explained(why, group[0], vocabulary, nodes)
        left_out += [(entry.number, f"{because}: {entry.record.title}") for entry in group]
    values = [[scores.values[entry.number] for entry in group] for group in fit]
    apart = _differing(fit, values, options)
    means = [fmean(each) for each in values]
    notes = [
        *scores.notes,
        *apart,
        *_mirror_images([group[0].number for group in fit], molecules.isomeric_keys, means),
        *notes_of([entry for group in fit for entry in group]),
    ]
    return ScoredMolecules(molecules, means, sorted(left_out), sum(map(len, fit)) - len(fit), scores.filtered, notes)


def _differing(groups: Sequence[Sequence[Entry]], values: Sequence[Sequence[float]], options: Options) -> list[str]:
    """Return a note on the molecules whose replicates differ widely; empty if there are none."""
    spread = pstdev([value for each in values for value in each]) if values else 0.0
    apart = []
    for group, each in zip(groups, values, strict=True):
        low, high = min(each), max(each)
        ratio = low > 0 and high > options.max_replicate_factor * low
        if ratio or high - low > options.max_replicate_deviations * spread:
            apart.append((group, each))
    if not apart:
        return []
    group, each = apart[0]
    numbers = ", ".join(str(entry.number) for entry in group)
    scores = ", ".join(f"{value:g}" for value in each)
    many = "molecule has" if len(apart) == 1 else "molecules have"
    return [
        f"{len(apart)} {many} replicates that differ widely, such as records {numbers} of {group[0].record.title} "
        f"with {scores}"
    ]


def _mirror_images(numbers: Sequence[int], keys: Sequence[str], values: Sequence[float]) -> list[str]:
    """Return a note on pairs of enantiomers with different scores; empty if there are none."""
    first: dict[str, int] = {}
    for i, key in enumerate(keys):
        first.setdefault(key, i)
    pairs = []
    for key, i in first.items():
        j = first.get(mirror_image(key), i) if "@" in key else i
        if i < j and values[i] != values[j]:
            pairs.append((i, j))
    if not pairs:
        return []
    i, j = pairs[0]
    many = "pair of mirror images has" if len(pairs) == 1 else "pairs of mirror images have"
    return [
        f"{len(pairs)} {many} different scores, such as records {numbers[i]} and {numbers[j]} with {values[i]:g} and "
        f"{values[j]:g}: a network that is equivariant to reflections gives both the same probability"
    ]


def _explained(why: str, entry: Entry, vocabulary: Vocabulary, nodes: int) -> str:
    """Return the reason of `to_graphs` with its limit or bond."""
    if why == OTHER:
        return f"{OTHER} than {', '.join(dict.fromkeys(['H', *vocabulary.symbols]))}"
    if why == LARGE:
        return f"{LARGE}, of more than {nodes} {'atoms' if vocabulary.explicit else 'heavy atoms'}"
    return _misread_bond(entry.molecule(), vocabulary) or why


def _misread_bond(mol: Any, vocabulary: Vocabulary) -> str:
    """Return why the positions of a record show other bonds than the record has.

    It is "" if the bonds of the record do not show the reason.
    """
    bond = first_bond_mismatch(mol, range(mol.GetNumAtoms()), vocabulary)
    if bond is None:
        return ""
    return f"the positions show {bond.found} where the record has {bond.given} ({bond.ends}, {bond.distance:.2f} Å)"
