"""Choose the reader of a source."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from domains.layouts.readers import arrays, coco, generator, rico, tokens
from domains.layouts.readers.collection import LayoutSet, pack_records
from domains.layouts.readers.record import LayoutRecord, Unusable
from graft.errors import GraftError
from graft.io.invalid_records import describe_invalid
from graft.io.json_files import read_json
from graft.io.paths import find_file

GENERATED = "generated"


def read_layouts(source: str, names: tuple[str, ...], most: int, count: int = 20000, seed: int = 0) -> LayoutSet:
    """Return the layouts of a source.

    Args:
        source: ``generated`` for generated document pages; a COCO ``.json`` (graft writes such files too), a ``.txt``
            of tokens, a ``.pt`` or ``.npz`` of arrays, or a ``.json`` or folder of RICO semantic annotations.
        names: Names of the classes.
        most: Largest number of elements; larger layouts are left out.
        count: Number of generated pages.
        seed: Seed of generated pages.

    Raises:
        GraftError: There is no such file, its format is unknown, more than half of it is faulty, or none of its layouts
            can be used.
    """
    records = (
        _made(count, seed)
        if source == GENERATED
        else _records(Path(source) if Path(source).is_dir() else find_file(source))
    )
    pages = pack_records(records, names, most, source)
    if not len(pages):
        why = describe_invalid(pages.named) or "it holds none"
        raise GraftError(f"{source} has no layout that can be used ({why}); classes: {', '.join(names)}")
    return pages


def _made(count: int, seed: int) -> "Iterator[LayoutRecord]":
    for number, page in enumerate(generator.generate_pages(count, seed), 1):
        yield LayoutRecord(f"page {number}", list(page))


def _records(path: Path) -> "Iterator[LayoutRecord | Unusable]":
    if path.is_dir():
        return rico.read_rico(path)
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _json(path)
    if suffix == ".txt":
        return tokens.read_tokens(path)
    if suffix in (".pt", ".npz"):
        return arrays.read_arrays(path)
    raise GraftError(
        f"layouts are read from .json (COCO, RICO), .txt (tokens), .pt, .npz, or a folder of RICO's "
        f"annotations, not from {str(path)!r}"
    )


def _json(path: Path) -> "Iterator[LayoutRecord | Unusable]":
    content: Any = read_json(path)
    for reader in (coco, rico):
        if reader.fits(content):
            found: Iterator[LayoutRecord | Unusable] = reader.records(content, path)
            return found
    raise GraftError(
        f"{path} is JSON of another schema: COCO has images, annotations and categories, RICO's semantic annotations "
        "have bounds and children"
    )
