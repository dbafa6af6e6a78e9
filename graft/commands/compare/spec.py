"""The arguments of ``graft compare``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graft.commands.compare.accepted_distribution import SEED
from graft.commands.compare.methods import METHODS, Method, parse_method
from graft.core import limits
from graft.errors import GraftError


@dataclass(frozen=True)
class ComparisonSpec:
    """The arguments of ``graft compare``.

    Attributes:
        methods: Methods in the order of the table.
        seeds: Seeds of the runs.
        levels: Levels as numbers, or ``auto``; empty for the level of the configuration.
        baseline: Label or name of the method that differences are taken to; the first method if empty.
        target_draws: Number of draws of the reference for the accepted distribution, in whole rounds; 0 for as many as
            a run has.
        path: Number of rounds, spread evenly over each run and with its last, whose weights are evaluated.
    """

    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    levels: "tuple[float | str, ...]" = ()
    baseline: str = ""
    target_draws: int = 0
    path: int = 1

    def describe(self) -> dict[str, Any]:
        """Return the settings that rows depend on in addition to the configuration, in plain values."""
        methods = {m.label: {"settings": list(m.flags), "content": m.content} for m in self.methods}
        return {
            "methods": methods,
            "target_draws": self.target_draws,
            "matched": "by condition",
            "drift": "to all rounds",
        }


def parse_spec(
    methods: str, seeds: str, levels: str = "", baseline: str = "", target_draws: str = "0", path: str = "1"
) -> ComparisonSpec:
    """Return the arguments of the command, which are lists with commas.

    Raises:
        GraftError: A list is empty, or an entry is unknown, out of range or given twice.
    """
    names = _list(methods)
    if not names:
        raise GraftError(
            f"--methods is empty; it must name methods. Give --methods a,b of {', '.join(METHODS)}, or configuration "
            "files."
        )
    found = tuple(parse_method(name) for name in names)
    require_distinct("method", [method.label for method in found])
    if not _list(seeds):
        raise GraftError("--seeds is empty; it must name seeds. Give --seeds 0,1,2.")
    numbers = tuple(_int("--seeds", seed) for seed in _list(seeds))
    require_distinct("seed", numbers)
    if wrong := [seed for seed in numbers if seed < 0 or seed == SEED]:
        raise GraftError(f"--seeds has {wrong[0]}; a seed must be a whole number of at least 0, and not {SEED}")
    values = tuple(_level(level) for level in _list(levels))
    require_distinct("level", values)
    draws = _int("--target_draws", target_draws)
    limits.check("--target_draws", draws, 0)
    points = _int("--path", path)
    limits.check("--path", points, 1)
    return ComparisonSpec(found, numbers, values, baseline, draws, points)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.strip().strip("[]").split(",") if part.strip()]


def _int(what: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise GraftError(f"{what} has {text!r}; it must be a whole number") from None


def _level(text: str) -> "float | str":
    if text == "auto":
        return text
    try:
        level = float(text)
    except ValueError:
        level = math.nan
    if not 0 <= level < 1:
        raise GraftError(f"--levels has {text!r}; a level must be in [0, 1), or 'auto'")
    return level


def require_distinct(what: str, values: Sequence[Any]) -> None:
    """Raise GraftError if a value is there twice."""
    for i, value in enumerate(values):
        if value in values[:i]:
            raise GraftError(f"the {what} {value} is given twice. Give it once.")
