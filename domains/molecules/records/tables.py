"""Records of SMILES files and of tables with a column of SMILES."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from domains.molecules.records.columns import find_column, smiles_column
from domains.molecules.records.content import decode_file
from domains.molecules.records.record import Record, Smiles
from graft.errors import GraftError
from graft.io import text


def read_smi(path: Path) -> Iterator[Record]:
    """Yield one record for each line: a SMILES and, if there is one, a name after it.

    A first line that names the column is skipped.
    """
    for number, line in enumerate(text.split_lines(decode_file(path))):
        if line.strip():
            smiles, *name = line.split(maxsplit=1)
            if number == 0 and smiles_column([smiles]) is not None:
                continue
            yield Smiles(smiles, {"name": name[0].strip()} if name else {})


def read_table(path: Path, named: "str | None" = None) -> Iterator[Record]:
    """Yield the rows of a table with a column of SMILES.

    Commas, semicolons or tabs separate the columns.
    """
    content = decode_file(path).lstrip("\n")
    content = re.sub(r"^sep=.\n+", "", content)  # a line of spreadsheets
    try:
        header = content.partition("\n")[0]
        # no SMILES holds one of these, and the right one makes the most columns; csv.Sniffer would try all characters
        names = {each: [name.strip() for name in next(csv.reader([header], delimiter=each), [])] for each in ",;\t"}
        ordered = sorted(names, key=lambda each: -len(names[each]))
        found = {
            each: smiles_column(names[each]) if named is None else find_column(names[each], named) for each in ordered
        }
        separator = next((each for each in ordered if found[each] is not None), ordered[0])
        columns, column = names[separator], found[separator]
        if column is None:
            there = ", ".join(columns) or "none"
            if named is not None:
                raise GraftError(f"{path} has no column {named!r} of SMILES; there are: {there}")
            raise GraftError(
                f"{path} has no column 'smiles', 'isomeric_smiles' or 'canonical_smiles'; there are: {there}. Name one "
                "with --data.source.options.smiles_column, or with --data.smiles_column of graft pretrain"
            )
        for row in _rows(content, separator)[1:]:
            if row:
                cells = {name: cell.strip() for name, cell in zip(columns, row, strict=False)}
                yield Smiles(cells.get(column, ""), {name: "" for name in columns} | cells)
    except csv.Error as error:
        raise GraftError(f"{path} is no table ({error})") from None


def _rows(content: str, separator: str) -> list[list[str]]:
    """Return the rows of a table; a quote without an end spoils its own line alone."""
    try:
        return list(csv.reader(io.StringIO(content, newline=""), delimiter=separator, strict=True))
    except csv.Error:
        return [next(csv.reader([line], delimiter=separator), []) for line in text.split_lines(content)]
