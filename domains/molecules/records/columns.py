"""Names of columns, as people and programs write them."""

import re
from collections.abc import Sequence


def plain(name: str) -> str:
    """Return the name of a column in lower case, without spaces and underscores."""
    return re.sub(r"[\W_]", "", name).lower()


def find_column(names: Sequence[str], wanted: str) -> "str | None":
    """Return the name that is ``wanted``, or the only one that differs in case, spaces and underscores; else None."""
    if wanted in names:
        return wanted
    alike = [name for name in names if plain(name) == plain(wanted)]
    return alike[0] if len(alike) == 1 else None


def smiles_column(names: Sequence[str]) -> "str | None":
    """Return the column that holds SMILES, or None.

    It is the first of ``smiles``, ``isomeric_smiles`` and ``canonical_smiles``, in any case, with or without
    underscore; or else the only column with ``smiles`` in its name.
    """
    found = {plain(name): name for name in reversed(names)}
    for name in ("smiles", "isomericsmiles", "canonicalsmiles"):
        if name in found:
            return found[name]
    # a name with a separator is that of several columns
    alike = [name for name in names if "smiles" in plain(name) and not re.search(r'[,;\t"]', name)]
    return alike[0] if len(alike) == 1 else None
