"""A file of scored draws as the source of a round: the draws keep their own states between noise and data."""

from pathlib import Path
from typing import Any

from typing_extensions import override

from graft.core import distributed
from graft.core.datatypes import Chunk
from graft.core.state import take
from graft.domain import Domain
from graft.errors import GraftError
from graft.io.checksum import file_checksum
from graft.io.paths import find_file
from graft.policy import Policy
from graft.reward import Scores
from graft.rounds.scored_draws import ScoredDraws, read_header, read_scored_draws
from graft.rounds.sources import VERSION, ModelSource, Source

SAME_MODEL = {
    "domain": "domain",
    "network": "network (or other prompts)",
    "reference": "reference",
    "given": "settings of what is given",
}
"""Parts of an origin that say what a state means; each with its name in messages."""
SAME_SAMPLER = ("process", "solver", "steps")
"""Parts of an origin that a state between noise and data depends on too."""


class ScoredDrawsSource(Source):
    """Draws of an earlier run of the same reference with scores, such as those that people rated.

    The states at the levels that the earlier run recorded are used if its sampler was this one. The reference must have
    sampled all below such a level, as it will here.

    Args:
        path: File of `graft.rounds.scored_draws.write_scored_draws`.
        score_column: Name of the scores.
        higher_is_better: True if a larger score is better.
    """

    is_model = False

    def __init__(self, path: "str | Path", score_column: str, higher_is_better: bool = True) -> None:
        self.path, self.score_column, self.higher_is_better = Path(path), score_column, higher_is_better
        self.name, self.label, self.behaviour = self.path.name, score_column, "current"
        self._content: ScoredDraws | None = None
        self._hash = ""

    @override
    def inspect(self, domain: Domain, policy: Policy) -> None:
        """Read the header of the file, and compare the model of the draws with this one.

        Raises:
            GraftError: The file is no file of scored draws, or its draws are of another model.
        """
        path = find_file(self.path)
        label, theirs, levels = read_header(path)
        if label != self.score_column:
            raise GraftError(f"{path} has no scores {self.score_column!r}; there are: {label}")
        ours = ModelSource("reference").origin(domain, policy, 0, "32-true")
        if differing := [label for name, label in SAME_MODEL.items() if theirs.get(name) != ours.get(name)]:
            raise GraftError(
                f"the draws of {path} were made with another {' and another '.join(differing)}: use the settings of "
                "the run that was rated"
            )
        if differing := [name for name in SAME_SAMPLER if theirs.get(name) != ours.get(name)]:
            if levels:
                distributed.rank_zero_print(
                    f"{path}: the states between noise and data are of another {' and '.join(differing)}, and are not "
                    "used"
                )
            levels = []
        highest = float(theirs.get("level", 0.0)) if "weights" in theirs else 1.0
        self.recorded = tuple(level for level in levels if level <= highest)
        by_reference = "weights" not in theirs and policy.handover_level in self.recorded
        self.behaviour = "reference" if by_reference else "current"

    @override
    def open(self, domain: Domain) -> None:
        if self._content is None:
            path = find_file(self.path)
            self._content, self._hash = read_scored_draws(path), file_checksum(path)
            distributed.rank_zero_print(f"{self.path}: {len(self._content.keys)} scored draws")

    @override
    def origin(self, domain: Domain, policy: Policy, number: int, precision: str) -> dict[str, Any]:
        self.inspect(domain, policy)
        self.open(domain)
        return {
            "version": VERSION,
            "domain": f"{type(domain).__module__}.{type(domain).__qualname__}",
            "file": self._hash,
            "score": self.score_column,
            "steps": policy.steps,
            "recorded": list(self.recorded),
        }

    @property
    def _read(self) -> ScoredDraws:
        assert self._content is not None, "opened first"
        return self._content

    @override
    def count(self, draws: int) -> int:
        """Return the number of draws in the file."""
        return len(self._read.keys)

    @override
    def preloaded(self, rows: slice) -> "tuple[Chunk, Scores, list[str]] | None":
        content = self._read
        recorded = {level: take(content.chunk.recorded[level], rows) for level in self.recorded}
        chunk = Chunk(take(content.chunk.state, rows), recorded, take(content.chunk.condition, rows))
        return chunk, Scores(content.scores[rows].tolist()), content.keys[rows]

    @property
    @override
    def summary(self) -> dict[str, Any]:
        return {
            "score": self.score_column,
            "objects": len(self._read.keys),
            "replicates": 0,
            "filtered": 0,
            "invalid_by_reason": {},
            "notes": [],
        }
