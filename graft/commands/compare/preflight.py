"""The checks of a comparison before any training: every run can train, at the same budget."""

from graft.commands.compare.cells import COMMON, Cell, cells, earlier, sampling_flags, training_flags
from graft.commands.compare.setup import Budget, Build, Setup, budget
from graft.commands.compare.spec import ComparisonSpec
from graft.core import limits
from graft.errors import GraftError


def check_runs(built: Setup) -> None:
    """Raise GraftError if a run of these settings would raise it."""
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


def preflight(spec: ComparisonSpec, build: Build) -> tuple[list[Cell], Setup, Budget]:
    """Return (lines of the table, objects of the configuration, budget).

    The settings of every run are checked first.

    Raises:
        GraftError: A method does not fit the configuration, or its budget differs from the configuration's.
    """
    built = build([])
    substitute = ["--model.level", repr(_smallest(built))] if built.module.level_setting == "auto" else []
    check_runs(build([*COMMON, *substitute]))
    plain = build([*COMMON, *substitute])
    plain.data.trainer = plain.trainer
    base, lines = budget(plain), list[Cell]()
    for line in cells(spec, built):
        if line.method.weights == "reference":
            lines.append(line)
            continue
        level = _smallest(built) if isinstance(line.level, str) else line.level
        variants = [training_flags(line, spec.seeds[0], level, base, built)]
        if line.method.weights == "graft" and level is not None:  # the run may be trained at another level
            variants.append(sampling_flags(line, spec.seeds[0], level, base, built))
        for flags in variants:
            made = build(flags)
            try:
                if made.module.level_setting == "auto":
                    made.module.policy.set_level(_smallest(made))
                check_runs(made)
            except GraftError as error:
                raise GraftError(f"{line.label}: {error}") from None
            if (its := budget(made)) != base:
                raise GraftError(
                    f"{line.label} takes {its}; the configuration's own run takes {base}. Make the costs equal."
                )
        lines += [*earlier(line, made.trainer.max_epochs or 1, spec.path), line]
    return lines, built, base


def _smallest(built: Setup) -> float:
    """Return the smallest candidate level, which stands for a level that is not chosen yet."""
    return built.data.level_search.candidates_on_grid(built.module.policy.steps)[0]
