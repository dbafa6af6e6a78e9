"""What is compared: every method at every level with every seed, checked before anything is trained."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers.logger import Logger

from graft.compare.accepted_distribution import SEED
from graft.compare.methods import METHODS, SPLIT, Method, parse_method
from graft.errors import GraftError
from graft.module import GraftModule
from graft.rollouts import Rollouts

COMMON = ["--data.validation_draws", "0", "--data.save_round_weights", "true", "--data.keep_last_rounds", "null"]
"""Of every run: validation takes rewards and draws for curves only, and a method with more rounds would take more."""


@dataclass(frozen=True)
class ComparisonSpec:
    """What the command was asked for.

    Attributes:
        methods: In the order of the table.
        seeds: Of the runs.
        levels: Numbers, or ``auto``; empty for the configuration's own.
        baseline: The label or the name of a method, that differences are taken to; the first one if empty.
        target_draws: Draws of the reference for the accepted law, in whole rounds; 0: as many as a run's.
    """

    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    levels: "tuple[float | str, ...]" = ()
    baseline: str = ""
    target_draws: int = 0

    def describe(self) -> dict[str, Any]:
        """What rows depend on besides the configuration, in plain values; more rows change nothing of it."""
        methods = {m.label: {"settings": list(m.flags), "content": m.content} for m in self.methods}
        return {"methods": methods, "target_draws": self.target_draws, "matched": "by condition"}


@dataclass
class Setup:
    """What settings come to.

    Attributes:
        module: The model.
        data: The rollouts.
        trainer: The trainer, without loggers: what is drawn for the table is not logged.
        config: The configuration as YAML.
        loggers: The user's loggers, for runs that train.
    """

    module: GraftModule
    data: Rollouts
    trainer: Trainer
    config: str
    loggers: "Sequence[Logger]" = ()


Build = Callable[[list[str]], Setup]
"""From flags on top of the user's."""


@dataclass(frozen=True)
class Budget:
    """Of a training run, in all."""

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
        method: With its number.
        level: As asked for; None where the method says it.
    """

    method: Method
    level: "float | str | None" = None

    @property
    def label(self) -> str:
        """The method, and the level where it depends on one."""
        level = f"{self.level:g}" if isinstance(self.level, float) else self.level
        return self.method.label if level is None else f"{self.method.label}@{level}"

    def run(self, seed: int, level: "float | None") -> "str | None":
        """Name of the folder of the run whose weights it draws with, at its level; None for the reference."""
        if self.method.weights == "reference":
            return None
        at = "" if level is None or self.method.weights == "graft" else f"_{level:.4g}"
        label = "graft" if self.method.weights == "graft" else self.method.label.replace(":", "_")
        return f"{label}{at}_seed{seed}"


def parse_spec(
    methods: str, seeds: str, levels: str = "", baseline: str = "", target_draws: str = "0"
) -> ComparisonSpec:
    """What lists with commas ask for.

    Raises:
        GraftError: Something is missing, unknown or there twice.
    """
    names = _list(methods)
    if not names:
        raise GraftError(f"no methods: give --methods a,b of {', '.join(METHODS)}, or configuration files")
    found = tuple(parse_method(name) for name in names)
    _once("method", [method.label for method in found])
    if not _list(seeds):
        raise GraftError("no seeds: give --seeds 0,1,2")
    numbers = tuple(_int("--seeds", seed) for seed in _list(seeds))
    _once("seed", numbers)
    if wrong := [seed for seed in numbers if seed < 0 or seed == SEED]:
        raise GraftError(f"--seeds has {wrong[0]}, but a seed is a whole number from 0 up (and not {SEED}, the law's)")
    values = tuple(_level(level) for level in _list(levels))
    _once("level", values)
    draws = _int("--target_draws", target_draws)
    if draws < 0:
        raise GraftError(f"--target_draws is {draws}, but a number of draws cannot be negative")
    return ComparisonSpec(found, numbers, values, baseline, draws)


def cells(asked: ComparisonSpec, built: Setup) -> list[Cell]:
    """The lines of the table.

    Args:
        asked: What for.
        built: The configuration as it is.

    Raises:
        GraftError: A method has no level to be at, or its number does not fit the configuration.
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
            raise GraftError(f"{method.name} at level 0 is graft: give --levels above 0, or another method")
        out += [Cell(method, level) for level in at]
    _once("method", [job.label for job in out])
    return out


def baseline(asked: ComparisonSpec, lines: Sequence[Cell]) -> str:
    """The label of the line that differences are taken to.

    Raises:
        GraftError: There is no such line.
    """
    if not asked.baseline:
        return lines[0].label
    for line in lines:
        if asked.baseline in (line.label, line.method.label, line.method.name):
            return line.label
    raise GraftError(f"--baseline is {asked.baseline!r}, but what is compared is {', '.join(j.label for j in lines)}")


def training_flags(job: Cell, seed: int, level: "float | None", base: Budget, built: Setup) -> list[str]:
    """The flags of the run whose weights a job draws with, on top of the user's.

    Args:
        job: The job.
        seed: Of the run.
        level: The job's, chosen if it was to be.
        base: The configuration's own budget.
        built: The configuration as it is.
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
    """The flags with which a job draws: its run's, handing over at the job's level."""
    flags = training_flags(job, seed, level, base, built)
    return [*flags, "--model.level", repr(level)] if level is not None else flags


def budget(built: Setup) -> Budget:
    """What a run of these settings takes."""
    data, rounds = built.data, built.trainer.max_epochs or 1
    calls = min(data.reward_calls_per_round, data.draws)
    if data.proxy_reward is not None:
        calls = min(calls, int(data.proxy_fraction * data.draws))
    return Budget(
        rounds * calls, rounds * data.draws * built.module.denoiser_calls("reference"), rounds * data.steps_per_epoch
    )


def check(built: Setup) -> None:
    """Refuse what a run of these settings would refuse.

    Raises:
        GraftError: In one sentence.
    """
    module, data, trainer = built.module, built.data, built.trainer
    if module.reference_file is None:
        raise GraftError("fine-tuning needs a reference: give model.weights")
    if trainer.max_epochs is None or trainer.max_epochs < 1:
        raise GraftError(f"trainer.max_epochs is {trainer.max_epochs}, but a run takes at least one round")
    if trainer.world_size > 1:
        raise GraftError("methods are judged in one process: use trainer.devices=1")
    if not data.source.is_model:
        raise GraftError("methods are compared on draws, not on a scored file: use data.source reference or current")
    if data.reuse_runs:
        raise GraftError("draws of earlier runs cost nothing, so that nothing is equal: leave out data.reuse_runs")
    trainer.strategy.connect(module)
    data.trainer = trainer
    try:
        data.setup("fit")
    finally:
        data.require_reward.teardown()


def preflight(asked: ComparisonSpec, build: Build) -> tuple[list[Cell], Setup, Budget]:
    """(lines, the configuration as it is, its budget), everything checked.

    Raises:
        GraftError: A method cannot be had, or at another budget only.
    """
    built = build([])
    if built.module.level_setting == "auto":
        substitute = ["--model.level", repr(_smallest(built))]
        check(build([*COMMON, *substitute]))
    else:
        substitute = []
        check(build([*COMMON]))
    plain = build([*COMMON, *substitute])
    plain.data.trainer = plain.trainer
    base, lines = budget(plain), cells(asked, built)
    for line in lines:
        if line.method.weights == "reference":
            continue
        level = _smallest(built) if isinstance(line.level, str) else line.level
        variants = [training_flags(line, asked.seeds[0], level, base, built)]
        if line.method.weights == "graft" and level is not None:  # another level than it was trained at
            variants.append(sampling_flags(line, asked.seeds[0], level, base, built))
        for flags in variants:
            made = build(flags)
            try:
                if made.module.level_setting == "auto":
                    made.module.level = _smallest(made)
                check(made)
            except GraftError as error:
                raise GraftError(f"{line.label}: {error}") from None
            if (its := budget(made)) != base:
                raise GraftError(f"{line.label} takes {its}, but the configuration's own run {base}: make them equal")
    return lines, built, base


def _smallest(built: Setup) -> float:
    """What stands for a level that has not been chosen."""
    return built.data.level_search.candidates_on_grid(built.module.steps)[0]


def _resolved(method: Method, built: Setup) -> Method:
    """With the number that a rule says."""
    if method.name != "graft_early":
        return method
    rounds = built.trainer.max_epochs or 1
    if rounds < 2:
        raise GraftError(
            "graft_early takes the weights of an earlier round, and there is one: raise trainer.max_epochs"
        )
    value = max(1, rounds // 2) if math.isnan(method.value) else method.value
    if value >= rounds:
        raise GraftError(f"graft_early:{value:g} is no earlier round than the last of {rounds}: give a smaller one")
    return dataclasses.replace(method, value=float(value))


def _parts(method: Method, base: Budget, rounds: int, built: Setup) -> int:
    """Into how many a round is split: the most up to `SPLIT` that leaves whole batches and all numbers whole."""
    data = built.data
    whole = math.gcd(data.draws, data.steps_per_epoch, base.reward_calls // rounds)
    if not math.isnan(method.value):
        if whole % int(method.value):
            raise GraftError(
                f"{method.label} splits a round of {data.draws} draws and {data.steps_per_epoch} steps into "
                f"{method.value:g} equal parts: give a divisor of {whole}"
            )
        return int(method.value)
    return max(k for k in range(1, SPLIT + 1) if whole % k == 0 and (k == 1 or data.draws // k >= data.batch_size))


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.strip().strip("[]").split(",") if part.strip()]


def _int(what: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise GraftError(f"{what} has {text!r}, but it takes whole numbers") from None


def _level(text: str) -> "float | str":
    if text == "auto":
        return text
    try:
        level = float(text)
    except ValueError:
        level = math.nan
    if not 0 <= level < 1:
        raise GraftError(f"--levels has {text!r}, but a level is a fraction of the steps in [0, 1), or 'auto'")
    return level


def _once(what: str, values: Sequence[Any]) -> None:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise GraftError(f"the {what} {value} is there twice")
