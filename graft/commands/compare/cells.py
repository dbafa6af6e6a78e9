"""The lines of a comparison's table: each method at each level, with the flags of its runs."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from graft.commands.compare.methods import SPLIT, Method
from graft.commands.compare.setup import Budget, Setup
from graft.commands.compare.spec import ComparisonSpec, require_distinct
from graft.errors import GraftError

COMMON = [
    *["--data.evaluation.validation_draws", "0", "--data.storage.save_round_weights", "true"],
    *["--data.storage.keep_last_rounds", "null"],
]
"""Flags of every run. Validation takes rewards for curves only, and a method with more rounds would take more."""


@dataclass(frozen=True)
class Cell:
    """A method at a level: a line of the table, over seeds.

    Attributes:
        method: The method with its number.
        level: The given level, a number or ``auto``; None if the method fixes the level.
        rounds: Number of rounds after which the weights are taken; None for the last.
    """

    method: Method
    level: "float | str | None" = None
    rounds: "int | None" = None

    @property
    def label(self) -> str:
        """Label of the method, with the level and an earlier round if there are any: ``pgraft@0.25 round 2``."""
        at = "" if self.rounds is None else f" round {self.rounds}"
        return self._at_level(self.method.label) + at

    @property
    def path(self) -> str:
        """Name of the path that the line is a point of: its run's, or that of the method with other numbers."""
        return self._at_level(self.method.path or self.method.label)

    def _at_level(self, name: str) -> str:
        level = f"{self.level:g}" if isinstance(self.level, float) else self.level
        return name if level is None else f"{name}@{level}"

    def run(self, seed: int, level: "float | None") -> "str | None":
        """Return the name of the folder of the run that gives the weights; None for the reference."""
        if self.method.weights == "reference":
            return None
        at = "" if level is None or self.method.weights == "graft" else f"_{level:.4g}"
        label = "graft" if self.method.weights == "graft" else self.method.label.replace(":", "_")
        return f"{label}{at}_seed{seed}"


def cells(spec: ComparisonSpec, built: Setup) -> list[Cell]:
    """Return the lines of the table.

    Raises:
        GraftError: A method has no level, or its number does not fit the configuration.
    """
    own = built.module.level_setting
    levels = spec.levels or (own if isinstance(own, str) else float(own),)
    out = []
    for method in spec.methods:
        method = _resolved(method, built)
        trains_model = method.weights != "reference" and method.levels != "fixed"
        if trains_model and built.module.policy.corrector is not None:
            raise GraftError(f"{method.name} tunes the model itself: leave out model.corrector, or give it in a file")
        if method.levels in ("zero", "fixed"):
            out.append(Cell(method))
            continue
        at = [level for level in levels if level != 0 or method.levels == "each"]
        if not at:
            raise GraftError(f"{method.name} at level 0 is graft. Give --levels above 0, or another method.")
        out += [Cell(method, level) for level in at]
    require_distinct("method", [cell.label for cell in out])
    return out


def earlier(line: Cell, rounds: int, points: int) -> list[Cell]:
    """Return the lines of a run's earlier rounds, which with its last are ``points`` or all of its ``rounds``.

    Methods that sample with the weights of another run have none.
    """
    if line.method.weights != "own":
        return []
    chosen = sorted({round(rounds * k / points) for k in range(1, points)} - {0, rounds})
    return [dataclasses.replace(line, rounds=each) for each in chosen]


def baseline(spec: ComparisonSpec, lines: Sequence[Cell]) -> str:
    """Return the label of the line that differences are taken to.

    Raises:
        GraftError: There is no such line.
    """
    whole = [line for line in lines if line.rounds is None]
    if not spec.baseline:
        return whole[0].label
    for line in whole:
        if spec.baseline in (line.label, line.method.label, line.method.name):
            return line.label
    raise GraftError(f"--baseline is {spec.baseline!r}; it must be one of {', '.join(line.label for line in whole)}")


def training_flags(cell: Cell, seed: int, level: "float | None", base: Budget, built: Setup) -> list[str]:
    """Return the flags of the run that trains the weights of a line, on top of the user's flags.

    Args:
        cell: Line of the table.
        seed: Seed of the run.
        level: Level of the line; the chosen level for ``auto``.
        base: Budget of the configuration's own run.
        built: Objects of the configuration.
    """
    flags = ["--seed_everything", str(seed), *cell.method.flags, *COMMON]
    if cell.method.levels == "zero" or cell.method.weights == "graft":
        flags += ["--model.level", "0"]
    elif level is not None:
        flags += ["--model.level", repr(level)]
    if cell.method.splits_rounds:
        rounds = built.trainer.max_epochs or 1
        parts = _parts(cell.method, base, rounds, built)
        flags += ["--trainer.max_epochs", str(rounds * parts), "--data.draws", str(built.data.draws // parts)]
        flags += ["--data.steps_per_round", str(built.data.steps_per_epoch // parts)]
    return flags


def sampling_flags(cell: Cell, seed: int, level: "float | None", base: Budget, built: Setup) -> list[str]:
    """Return the flags for sampling: those of the run, with the level of the line."""
    flags = training_flags(cell, seed, level, base, built)
    return [*flags, "--model.level", repr(level)] if level is not None else flags


def _resolved(method: Method, built: Setup) -> Method:
    """Return the method with the number that a rule sets."""
    if method.name != "graft_early":
        return method
    rounds = built.trainer.max_epochs or 1
    if rounds < 2:
        raise GraftError(
            f"trainer.max_epochs is {rounds}; it must be at least 2 for graft_early, which takes the weights of an "
            "earlier round. Raise trainer.max_epochs."
        )
    value = max(1, rounds // 2) if math.isnan(method.value) else method.value
    if value >= rounds:
        raise GraftError(f"ROUND of graft_early is {value:g}; it must be below {rounds}, the number of rounds")
    return dataclasses.replace(method, value=float(value))


def _parts(method: Method, base: Budget, rounds: int, built: Setup) -> int:
    """Return the number of parts of a round.

    It is the largest number up to `SPLIT` that leaves whole batches and whole numbers.
    """
    data = built.data
    whole = math.gcd(data.draws, data.steps_per_epoch, base.reward_calls // rounds)
    if not math.isnan(method.value):
        if whole % int(method.value):
            raise GraftError(
                f"K of {method.label} is {method.value:g}; it must divide {whole}, since a round has {data.draws} "
                f"draws and {data.steps_per_epoch} steps"
            )
        return int(method.value)
    return max(k for k in range(1, SPLIT + 1) if whole % k == 0 and (k == 1 or data.draws // k >= data.batch_size))
