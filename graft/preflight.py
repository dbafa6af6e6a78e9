"""A trial of the hooks that a run will need, on a few samples: one that fails does so before the first round."""

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

from graft import hooks
from graft.batches import Weights
from graft.batches.sampling import SampleRequests, sample_batch
from graft.distributed import gathered, shared_errors
from graft.errors import GraftError
from graft.module import GraftModule

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

COUNT = 4  # samples


def check(
    module: GraftModule, trainer: "Trainer", scored: bool, features: bool, known: bool, count: int, weights: Weights
) -> None:
    """Call each hook of the domain once with a few samples; no reward is called, and no random state is moved.

    Within a trainer that has set up its strategy; of several processes all call this.

    Args:
        module: The domain.
        trainer: Of the run.
        scored: Samples have rewards.
        features: The run needs the features of objects.
        known: The run needs to know which keys the training data has.
        count: Samples that the run judges at a time. A metric that cannot be computed of a few samples is tried with
            as many.
        weights: Of the model that is sampled.

    Raises:
        GraftError: A hook fails; the hook and the domain are named.
    """
    with _replayed():
        items, condition = _sampled(module, trainer, COUNT, weights)
        with shared_errors(trainer):
            module.group(condition)
            keys = [module.key(item) for item in items] if module.has_keys else []
            if known:
                _known(module, keys)
            if features:
                module.features(items)
            uncomputable = _uncomputable(module, items)
        # all ranks sample, or none does: a sharded network is called by all of them
        if any(gathered(trainer, uncomputable)):
            enough, _ = _sampled(module, trainer, count, weights)
            with shared_errors(trainer):
                for name, metric in module.metrics().items():
                    hooks.update(metric, name, enough)
                    hooks.compute(metric, name)
        with shared_errors(trainer):
            legends = ["0"] * len(items)
            module.render(items, legends)
            module.render_html(items, legends)
            # a reward that failed is NaN
            _written(module, items, [*([0.0] * (len(items) - 1)), math.nan] if scored else None)


def _sampled(module: GraftModule, trainer: "Trainer", count: int, weights: Weights) -> tuple[list[Any], Any]:
    items: list[Any] = []
    requests = SampleRequests(module, count, min(count, module.default_batch_size), ("check",), weights)
    for index in range(len(requests)):
        request = requests[index]
        with shared_errors(trainer):
            drawn = sample_batch(trainer, request, index)
        with shared_errors(trainer):
            items += module.decode(drawn.state, request.condition)
    return items, requests[0].condition


def _known(module: GraftModule, keys: list[str]) -> None:
    found = module.in_training_set(keys)
    if not isinstance(found, Tensor) or found.dtype != torch.bool or found.shape != (len(keys),):
        raise GraftError(
            f"{type(module).__qualname__}.in_training_set returned {type(found).__name__}; it must return a bool "
            f"tensor of shape ({len(keys)},), one for each key"
        )


def _uncomputable(module: GraftModule, items: list[Any]) -> bool:
    """Whether a metric cannot be computed of a few objects; one that cannot even be updated fails at once."""
    wrong = False
    for name, metric in module.metrics().items():
        hooks.update(metric, name, items)
        try:
            hooks.compute(metric, name)
        except GraftError:
            wrong = True
    return wrong


def _written(module: GraftModule, items: list[Any], rewards: "list[float] | None") -> None:
    """Write the objects into a temporary folder."""
    if not module.file_suffix:
        return
    with tempfile.TemporaryDirectory(prefix="graft-") as folder:
        path = Path(folder) / f"samples{module.file_suffix}"
        with hooks.named(f"{type(module).__qualname__}.write"):
            module.write(items, path, rewards=rewards)
        if not any(Path(folder).iterdir()):
            raise GraftError(f"{type(module).__qualname__}.write wrote nothing to the path that it was given")


@contextmanager
def _replayed() -> Iterator[None]:
    """Within the block random numbers are drawn, and after it they are those of before."""
    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(arrays)
