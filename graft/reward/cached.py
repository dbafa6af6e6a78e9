"""A reward that is called once for each content, for scores that take longer than a lookup."""

import hashlib
import math
import pickle
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from typing_extensions import override

from graft.core import limits
from graft.core.copies import copied
from graft.errors import GraftError
from graft.io.fingerprint import fingerprint_hash
from graft.reward.calls import score_objects
from graft.reward.function import Scorer, import_callable, scorer
from graft.reward.scores import Scores, to_finite_float
from graft.reward.wrapped import SameScores

WAIT = 60.0  # seconds to wait for another process that holds the file


class CachedReward(SameScores):
    """A cache in front of a reward, with the reward and the content of the object as the key.

    The reward must be a function of that content. Failures are not cached: the reward is called again for them. A
    cached value is not a call of the reward in the run's accounts, except with ``count_cached``.

    Args:
        reward: Inner reward.
        key: ``package.module.function`` from an object to the part that the reward depends on, as a string, bytes or
            anything that pickles (``rdkit.Chem.MolToSmiles``); ``null`` for the whole object, pickled.
        path: SQLite file of the values, for any number of runs and processes on one machine (its locks are unreliable
            on file systems that several machines share); ``null`` for the memory of this process.
        max_entries: Largest number of values in the memory of this process; the oldest are removed.
        count_cached: Count a cached value as a call of the reward. For ``graft compare``: methods that draw the same
            samples share their scores, and each has the cost of a run of its own.
    """

    def __init__(
        self,
        reward: "Scorer",
        key: "str | None" = None,
        path: "str | None" = None,
        max_entries: int = 100_000,
        count_cached: bool = False,
    ) -> None:
        limits.check("max_entries", max_entries, 1)
        super().__init__(scorer(reward, "the reward of CachedReward"))
        self.key, self.path, self.max_entries, self.count_cached = key, path, max_entries, count_cached
        self._by = import_callable(key) if key is not None else None
        self._known: dict[bytes, float] = {}
        self._salt = b""

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every object; the reward is called once for each content that is not cached."""
        self._salt = self._salt or repr((fingerprint_hash(self.reward), self.key)).encode()
        scores = Scores([math.nan] * len(items))
        places: dict[bytes, list[int]] = {}
        for i, item in enumerate(items):
            try:
                places.setdefault(self._content(item), []).append(i)
            except (Exception, SystemExit) as error:
                scores.failures[i] = f"its content cannot be computed ({type(error).__name__})"
                scores.cached.add(i)  # the reward is not called for it
        known = self._remembered(list(places))
        missing = [content for content in places if content not in known]
        found = score_objects(self.reward, [items[places[content][0]] for content in missing])
        new = {content: value for content, value in zip(missing, found.values, strict=True) if not math.isnan(value)}
        self._remember(new)
        scores.calls = found.calls
        called = {content for i, content in enumerate(missing) if i not in found.cached}
        reasons = {missing[i]: why for i, why in found.failures.items()}
        for content, rows in places.items():
            value = known.get(content, new.get(content, math.nan))
            if not self.count_cached:
                scores.cached |= set(rows[1:] if content in called else rows)
            for i in rows:
                scores.values[i] = value
                if content in reasons:
                    scores.failures[i] = reasons[content]
        return scores

    def _content(self, item: Any) -> bytes:
        content = item if self._by is None else self._by(copied(item))
        return hashlib.sha256(self._salt + pickle.dumps(content, protocol=4)).digest()

    def _remembered(self, contents: list[bytes]) -> dict[bytes, float]:
        known = {content: self._known[content] for content in contents if content in self._known}
        if self.path is None:
            return known
        missing = [content for content in contents if content not in known]
        try:
            with closing(self._opened()) as file:
                for start in range(0, len(missing), 500):  # a query has at most so many parameters
                    some = missing[start : start + 500]
                    marks = ",".join("?" * len(some))
                    known |= dict(file.execute(f"SELECT content, value FROM scores WHERE content IN ({marks})", some))
            return {content: to_finite_float(value) for content, value in known.items()}
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise self._refused(error) from None

    def _remember(self, new: dict[bytes, float]) -> None:
        if self.path is None:
            self._known |= new
            for content in list(self._known)[: max(0, len(self._known) - self.max_entries)]:
                del self._known[content]
            return
        try:
            with closing(self._opened()) as file, file:
                file.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", new.items())
        except sqlite3.Error as error:
            raise self._refused(error) from None

    def _opened(self) -> sqlite3.Connection:
        assert self.path is not None
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(error) from None
        file = sqlite3.connect(self.path, timeout=WAIT)
        try:
            file.execute("CREATE TABLE IF NOT EXISTS scores (content BLOB PRIMARY KEY, value REAL NOT NULL)")
        except sqlite3.Error:
            file.close()
            raise
        return file

    def _refused(self, error: Exception) -> GraftError:
        return GraftError(
            f"the scores kept in {self.path} cannot be read or written ({error}): free the disk, or give another file"
        )

    @override
    def setup(self) -> None:
        """Set the reward up and check that the file can be used."""
        super().setup()
        self._remembered([b""])
