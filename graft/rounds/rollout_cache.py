"""Draws found again by what made them: the rounds of earlier runs as one store, addressed by content."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from graft import files
from graft.errors import GraftError
from graft.fingerprint import fingerprint_hash

WHICH = ("round", "chunk", "rows")
"""What of an origin says which draws of a law they are; the rest says which law."""


def cache_key_hash(origin: dict[str, Any]) -> str:
    """Return the hash of what makes draws, such as seed, weights, process, round and chunk."""
    return fingerprint_hash(origin)


class RolloutCache:
    """The chunks in folders of runs, by address. Opening reads the headers of the files, not the draws.

    Args:
        folders: Of runs, or folders of such folders.

    Raises:
        GraftError: There are no draws in one of them.
    """

    def __init__(self, folders: "Iterable[str | Path]") -> None:
        self._chunks: dict[str, Path] = {}
        self._laws: dict[str, dict[str, Any]] = {}
        for folder in folders:
            chunks = list(_chunks(Path(folder)))
            if not chunks:
                raise GraftError(
                    f"there are no draws of a run in {str(folder)!r}: give folders of runs that graft made"
                )
            for path in chunks:
                origin = files.read_metadata(path).get("origin")
                if isinstance(origin, dict):
                    self._chunks[cache_key_hash(origin)] = path
                    law = {name: value for name, value in origin.items() if name not in WHICH}
                    self._laws[cache_key_hash(law)] = law

    def __len__(self) -> int:
        return len(self._chunks)

    def find(self, origin: dict[str, Any]) -> "Path | None":
        """The file of the draws of ``origin``; None if there are none of it, but others of the same law.

        Raises:
            GraftError: There are draws of other laws only; the difference is named.
        """
        found = self._chunks.get(cache_key_hash(origin))
        if found is not None:
            return found
        differing = [_differing(origin, law) for law in self._laws.values()]
        if differing and all(differing):
            nearest = min(differing, key=len)
            raise GraftError(
                f"the draws in data.reuse_runs were made with another {' and '.join(nearest)}: use the settings of "
                "that "
                "run, or draw anew without data.reuse_runs"
            )
        return None


def _chunks(folder: Path) -> Iterator[Path]:
    for depth in ("", "*/", "*/*/"):
        for drawn in ("chunk", "stored"):
            yield from sorted(folder.glob(f"{depth}rounds/*/{drawn}_*.safetensors"))


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return [k for k in sorted(ours.keys() | theirs.keys()) if k not in WHICH and ours.get(k) != theirs.get(k)]
