"""Which reader a source goes to."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from domains.layouts.sources import arrays, coco, generator, rico, tokens
from domains.layouts.sources.collection import Collection, Element, collect
from graft import files
from graft.errors import GraftError

GENERATED = "generated"


def read(source: str, names: tuple[str, ...], most: int, count: int = 20000, seed: int = 0) -> Collection:
    """The layouts of a source.

    Args:
        source: ``generated``: document pages that are made here; a COCO ``.json`` (graft writes such, too), a ``.txt``
            of tokens, a ``.pt`` or ``.npz`` of arrays, or a ``.json`` or folder of RICO semantic annotations.
        names: The classes that are known.
        most: Layouts of more elements are left out.
        count: Collection to make.
        seed: Of the pages that are made.

    Raises:
        GraftError: There is no such file, it is of another kind, or none of its layouts can be used.
    """
    records = (
        generator.pages(count, seed)
        if source == GENERATED
        else _records(Path(source) if Path(source).is_dir() else files.locate(source))
    )
    pages = collect(records, names, most)
    if not len(pages):
        why = "; ".join(f"{number} {what}" for what, number in pages.left_out.items())
        raise GraftError(
            f"{source} has no layout that can be used ({why or 'it holds none'}); classes: {', '.join(names)}"
        )
    return pages


def _records(path: Path) -> "Iterator[list[Element]]":
    if path.is_dir():
        return rico.read(path)
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _json(path)
    if suffix == ".txt":
        return tokens.read(path)
    if suffix in (".pt", ".npz"):
        return arrays.read(path)
    raise GraftError(
        f"layouts are read from .json (COCO, RICO), .txt (tokens), .pt, .npz, or a folder of RICO's "
        f"annotations, not from {str(path)!r}"
    )


def _json(path: Path) -> "Iterator[list[Element]]":
    content: Any = load(path)
    for reader in (coco, rico):
        if reader.fits(content):
            found: Iterator[list[Element]] = reader.records(content, path)
            return found
    raise GraftError(
        f"{path} is JSON of another schema: COCO has images, annotations and categories, RICO's semantic annotations "
        "have bounds and children"
    )


def load(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        GraftError: It is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GraftError(f"{path} is no JSON file: {error}") from None
