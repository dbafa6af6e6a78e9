"""Where the samples of a round come from: the reference, the current model, or a file that is scored already."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from graft import distributed, files
from graft.errors import GraftError
from graft.fingerprint import fingerprint_hash, public_attributes
from graft.network import trainable_parameters
from graft.reward import Scores
from graft.rounds.round_store import Chunk
from graft.rounds.summary import by_reason
from graft.sharding import full_tensor
from graft.solvers import Euler
from graft.state import Condition, State, take

if TYPE_CHECKING:
    from graft.module import GraftModule

VERSION = 2  # of what the same origin draws: raised whenever the code draws something else


@dataclass
class ScoredSet:
    """Objects that somebody scored, as a domain reads them.

    Attributes:
        state: (B, ...) at level 0.
        condition: What a model would have been given for each.
        values: (B,) scores.
        keys: (B,) canonical keys.
        left_out: (record, why) of what could not be used; records are counted from 1.
        replicates: Records whose score went into the mean of an earlier one's of the same object.
    """

    state: State
    condition: Condition
    values: list[float]
    keys: list[str]
    left_out: list[tuple[int, str]] = field(default_factory=list)
    replicates: int = 0


class Source(ABC):
    """Where samples come from."""

    name: str
    label: str = ""  # of the scores that come with the samples
    behaviour: Literal["reference", "current"]  # whose law a sampler's draws would have had: which targets are right
    is_model: bool = True  # by a model, and scored by a reward; else both are there already

    def open(self, module: "GraftModule") -> None:  # noqa: B027  (models have nothing to read)
        """Get ready.

        Raises:
            GraftError: It cannot be read.
        """

    @abstractmethod
    def origin(self, module: "GraftModule", number: int) -> dict[str, Any]:
        """What the draws of round ``number`` depend on, by name."""

    def count(self, draws: int) -> int:
        """Samples in a round for which ``draws`` are asked."""
        return draws

    def preloaded(self, rows: slice) -> "tuple[Chunk, Scores, list[str]] | None":
        """(samples, scores, keys) of some rows; None if they are yet to be drawn."""
        return None

    @property
    def left_out(self) -> list[tuple[int, str]]:
        """(record from 1, why) of what could not be used."""
        return []

    @property
    def summary(self) -> dict[str, Any]:
        """Of a scored set, for the summary: the score's name, objects, replicates, and records left out by reason."""
        return {}


class ModelSource(Source):
    """Draws of the reference, the same law in every round, or of the current model.

    Args:
        name: ``reference`` or ``current``.
    """

    def __init__(self, name: Literal["reference", "current"]) -> None:
        self.name, self.behaviour = name, name

    def origin(self, module: "GraftModule", number: int) -> dict[str, Any]:
        """See `Source.origin`."""
        drawing = module.backbone if module.corrector is None else module.reference
        origin: dict[str, Any] = {
            "version": VERSION,
            "domain": f"{type(module).__module__}.{type(module).__qualname__}",
            "network": fingerprint_hash(public_attributes(drawing)),
            "process": fingerprint_hash(module.process),
            "steps": module.steps,
            **({} if type(module.solver) is Euler else {"solver": fingerprint_hash(module.solver)}),
            "seed": module.seed,
            "reference": (module.reference_file or {}).get("sha256"),
            "round": number,
        }
        if module.cache_key_extras is not None:
            origin["given"] = fingerprint_hash(module.cache_key_extras)
        if (precision := module.trainer.precision) != "32-true":
            origin["precision"] = precision
        if self.name == "current":
            with module.eval_weights("current"):
                weights = {name: full_tensor(weight) for name, weight in trainable_parameters(module.backbone).items()}
                origin |= {"weights": files.hash_tensors(weights), "level": module.level}
                origin |= {"start": module.upper_level} if module.upper_level < 1 else {}
            if module.corrector is not None:
                origin["corrector"] = fingerprint_hash(module.corrector)
        return origin


class ScoredFileSource(Source):
    """A file of objects and their scores (assay tables, ratings): nothing is sampled, nothing is scored.

    There are no trajectories, so a level above 0 has the law of the objects noised to it.

    Args:
        path: In a format that the domain reads.
        score: Name of the column or property.
        most_left_out: Share of unusable records above which it is refused.
    """

    behaviour = "current"
    is_model = False

    def __init__(self, path: "str | Path", score: str, most_left_out: float = 0.5) -> None:
        self.path, self.score, self.most_left_out = Path(path), score, most_left_out
        self.name, self.label = self.path.name, score
        self._content: ScoredSet | None = None
        self._hash = ""

    def open(self, module: "GraftModule") -> None:
        """Read the file, once.

        Raises:
            GraftError: It cannot be read, or too many records are unusable.
        """
        if self._content is None:
            path = files.find_file(self.path)
            content = _finite(module.read_scored(path, self.score))
            usable, unusable = len(content.values) + content.replicates, len(content.left_out)
            if not usable or unusable > self.most_left_out * (usable + unusable):
                first = f" (first: record {content.left_out[0][0]}: {content.left_out[0][1]})" if unusable else ""
                raise GraftError(
                    f"{unusable} of {usable + unusable} records of {path} cannot be used{first}; the most that is "
                    f"allowed is {self.most_left_out:.0%}: mend the file, or raise data.max_invalid_fraction"
                )
            self._content, self._hash = content, files.sha256(path)
            averaged = f", {content.replicates} of them averaged as replicates" if content.replicates else ""
            left_out = "; ".join(f"{number} left out: {why}" for why, number in by_reason(content.left_out).items())
            told = f"{len(content.values)} objects of {usable} records{averaged}"
            distributed.rank_zero_print(f"{self.path}: {told}" + (f" ({left_out})" if left_out else ""))

    def origin(self, module: "GraftModule", number: int) -> dict[str, Any]:
        """See `Source.origin`; the same in every round."""
        self.open(module)
        domain = f"{type(module).__module__}.{type(module).__qualname__}"
        return {"version": VERSION, "domain": domain, "file": self._hash, "score": self.score}

    @property
    def _read(self) -> ScoredSet:
        assert self._content is not None, "opened first"
        return self._content

    def count(self, draws: int) -> int:
        """All there are."""
        return len(self._read.values)

    def preloaded(self, rows: slice) -> "tuple[Chunk, Scores, list[str]] | None":
        """See `Source.preloaded`."""
        content = self._read
        condition = take(content.condition, rows)
        assert isinstance(condition, dict)
        return Chunk(take(content.state, rows), {}, condition), Scores(content.values[rows]), content.keys[rows]

    @property
    def left_out(self) -> list[tuple[int, str]]:
        """See `Source.left_out`."""
        return self._read.left_out

    @property
    def summary(self) -> dict[str, Any]:
        """See `Source.summary`."""
        content = self._read
        left_out = by_reason(content.left_out)
        return {
            "score": self.score,
            "objects": len(content.values),
            "replicates": content.replicates,
            "invalid_by_reason": left_out,
        }


def _finite(content: ScoredSet) -> ScoredSet:
    """Return the set without the objects whose score or state is not finite, which are listed as left out."""
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
    condition = take(content.condition, rows)
    assert isinstance(condition, dict)
    return replace(
        content,
        state=take(content.state, rows),
        condition=condition,
        values=[content.values[i] for i in rows.tolist()],
        keys=[content.keys[i] for i in rows.tolist()],
        left_out=[*content.left_out, *((i + 1, why) for i, why in whys.items())],
    )


def make_source(name: str, score: "str | None", most_left_out: float) -> Source:
    """The source of that name: ``reference``, ``current`` or a path.

    Raises:
        GraftError: It is a path and there is no ``score``, or the other way round.
    """
    if name in ("reference", "current"):
        if score is not None:
            raise GraftError(f"data.score_column names the column of a scored file, but data.source is '{name}'")
        return ModelSource(name)  # type: ignore[arg-type]
    if Path(name).suffix == "":
        raise GraftError(f"data.source is '{name}', but it is 'reference', 'current', or the path of a scored file")
    if score is None:
        raise GraftError(f"data.source is the file {name}: name the column of its scores with data.score_column")
    return ScoredFileSource(name, score, most_left_out)
