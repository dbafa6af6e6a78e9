"""The scores in the folder of a round: rewards, failures, calls and keys of each chunk of draws."""

from collections.abc import Callable, Sequence
from pathlib import Path

from graft.io.json_files import write_checked_json
from graft.reward import Scores, bounded, concatenate_scores
from graft.rounds.score_files import from_nulls, read_scores_file, to_nulls

STORED, SCORES, PROXY = "stored", "scores", "proxy"  # prefixes of file names


class ScoreStore:
    """The scores of one round, by chunk.

    Args:
        folder: ``rounds/<n>`` of a run.
        chunk_sizes: Number of draws in each chunk.
        reward: Hash of the reward by `graft.io.fingerprint.fingerprint_hash`. Scores of another reward are ignored.
    """

    def __init__(self, folder: Path, chunk_sizes: Sequence[int], reward: "str | None" = None) -> None:
        self.folder, self.chunk_sizes, self.reward = folder, chunk_sizes, reward

    def _scores(self, index: int) -> Path:
        """Return the path of the scores: the reused file if it has the same reward, else a new one."""
        stored = self.folder / f"{STORED}_{index:05d}.json"
        fits = stored.exists() and read_scores_file(stored)["reward"] == self.reward
        return stored if fits else self.folder / f"{SCORES}_{index:05d}.json"

    def has_scores(self, index: int) -> bool:
        """Return True if all scores of a chunk by this reward are on disk."""
        path = self._scores(index)
        return path.exists() and (content := read_scores_file(path))["reward"] == self.reward and not content["again"]

    def reward_calls(self, index: int) -> int:
        """Return the number of reward calls that this run made for a chunk."""
        path = self._scores(index)
        return 0 if path.name.startswith(STORED) else int(read_scores_file(path)["reward_calls"])

    def calls_by_term(self, index: int) -> dict[str, int]:
        """Return the number of calls that this run made of each term of the reward, by name."""
        path = self._scores(index)
        return {} if path.name.startswith(STORED) else dict(read_scores_file(path)["calls"])

    def pending_retries(self, index: int) -> "list[int] | None":
        """Return the positions of failed draws to score again; None if a chunk has no scores yet."""
        path = self._scores(index)
        if path.exists() and (content := read_scores_file(path))["reward"] == self.reward:
            return list(content["again"])
        return None

    def write_scores(
        self, index: int, scores: Scores, keys: list[str], again: Sequence[int] = (), reward_calls: "int | None" = None
    ) -> None:
        """Write the scores of a chunk.

        NaN without a failure marks a draw that was not scored, or a draw that must be scored again.

        Args:
            index: Number of the chunk.
            scores: Score of each draw.
            keys: Key of each object.
            again: Positions of the draws to score again.
            reward_calls: Number of reward calls so far; by default one for each value and each failure.
        """
        scored = sum(value == value for value in scores.values) + len(scores.failures) - len(scores.cached)
        content = {
            "reward": self.reward,
            "values": to_nulls(scores.values),
            "failures": {str(i): bounded(str(why)) for i, why in scores.failures.items()},
            "reward_calls": scored if reward_calls is None else reward_calls,
            "calls": scores.calls or {},
            "again": list(again),
            "keys": keys,
        }
        write_checked_json(self.folder / f"{SCORES}_{index:05d}.json", content)

    def proxy_scores(self, index: int, by: str, scores: "Callable[[], Sequence[float]]") -> list[float]:
        """Return the proxy rewards of a chunk; NaN for a failed one.

        Args:
            index: Number of the chunk.
            by: Hash of the proxy reward. A file with the same hash is read, else a new file is written.
            scores: Function that returns the proxy rewards.
        """
        path = self.folder / f"{PROXY}_{index:05d}.json"
        if not path.exists() or read_scores_file(path)["reward"] != by:
            values = to_nulls(scores())
            content = {"reward": by, "values": values, "failures": {}, "keys": [""] * len(values), "reward_calls": 0}
            write_checked_json(path, content)
        return from_nulls(read_scores_file(path)["values"])

    def mark_failures_for_retry(self) -> None:
        """Mark failed draws to be scored again on resume; the other scores stay."""
        for index in range(len(self.chunk_sizes)):
            if not self.has_scores(index):
                continue
            scores, keys = self.read_scores(index)
            if scores.failures:
                plain = Scores(scores.values, calls=self.calls_by_term(index))
                self.write_scores(index, plain, keys, list(scores.failures), self.reward_calls(index))
                (self.folder / f"{STORED}_{index:05d}.json").unlink(missing_ok=True)

    def read_scores(self, index: int) -> tuple[Scores, list[str]]:
        """Return the scores of a chunk and the keys of its objects."""
        content = read_scores_file(self._scores(index))
        values = from_nulls(content["values"])
        failures = {int(i): str(why) for i, why in content["failures"].items()}
        return Scores(values, failures, calls=dict(content["calls"])), content["keys"]

    def scores(self) -> tuple[Scores, list[str]]:
        """Return the scores of all chunks and the keys of their objects."""
        return join_parts([self.read_scores(index) for index in range(len(self.chunk_sizes))])


def join_parts(parts: Sequence[tuple[Scores, list[str]]]) -> tuple[Scores, list[str]]:
    """Return the joined scores and keys of several chunks."""
    return concatenate_scores([scores for scores, _ in parts]), [key for _, keys in parts for key in keys]
