"""Try the hooks that a run needs on a few samples, so that errors appear before round 1."""

import math
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from graft.core.datatypes import Weights
from graft.core.distributed import gathered, shared_errors
from graft.dataloaders.sampling import SampleRequests, sample_batch
from graft.domain import Domain, hooks
from graft.errors import GraftError

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

COUNT = 4  # number of samples in the trial


def try_hooks(
    domain: Domain, trainer: "Trainer", scored: bool, features: bool, known: bool, count: int, weights: Weights
) -> None:
    """Call each hook of a domain once with a few samples.

    No reward is called, and random states are restored. The strategy of the trainer must be set up. All ranks must call
    the function.

    Args:
        domain: Domain of the objects.
        trainer: Trainer of the run.
        scored: True if samples have rewards.
        features: True if the run needs features of objects.
        known: True if the run needs the keys of the training data.
        count: Number of samples in an evaluation. A metric that fails on a few samples is tried on this number.
        weights: Name of the weights that sample.

    Raises:
        GraftError: A hook fails. The message names the hook and the domain.
    """
    with _replayed():
        items, condition = _sampled(domain, trainer, COUNT, weights)
        with shared_errors(trainer):
            domain.group(condition)
            keys = [domain.key(item) for item in items] if domain.supports("key") else []
            if known:
                _known(domain, keys)
            if features:
                domain.features(items)
            uncomputable = _uncomputable(domain, items)
        # all ranks sample, or none does: a sharded network is called by all of them
        if any(gathered(trainer, uncomputable)):
            enough, _ = _sampled(domain, trainer, count, weights)
            with shared_errors(trainer):
                for name, metric in domain.metrics().items():
                    hooks.update(metric, name, enough)
                    hooks.compute(metric, name)
        with shared_errors(trainer):
            legends = ["0"] * len(items)
            domain.render(items, legends)
            domain.render_html(items, legends)
            # a reward that failed is NaN
            _written(domain, items, [*([0.0] * (len(items) - 1)), math.nan] if scored else None)


def _sampled(domain: Domain, trainer: "Trainer", count: int, weights: Weights) -> tuple[list[Any], Any]:
    items: list[Any] = []
    requests = SampleRequests(domain, count, min(count, domain.default_batch_size), ("check",), weights)
    for index in range(len(requests)):
        request = requests[index]
        with shared_errors(trainer):
            drawn = sample_batch(trainer, request, index)
        with shared_errors(trainer):
            items += domain.decode(drawn.state, request.condition)
    return items, requests[0].condition


def _known(domain: Domain, keys: list[str]) -> None:
    found = domain.in_training_set(keys)
    if not isinstance(found, Tensor) or found.dtype != torch.bool or found.shape != (len(keys),):
        raise GraftError(
            f"{type(domain).__qualname__}.in_training_set returned {type(found).__name__}; it must return a bool "
            f"tensor of shape ({len(keys)},), one for each key"
        )


def _uncomputable(domain: Domain, items: list[Any]) -> bool:
    """Return True if a metric cannot be computed from a few objects.

    An error of ``update`` is raised at once, since more objects do not help.
    """
    wrong = False
    for name, metric in domain.metrics().items():
        hooks.update(metric, name, items)
        try:
            hooks.compute(metric, name)
        except GraftError:
            wrong = True
    return wrong


def _written(domain: Domain, items: list[Any], rewards: "list[float] | None") -> None:
    """Write the objects into a temporary folder."""
    if not domain.file_suffix:
        return
    with tempfile.TemporaryDirectory(prefix="graft-") as folder:
        path = Path(folder) / f"samples{domain.file_suffix}"
        with hooks.named(f"{type(domain).__qualname__}.write"):
            domain.write(items, path, rewards=rewards)
        if not any(Path(folder).iterdir()):
            raise GraftError(f"{type(domain).__qualname__}.write wrote no file to the given path")


@contextmanager
def _replayed() -> Iterator[None]:
    """Restore all global random states at the end of the block."""
    python, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
