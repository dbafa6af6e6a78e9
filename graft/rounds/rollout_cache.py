"""The rollout cache: chunks of draws of earlier runs, found by their cache key."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from graft.errors import GraftError
from graft.io.fingerprint import fingerprint_hash
from graft.io.tensors import read_metadata

WHICH = ("round", "chunk", "rows")
"""Names in an origin that number the draws of a distribution; all other names identify the distribution."""


class RolloutCache:
    """The chunks in folders of runs, by cache key, a hash of the origin. The constructor reads only file headers.

    Args:
        folders: Folders of runs, or folders that hold folders of runs.

    Raises:
        GraftError: A folder holds no draws.
    """

    def __init__(self, folders: "Iterable[str | Path]") -> None:
        self._chunks: dict[str, Path] = {}
        self._distributions: dict[str, dict[str, Any]] = {}
        for folder in folders:
            chunks = list(_chunks(Path(folder)))
            if not chunks:
                raise GraftError(
                    f"there are no draws of a run in {str(folder)!r}: name folders of runs that graft made"
                )
            for path in chunks:
                origin = read_metadata(path).get("origin")
                if isinstance(origin, dict):
                    self._chunks[fingerprint_hash(origin)] = path
                    distribution = {name: value for name, value in origin.items() if name not in WHICH}
                    self._distributions[fingerprint_hash(distribution)] = distribution

    def __len__(self) -> int:
        return len(self._chunks)

    def find(self, origin: dict[str, Any]) -> "Path | None":
        """Return the file of the chunk with this origin, or None if only this chunk is missing.

        Args:
            origin: Origin of the chunk, as `graft.rounds.RoundStore.cache_key` returns it.

        Raises:
            GraftError: All draws in the cache are of other distributions. The message names the difference.
        """
        found = self._chunks.get(fingerprint_hash(origin))
        if found is not None:
            return found
        differing = [_differing(origin, distribution) for distribution in self._distributions.values()]
        if differing and all(differing):
            nearest = min(differing, key=len)
            raise GraftError(
                f"the draws in data.storage.reuse_runs were made with another {' and '.join(nearest)}: use the "
                "settings of that run, or sample without data.storage.reuse_runs"
            )
        return None


def _chunks(folder: Path) -> Iterator[Path]:
    for depth in ("", "*/", "*/*/"):
        for drawn in ("chunk", "stored"):
            yield from sorted(folder.glob(f"{depth}rounds/*/{drawn}_*.safetensors"))


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return [k for k in sorted(ours.keys() | theirs.keys()) if k not in WHICH and ours.get(k) != theirs.get(k)]
