"""Domain: what graft has to know about a kind of object. A domain plugin implements it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Generator, Tensor
from torchmetrics import Metric

from graft.core.datatypes import ScoredSet, TrainingBatch
from graft.core.state import Condition, State, size
from graft.domain import distance, hooks
from graft.errors import GraftError


class Domain(ABC):
    """The contract of a domain: `sample_conditions` and `decode`, and a hook for each further ability of graft.

    A hook that a domain does not implement raises `GraftError` if it is needed; `supports` tests for a hook.

    Attributes:
        has_fixed_part: A part of every sample is fixed; `apply_constraint` puts it into the network's output.
        num_resamples: Number of RePaint resamplings of each sampler step (Lugmayr et al. 2022). More resamplings make
            the fixed and the generated part more consistent.
        file_suffix: Suffix of the domain's main file format, with the dot; "" if it has none.
        file_suffixes: Suffixes of all formats that `write` knows; empty if `write` checks the suffix itself.
        default_batch_size: Number of samples in a batch where no data module gives one.
        dataset_statistics: Tensors that describe the reference's training data. Weights files hold them.
        seed: Seed of all random numbers.
    """

    has_fixed_part: bool = False
    num_resamples: int = 1
    file_suffix: str = ""
    file_suffixes: tuple[str, ...] = ()
    default_batch_size: int = 128
    dataset_statistics: dict[str, Tensor]
    seed: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Guard the hooks that a domain defines, so that an error in a hook names the hook."""
        super().__init_subclass__(**kwargs)
        hooks.guard(cls, Domain)

    def supports(self, hook: str) -> bool:
        """Return whether the domain implements a hook, for example ``supports("features")``."""
        return getattr(type(self), hook) is not getattr(Domain, hook)

    @abstractmethod
    def sample_conditions(self, count: int, generator: Generator) -> Condition:
        """Sample the conditions of ``count`` samples: a dict of at least one tensor with ``count`` rows."""

    @abstractmethod
    def decode(self, state: State, condition: Condition) -> list[Any]:
        """Return the object of each final state, of any quality."""

    def conditions_for(
        self, purpose: "tuple[int | str, ...]", start: int, count: int, generator: Generator
    ) -> Condition:
        """Return the conditions of samples ``start`` to ``start + count`` for a purpose.

        Override it if conditions form a fixed list, for example prompts. The default samples fresh ones.

        Args:
            purpose: What the samples are for, for example ``("rollout", 3)`` for those of round 3.
            start: Number of the first sample.
            count: Number of samples.
            generator: Source of random numbers.
        """
        return self.sample_conditions(count, generator)

    def group(self, condition: Condition) -> Tensor:
        """Return (B,) the integer of each sample's condition. A rule ranks samples within a group."""
        return torch.zeros(size(condition), dtype=torch.long)

    def key(self, item: Any) -> str:
        """Return the canonical key of an object; equal keys are duplicates.

        An empty key marks an invalid object. It equals no other key, and the object is never a hit.
        """
        raise GraftError(f"{type(self).__name__} has no key for its objects: de-duplication needs one")

    def in_training_set(self, keys: Sequence[str]) -> Tensor:
        """Return (n,) bool: the reference was trained on an object with that key."""
        raise GraftError(f"{type(self).__name__} does not know its training data: novelty needs that")

    def features(self, items: Sequence[Any]) -> Tensor:
        """Return (n, d) features of objects for comparisons; zeros for an invalid object."""
        raise GraftError(f"{type(self).__name__} has no features for its objects: similarity and distances need them")

    def distances(self) -> Mapping[str, Callable[[Tensor, Tensor], float]]:
        """Return distances of features (n, d) and (m, d) by snake_case name; the first one decides.

        The default is the Fréchet distance of features. Without features it is the sliced Wasserstein distance of
        states.
        """
        if self.supports("features"):
            return {"frechet": distance.frechet}
        return {"sliced_wasserstein": distance.sliced_wasserstein}

    def metrics(self) -> Mapping[str, Metric]:
        """Return fresh metrics by name in snake_case, shares as fractions.

        Each metric takes a list of objects and gives a number, or a dict of numbers by name. A metric with an attribute
        ``monitored`` that is False is shown and raises no alarm.
        """
        return {}

    def caption(self, item: Any) -> str:
        """Return the condition of an object in words, such as its prompt; "" if there is only one condition.

        Objects of one caption are compared with each other where people rate them.
        """
        return ""

    def render(self, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> "bytes | None":
        """Return a PNG of objects in a grid, or None if the domain has no pictures.

        A single object should be large, because people rate pictures of one object.
        """
        return None

    def render_html(self, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> str:
        """Return self-contained HTML with a 3-D viewer, or "" if there is none."""
        return ""

    def table_columns(self, items: Sequence[Any]) -> Mapping[str, Sequence[str]]:
        """Return cells that describe objects in tables, by the name of their column; {} for none."""
        return {}

    def postprocess(self, items: Sequence[Any]) -> list[Any]:
        """Return cleaned copies of objects for export. Metrics and rewards use the raw samples."""
        raise GraftError(f"{type(self).__name__} has nothing to clean in its objects: leave out --postprocess")

    def write(self, items: Sequence[Any], path: Path, rewards: "Sequence[float] | None" = None) -> None:
        """Write objects, and their rewards if given, to a file. The suffix of the file is its format."""
        raise GraftError(f"{type(self).__name__} has no file format")

    def to_file(self, item: Any) -> tuple[str, bytes]:
        """Return (suffix, content) of a file of one object, for programs other than graft.

        The default is the file that `write` writes with ``file_suffix``.

        Raises:
            GraftError: The domain has no file format, or the object cannot be written.
        """
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"object{self.file_suffix}"
            self.write([item], path)
            if not path.is_file():
                raise GraftError(f"{type(self).__name__} has no format of a single file: define its to_file")
            return self.file_suffix, path.read_bytes()

    def read_scored(self, path: Path, score: str) -> ScoredSet:
        """Return the objects of a file with the scores in its column or property ``score``.

        A record that cannot be used is listed with the reason. A domain whose reader has settings takes them as further
        keyword arguments: ``filters`` is ``data.source.filters``, and the others are those of ``data.source.options``.

        Raises:
            GraftError: The file has another format, or no column or property ``score``.
        """
        raise GraftError(f"{type(self).__name__} reads no files of scored objects")

    def load_condition(self, path: Path) -> None:
        """Read the fixed part of all samples from a file of the user (``graft sample --condition FILE``).

        Raises:
            GraftError: The file cannot be read, or the domain has no fixed parts.
        """
        raise GraftError(f"{type(self).__name__} has no condition files")

    def apply_constraint(self, output: State, condition: Condition) -> State:
        """Replace the fixed part of the network's output by its given value; only while sampling."""
        return output

    @property
    def cache_key_extras(self) -> Any:
        """Return further settings that samples depend on, for their cache key, or None."""
        return None

    def encode(self, batch: Any) -> tuple[State, Condition]:
        """Return (states at level 0, conditions) of a batch of the domain's data set, to train a reference."""
        raise GraftError(f"{type(self).__name__} cannot train on data: it has no encode")

    def augment(self, batch: TrainingBatch, generator: "Generator | None" = None) -> TrainingBatch:
        """Return the batch that the network is trained on, for example with some prompts dropped."""
        return batch

    def auxiliary_loss(self, batch: TrainingBatch, level: Tensor) -> "Tensor | None":
        """Return an auxiliary loss (B,) from the outputs of the network's last call, or None."""
        return None

    def export(self, folder: Path) -> None:  # noqa: B027  (most domains export nothing)
        """Write the tuned model into the run's folder in a form that other programs of the field read.

        All ranks call it, because weights may be sharded. Rank 0 writes.
        """
