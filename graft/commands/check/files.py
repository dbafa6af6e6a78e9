"""Trials of the hooks that write and read objects."""

import math
import tempfile
from pathlib import Path
from typing import Any

from graft.commands.check.trials import COUNT, Trial, Trials
from graft.domain import hooks
from graft.errors import GraftError


class FileTrials(Trials):
    """Try to write objects in each format, and to read them back with their scores."""

    def run(self, items: list[Any]) -> None:
        """Run the trials on three objects."""
        suffixes = self.module.file_suffixes or ((self.module.file_suffix,) if self.module.file_suffix else ())
        if not suffixes:
            self.results.append(Trial("write", note="no file format (file_suffix is not set)"))
        for suffix in suffixes:
            self.attempt(f"write {suffix}", lambda suffix=suffix: self._write(items, suffix))  # type: ignore[misc]
        if self.module.file_suffix:
            self.attempt("read_scored", lambda: self._read(items), "read_scored")
        else:
            self.attempt("read_scored", lambda: "left out: no file format", "read_scored")

    def _write(self, items: list[Any], suffix: str) -> str:
        sizes = []
        cases: list[tuple[list[Any], list[float] | None]] = [(items, [1.0, 2.0, math.nan]), (items, None), ([], [])]
        for objects, rewards in cases:
            with tempfile.TemporaryDirectory(prefix="graft-") as folder:
                path = Path(folder) / f"objects{suffix}"
                with hooks.named(f"{self.kind}.write of {len(objects)} objects as {suffix}"):
                    self.module.write(objects, path, rewards)
                if objects and not any(Path(folder).iterdir()):
                    raise GraftError(f"{self.kind}.write wrote no {suffix} file to the given path")
                sizes.append(sum(each.stat().st_size for each in Path(folder).rglob("*") if each.is_file()))
        return f"{sizes[0]} bytes"

    def _read(self, items: list[Any]) -> str:
        """Read the written file: its objects must have the keys and the scores that were written."""
        with tempfile.TemporaryDirectory(prefix="graft-") as folder:
            path = Path(folder) / f"objects{self.module.file_suffix}"
            self.module.write(items, path, [1.0, 2.0, 3.0])
            try:
                found = self.module.read_scored(path, "reward")
            except GraftError as error:
                return f"left out: these samples cannot be read ({error})"
        keys = [self.module.key(each) for each in items] if self.module.supports("key") else []
        written = dict(zip(keys, [1.0, 2.0, 3.0], strict=True)) if len(set(keys)) == COUNT else {}
        for key, value in zip(found.keys, found.values, strict=True):
            if written and written.get(key) != value:
                raise GraftError(
                    f"{self.kind}.read_scored read the object {key!r} with the score {value:g}, which is not what "
                    f"{self.kind}.write wrote ({', '.join(f'{k!r}: {v:g}' for k, v in written.items())})"
                )
        return f"{len(found.values)} of {COUNT} read back"
