"""Sample objects, evaluate samples, and write samples as files and pictures."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from graft import report
from graft.core import limits
from graft.core.datatypes import Weights
from graft.dataloaders.sampling import SampleRequests, sample_objects
from graft.errors import GraftError
from graft.evaluation import SampleEvaluator
from graft.io.atomic import write_bytes, write_with
from graft.module import GraftModule
from graft.report import hits
from graft.rollouts import feasible

SHOWN = 24  # number of objects in a picture


def sample_chunks(
    module: GraftModule,
    trainer: Trainer,
    count: int,
    purpose: str = "sample",
    weights: Weights = "tuned",
    chunk: "int | None" = None,
) -> "list[tuple[list[Any], int]]":
    """Sample objects and return (objects, denoiser calls) of each chunk.

    Args:
        module: The model.
        trainer: The trainer that samples.
        count: Number of samples.
        purpose: Word that seeds the conditions and the noise.
        weights: Name of the weights that sample.
        chunk: Number of samples in a chunk; the default of the domain if None.

    Raises:
        GraftError: The samples take more than a year, or more than the memory.
    """
    feasible.check_sampling(module, module.policy, "-n", count)
    return list(
        sample_objects(
            module, trainer, SampleRequests(module, count, chunk or module.default_batch_size, (purpose,), weights)
        )
    )


def sample(
    module: GraftModule,
    count: int,
    seed: "int | None" = None,
    weights: Weights = "tuned",
    trainer: "Trainer | None" = None,
) -> list[Any]:
    """Return ``count`` objects of a model, those of ``graft sample`` with the same seed.

    Args:
        module: The model, for example from `from_pretrained`.
        count: Number of objects.
        seed: Seed of the conditions and the noise; the seed of the module if None.
        weights: ``tuned`` or ``reference``.
        trainer: Trainer that samples; one device of this machine without a progress bar if None.

    Raises:
        GraftError: The samples take more than a year, or more than the memory.
    """
    if trainer is None:
        quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
        trainer = Trainer(devices=1, enable_progress_bar=False, **quiet)
    limits.check("count", count, 1)
    before = module.seed
    module.seed = before if seed is None else seed
    try:
        return [item for items, _ in sample_chunks(module, trainer, count, weights=weights) for item in items]
    finally:
        module.seed = before


def evaluate_both(module: GraftModule, data: Any, trainer: Trainer) -> None:
    """Evaluate fresh samples of the reference and of the tuned model from the same noise."""
    try:
        trainer.test(module, data, verbose=False)
    finally:
        if data.reward is not None:
            data.reward.teardown()


def write_samples(module: GraftModule, folder: Path) -> None:
    """Write the evaluated samples of each evaluator as a file and a picture."""
    for name, evaluator in module.evaluators.items():
        if module.file_suffix:
            path = folder / "samples" / f"{name}{module.file_suffix}"
            write_with(path, partial(module.write, evaluator.items, rewards=evaluator.rewards or None))
        png = render_samples(module, evaluator)
        if png is not None:
            write_bytes(folder / "samples" / f"{name}.png", png)


def render_samples(module: GraftModule, evaluator: SampleEvaluator) -> "bytes | None":
    """Return a PNG of the first evaluated objects, or None if the domain renders none."""
    legends = [report.format_number(reward) for reward in evaluator.rewards[:SHOWN]]
    return module.render(evaluator.items[:SHOWN], legends or None)


def sample_table(module: GraftModule, evaluator: SampleEvaluator) -> tuple[list[str], list[list[Any]]]:
    """Return (names of the columns, rows) of the first evaluated objects, those of the picture."""
    columns = _columns(module, evaluator.items[:SHOWN], evaluator.rewards[:SHOWN])
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def table(module: GraftModule, objects: Sequence[Any], rewards: Sequence[float] = ()) -> list[dict[str, Any]]:
    """Return a row for each object, which ``pandas.DataFrame`` takes.

    The columns are the reward, the condition in words, the key, and the objects' own columns, such as the SMILES of
    molecules. A column that the domain does not have is left out.

    Args:
        module: The model of the objects.
        objects: The objects.
        rewards: Reward of each object, for example of ``data.reward(objects).values``; empty for none.

    Raises:
        GraftError: There is not one reward for each object.
    """
    if rewards and len(rewards) != len(objects):
        raise GraftError(
            f"rewards has {len(rewards)} numbers for {len(objects)} objects; it must have one for each object"
        )
    columns = _columns(module, objects, rewards)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _columns(module: GraftModule, items: Sequence[Any], rewards: Sequence[float]) -> dict[str, Sequence[Any]]:
    found: dict[str, Sequence[Any]] = {"reward": rewards} if rewards else {}
    if any(captions := [module.caption(item) for item in items]):
        found["condition"] = captions
    if module.supports("key"):
        found["key"] = [module.key(item) for item in items]
    own = hits.object_columns(module, items, rewards)
    found |= {name: cells for name, cells in own.items() if name not in found}
    return found or {"object": [repr(item) for item in items]}
