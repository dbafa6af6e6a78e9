"""Sources of the samples of a round: the reference, the current model, or a scored file."""

from abc import ABC, abstractmethod
from dataclasses import replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from graft.core import distributed
from graft.core.datatypes import Chunk, ScoredSet
from graft.core.state import take
from graft.domain import Domain
from graft.errors import GraftError
from graft.io.checksum import checksum, file_checksum
from graft.io.fingerprint import fingerprint_hash, public_attributes
from graft.io.invalid_records import check_invalid, count_by_reason, describe_invalid
from graft.io.paths import find_file
from graft.network import trainable_parameters
from graft.network.sharded import full_tensor
from graft.policy import Policy
from graft.reward import Scores
from graft.solvers import Euler

VERSION = 4  # part of the cache key: raise it whenever the same origin yields other draws


class Source(ABC):
    """A source of the samples of a round.

    Attributes:
        name: Name of the source.
        label: Name of the scores that come with the samples; empty for a model.
        higher_is_better: True if a larger score of the file is better.
        behaviour: Distribution that the samples follow, for objectives that need it.
        is_model: True if a model samples and a reward scores; False if a file holds samples and scores.
        recorded: Levels above 0 whose states a file holds too.
    """

    name: str
    label: str = ""
    higher_is_better: bool = True
    behaviour: Literal["reference", "current"]
    is_model: bool = True
    recorded: tuple[float, ...] = ()

    def inspect(self, domain: Domain, policy: Policy) -> None:  # noqa: B027  (most sources need no model)
        """Find out what the objective has to know of the source; `behaviour` and `recorded` depend on the model.

        Raises:
            GraftError: The source does not suit the model.
        """

    def open(self, domain: Domain) -> None:  # noqa: B027  (a model has no file to read)
        """Prepare the source: a scored file is read.

        Raises:
            GraftError: The file cannot be read.
        """

    @abstractmethod
    def origin(self, domain: Domain, policy: Policy, number: int, precision: str) -> dict[str, Any]:
        """Return all settings that the draws of round ``number`` depend on, by name."""

    def count(self, draws: int) -> int:
        """Return the number of samples in a round, given the setting ``draws``."""
        return draws

    def preloaded(self, rows: slice) -> "tuple[Chunk, Scores, list[str]] | None":
        """Return (samples, scores, keys) of some rows, or None if a model must sample them."""
        return None

    @property
    def left_out(self) -> list[tuple[int, str]]:
        """Return (number from 1, reason) of each invalid record."""
        return []

    @property
    def summary(self) -> dict[str, Any]:
        """Return the counts of a scored file for ``summary.json``; empty for a model."""
        return {}


class ModelSource(Source):
    """Samples of the reference, with one distribution in all rounds, or of the current model.

    Args:
        name: ``reference`` or ``current``.
    """

    def __init__(self, name: Literal["reference", "current"]) -> None:
        self.name, self.behaviour = name, name

    @override
    def origin(self, domain: Domain, policy: Policy, number: int, precision: str) -> dict[str, Any]:
        network = policy.backbone if policy.corrector is None else policy.reference
        origin: dict[str, Any] = {
            "version": VERSION,
            "domain": f"{type(domain).__module__}.{type(domain).__qualname__}",
            "network": fingerprint_hash(public_attributes(network)),
            "process": fingerprint_hash(policy.process),
            "steps": policy.steps,
            **({} if type(policy.solver) is Euler else {"solver": fingerprint_hash(policy.solver)}),
            "seed": domain.seed,
            "reference": (policy.reference_file or {}).get("sha256"),
            "round": number,
        }
        if domain.cache_key_extras is not None:
            origin["given"] = fingerprint_hash(domain.cache_key_extras)
        if precision != "32-true":
            origin["precision"] = precision
        if self.name == "current":
            with policy.eval_weights("current"):
                weights = {name: full_tensor(weight) for name, weight in trainable_parameters(policy.backbone).items()}
                origin |= {"weights": checksum(weights), "level": policy.handover_level}
                origin |= {"upper_level": policy.interval.high} if policy.interval.high < 1 else {}
            if policy.corrector is not None:
                origin["corrector"] = fingerprint_hash(policy.corrector)
        return origin


class ScoredFileSource(Source):
    """A file of objects and scores (assay tables, ratings), in place of sampling and scoring.

    A file holds no trajectories, so the states at a level above 0 are the objects noised to this level.

    Args:
        path: The file, in a format that the domain reads.
        score_column: Name of the column or property that holds the scores.
        higher_is_better: True if a larger score is better.
        max_invalid_fraction: Largest share of invalid records.
        filters: Condition by column, for the domain's reader.
        options: Further settings of the domain's reader.
    """

    behaviour = "current"
    is_model = False

    def __init__(
        self,
        path: "str | Path",
        score_column: str,
        higher_is_better: bool = True,
        max_invalid_fraction: float = 0.5,
        filters: "dict[str, Any] | None" = None,
        options: "dict[str, Any] | None" = None,
    ) -> None:
        self.path, self.score_column, self.max_invalid_fraction = Path(path), score_column, max_invalid_fraction
        self.higher_is_better = higher_is_better
        self.options = {**({"filters": filters} if filters else {}), **(options or {})}
        self.name, self.label = self.path.name, score_column
        self._content: ScoredSet | None = None
        self._hash = ""

    @override
    def open(self, domain: Domain) -> None:
        """Read the file, once.

        Raises:
            GraftError: The file cannot be read, or too many records are invalid.
        """
        if self._content is None:
            path = find_file(self.path)
            content = _finite(self._read_file(domain, path))
            usable = len(content.values) + content.replicates
            if not usable and not content.left_out:
                raise GraftError(f"{path} has no record")
            check_invalid(usable, content.left_out, self.max_invalid_fraction, path, "data.source.max_invalid_fraction")
            self._content, self._hash = content, file_checksum(path)
            averaged = f", {content.replicates} of them averaged as replicates" if content.replicates else ""
            remarks = "; ".join(each for each in (describe_invalid(content.left_out), *content.notes) if each)
            counts = f"{len(content.values)} objects of {usable} records{averaged}"
            distributed.rank_zero_print(f"{self.path}: {counts}" + (f" ({remarks})" if remarks else ""))

    def _read_file(self, domain: Domain, path: Path) -> ScoredSet:
        """Return the content of the file.

        Raises:
            GraftError: The file cannot be read, or the domain's reader has no such option.
        """
        read: Any = domain.read_scored
        _, _, *parameters = signature(read).parameters.values()  # without the path and the score
        any_name = any(each.kind is Parameter.VAR_KEYWORD for each in parameters)
        for name in self.options:
            if name in ("path", "score") or not (any_name or name in [each.name for each in parameters]):
                where = "data.source.filters" if name == "filters" else f"data.source.options.{name}"
                raise GraftError(
                    f"{where} is set, and {type(domain).__name__} reads scored files without it: remove it"
                )
        content: ScoredSet = read(path, self.score_column, **self.options)
        return content

    @override
    def origin(self, domain: Domain, policy: Policy, number: int, precision: str) -> dict[str, Any]:
        """Return the hash of the file and the name of the score, the same in every round."""
        self.open(domain)
        name = f"{type(domain).__module__}.{type(domain).__qualname__}"
        given = {"options": fingerprint_hash(self.options)} if self.options else {}
        return {"version": VERSION, "domain": name, "file": self._hash, "score": self.score_column, **given}

    @property
    def _read(self) -> ScoredSet:
        assert self._content is not None, "opened first"
        return self._content

    @override
    def count(self, draws: int) -> int:
        """Return the number of objects in the file."""
        return len(self._read.values)

    @override
    def preloaded(self, rows: slice) -> "tuple[Chunk, Scores, list[str]] | None":
        content = self._read
        chunk = Chunk(take(content.state, rows), {}, take(content.condition, rows))
        return chunk, Scores(content.values[rows]), content.keys[rows]

    @property
    @override
    def left_out(self) -> list[tuple[int, str]]:
        return self._read.left_out

    @property
    @override
    def summary(self) -> dict[str, Any]:
        content = self._read
        left_out = count_by_reason(content.left_out)
        return {
            "score": self.score_column,
            "objects": len(content.values),
            "replicates": content.replicates,
            "filtered": content.filtered,
            "invalid_by_reason": left_out,
            "notes": content.notes,
        }


def _finite(content: ScoredSet) -> ScoredSet:
    """Return the set without non-finite scores and states; the invalid records are listed."""
    values = torch.tensor(content.values, dtype=torch.float64)
    fields = [content.state] if isinstance(content.state, Tensor) else [*content.state.values()]
    states = [field.reshape(len(field), -1).isfinite().all(1) for field in fields]
    good = torch.stack([values.isfinite(), *states]).all(0) if len(values) else torch.ones(0, dtype=torch.bool)
    if bool(good.all()):
        return content
    rows = good.nonzero()[:, 0]
    whys = {
        i: "the score is not finite" if not values[i].isfinite() else "the state is not finite"
        for i in (~good).nonzero()[:, 0].tolist()
    }
    return replace(
        content,
        state=take(content.state, rows),
        condition=take(content.condition, rows),
        values=[content.values[i] for i in rows.tolist()],
        keys=[content.keys[i] for i in rows.tolist()],
        left_out=[*content.left_out, *((i + 1, why) for i, why in whys.items())],
    )
