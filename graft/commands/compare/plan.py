"""The plan of a comparison: every method at every level with every seed, checked before any training."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers.logger import Logger

from graft.commands.compare.accepted_distribution import SEED
from graft.commands.compare.methods import METHODS, SPLIT, Method, parse_method
from graft.core import limits
from graft.errors import GraftError
from graft.module import GraftModule
from graft.rollouts import Rollouts

COMMON = [
    *["--data.evaluation.validation_draws", "0", "--data.storage.save_round_weights", "true"],
    *["--data.storage.keep_last_rounds", "null"],
]
"""Flags of every run. Validation takes rewards for curves only, and a method with more rounds would take more."""


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
    """

    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    levels: "tuple[float | str, ...]" = ()
    baseline: str = ""
    target_draws: int = 0

    def describe(self) -> dict[str, Any]:
        """Return the settings that rows depend on in addition to the configuration, in plain values."""
        methods = {m.label: {"settings": list(m.flags), "content": m.content} for m in self.methods}
        return {"methods": methods, "target_draws": self.target_draws, "matched": "by condition"}


@dataclass
class Setup:
    """The objects that a configuration builds.

    Attributes:
        module: The model.
        data: The rollouts.
        trainer: The trainer, without loggers: samples for the table are not logged.
        config: The configuration as YAML.
        loggers: The user's loggers, for runs that train.
    """

    module: GraftModule
    data: Rollouts
    trainer: Trainer
    config: str
    loggers: "Sequence[Logger]" = ()


Build = Callable[[list[str]], Setup]
"""Function that builds a `Setup` from flags on top of the user's configuration and flags."""


@dataclass(frozen=True)
class Budget:
    """The cost of a whole training run."""

    reward_calls: int
    denoiser_calls: int
    optimizer_steps: int

    def __str__(self) -> str:
        return (
            f"{self.reward_calls:,} reward calls, {self.denoiser_calls:,} denoiser calls in rollouts and "
            f"{self.optimizer_steps:,} optimizer steps"
        )


@dataclass(frozen=True)
class Cell:
    """A method at a level: a line of the table, over seeds.

    Attributes:
        method: The method with its number.
        level: The given level, a number or ``auto``; None if the method fixes the level.
    """

    method: Method
    level: "float | str | None" = None

    @property
    def label(self) -> str:
        """Label of the method, with the level if there is one: ``pgraft@0.25``."""
        level = f"{self.level:g}" if isinstance(self.level, float) else self.level
        return self.method.label if level is None else f"{self.method.label}@{level}"

    def run(self, seed: int, level: "float | None") -> "str | None":
        """Return the name of the folder of the run that gives the weights; None for the reference."""
        if self.method.weights == "reference":
            return None
        at = "" if level is None or self.method.weights == "graft" else f"_{level:.4g}"
        label = "graft" if self.method.weights == "graft" else self.method.label.replace(":", "_")
        return f"{label}{at}_seed{seed}"


def parse_spec(
    methods: str, seeds: str, levels: str = "", baseline: str = "", target_draws: str = "0"
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
    _once("method", [method.label for method in found])
    if not _list(seeds):
        raise GraftError("--seeds is empty; it must name seeds. Give --seeds 0,1,2.")
    numbers = tuple(_int("--seeds", seed) for seed in _list(seeds))
    _once("seed", numbers)
    if wrong := [seed for seed in numbers if seed < 0 or seed == SEED]:
        raise GraftError(f"--seeds has {wrong[0]}; a seed must be a whole number of at least 0, and not {SEED}")
    values = tuple(_level(level) for level in _list(levels))
    _once("level", values)
    draws = _int("--target_draws", target_draws)
    limits.check("--target_draws", draws, 0)
    return ComparisonSpec(found, numbers, values, baseline, draws)


def cells(asked: ComparisonSpec, built: Setup) -> list[Cell]:
    """Return the lines of the table.

    Args:
        asked: Arguments of the command.
        built: Objects of the configuration.

    Raises:
        GraftError: A method has no level, or its number does not fit the configuration.
    """
    own = built.module.level_setting
    levels = asked.levels or (own if isinstance(own, str) else float(own),)
    out = []
    for method in asked.methods:
        method = _resolved(method, built)
        if method.levels in ("zero", "fixed"):
            out.append(Cell(method))
            continue
        at = [level for level in levels if level != 0 or method.levels == "each"]
        if not at:
            raise GraftError(f"{method.name} at level 0 is graft. Give --levels above 0, or another method.")
        out += [Cell(method, level) for level in at]
    _once("method", [job.label for job in out])
    return out


def baseline(asked: ComparisonSpec, lines: Sequence[Cell]) -> str:
    """Return the label of the line that differences are taken to.

    Raises:
        GraftError: There is no such line.
    """
    if not asked.baseline:
        return lines[0].label
    for line in lines:
        if asked.baseline in (line.label, line.method.label, line.method.name):
            return line.label
    raise GraftError(f"--baseline is {asked.baseline!r}; it must be one of {', '.join(j.label for j in lines)}")


def training_flags(job: Cell, seed: int, level: "float | None", base: Budget, built: Setup) -> list[str]:
    """Return the flags of the run that trains the weights of a line, on top of the user's flags.

    Args:
        job: Line of the table.
        seed: Seed of the run.
        level: Level of the line; the chosen level for ``auto``.
        base: Budget of the configuration's own run.
        built: Objects of the configuration.
    """
    flags = ["--seed_everything", str(seed), *job.method.flags, *COMMON]
    if job.method.levels == "zero" or job.method.weights == "graft":
        flags += ["--model.level", "0"]
    elif level is not None:
        flags += ["--model.level", repr(level)]
    if job.method.splits_rounds:
        rounds = built.trainer.max_epochs or 1
        parts = _parts(job.method, base, rounds, built)
        flags += ["--trainer.max_epochs", str(rounds * parts), "--data.draws", str(built.data.draws // parts)]
        flags += ["--data.steps_per_round", str(built.data.steps_per_epoch // parts)]
    return flags


def sampling_flags(job: Cell, seed: int, level: "float | None", base: Budget, built: Setup) -> list[str]:
    """Return the flags for sampling: those of the run, with the level of the line."""
    flags = training_flags(job, seed, level, base, built)
    return [*flags, "--model.level", repr(level)] if level is not None else flags


def budget(built: Setup) -> Budget:
    """Return the cost of a run of these settings."""
    data, rounds = built.data, built.trainer.max_epochs or 1
    calls = data.rounds.max_scored
    return Budget(
        rounds * calls,
        rounds * data.draws * built.module.policy.denoiser_calls("reference"),
        rounds * data.steps_per_epoch,
    )


def check(built: Setup) -> None:
    """Raise GraftError if a run of these settings would raise it.

    Raises:
        GraftError: The settings cannot train, or cannot be compared at an equal budget.
    """
    module, data, trainer = built.module, built.data, built.trainer
    if module.policy.reference_file is None:
        raise GraftError("fine-tuning needs a reference. Give model.weights.")
    limits.check("trainer.max_epochs", trainer.max_epochs or 0, 1)
    if trainer.world_size > 1:
        raise GraftError(
            f"the trainer has {trainer.world_size} ranks; a comparison must have one. Use trainer.devices=1."
        )
    if not data.source.is_model:
        raise GraftError(
            "data.source is a scored file; methods are compared on draws. Use data.source reference or current."
        )
    if data.storage.reuse_runs:
        raise GraftError(
            "data.storage.reuse_runs is set; draws of earlier runs cost nothing, so that costs would differ. Remove "
            "data.storage.reuse_runs."
        )
    trainer.strategy.connect(module)
    data.trainer = trainer
    try:
        data.setup("fit")
    finally:
        data.rounds.require_reward.teardown()


def preflight(asked: ComparisonSpec, build: Build) -> tuple[list[Cell], Setup, Budget]:
    """Return (lines of the table, objects of the configuration, budget).

    The settings of every run are checked first.

    Raises:
        GraftError: A method does not fit the configuration, or its budget differs from the configuration's.
    """
    built = build([])
    substitute = ["--model.level", repr(_smallest(built))] if built.module.level_setting == "auto" else []
    check(build([*COMMON, *substitute]))
    plain = build([*COMMON, *substitute])
    plain.data.trainer = plain.trainer
    base, lines = budget(plain), cells(asked, built)
    for line in lines:
        if line.method.weights == "reference":
            continue
        level = _smallest(built) if isinstance(line.level, str) else line.level
        variants = [training_flags(line, asked.seeds[0], level, base, built)]
        if line.method.weights == "graft" and level is not None:  # the run may be trained at another level
            variants.append(sampling_flags(line, asked.seeds[0], level, base, built))
        for flags in variants:
            made = build(flags)
            try:
                if made.module.level_setting == "auto":
                    made.module.policy.set_level(_smallest(made))
                check(made)
            except GraftError as error:
                raise GraftError(f"{line.label}: {error}") from None
            if (its := budget(made)) != base:
                raise GraftError(
                    f"{line.label} takes {its}; the configuration's own run takes {base}. Make the costs equal."
                )
    return lines, built, base


def _smallest(built: Setup) -> float:
    """Return the smallest candidate level, which stands for a level that is not chosen yet."""
    return built.data.level_search.candidates_on_grid(built.module.policy.steps)[0]


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


def _once(what: str, values: Sequence[Any]) -> None:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise GraftError(f"the {what} {value} is given twice. Give it once.")
