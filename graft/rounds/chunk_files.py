"""The tensors of draws in a file: states, conditions, and states at recorded levels by their step on the grid."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from graft.core.datatypes import Chunk
from graft.core.state import flatten, unflatten
from graft.errors import GraftError
from graft.sampler import step_of


def grid_metadata(levels: Sequence[float], steps: "int | None") -> dict[str, Any]:
    """Return the recorded levels as metadata: the number of sampler steps, and the index of each level in the grid.

    The index names a level exactly, in files of any program, which the decimal digits of a float do not.
    """
    if not levels:
        return {"steps": steps, "recorded": []}
    assert steps is not None, "recorded levels lie on the grid of a sampler"
    return {"steps": steps, "recorded": [step_of(level, steps) for level in levels]}


def recorded_levels(about: dict[str, Any]) -> list[float]:
    """Return the recorded levels of a file from its metadata.

    Raises:
        ValueError: The metadata holds no steps of a sampler.
    """
    steps, recorded = about["steps"], about["recorded"]
    if recorded and not (isinstance(steps, int) and all(isinstance(i, int) and 0 <= i <= steps for i in recorded)):
        raise ValueError("no steps of a sampler")
    return [(steps - i) / steps for i in recorded]


def chunk_to_tensors(chunk: Chunk, levels: Sequence[float], grid: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a chunk by name, with the states at ``levels``."""
    tensors = flatten(chunk.state, "state") | flatten(chunk.condition, "condition")
    for level, step in zip(levels, grid["recorded"], strict=True):
        tensors |= flatten(chunk.recorded[level], f"step/{step}")
    return tensors


def chunk_from_tensors(
    path: Path, tensors: dict[str, Tensor], about: dict[str, Any], rows: "int | None" = None
) -> Chunk:
    """Return the chunk of tensors by name.

    Args:
        path: The file, for the message.
        tensors: Its tensors.
        about: Its metadata.
        rows: Number of draws; None for any number.

    Raises:
        GraftError: The tensors are no draws.
    """
    try:
        condition = unflatten(tensors, "condition")
        recorded = {
            level: unflatten(tensors, f"step/{step}")
            for level, step in zip(recorded_levels(about), about["recorded"], strict=True)
        }
        chunk = Chunk(unflatten(tensors, "state"), recorded, condition if isinstance(condition, dict) else {})
        sizes = {len(tensor) for tensor in tensors.values()}
        if len(sizes) != 1 or rows not in (None, *sizes) or not (len(chunk.state) and chunk.condition):
            raise ValueError("not a state and a condition for each draw")
        return chunk
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError) as error:
        raise GraftError(f"{path} holds no draws ({error})") from None
