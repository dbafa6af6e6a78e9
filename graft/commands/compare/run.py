"""The comparison: trains the runs, samples and evaluates each line; resumes where it was stopped."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from graft import commands, runs
from graft.commands.compare import accepted_distribution, cost_callback, line_cost, rows
from graft.commands.compare.accepted_distribution import AcceptedDistribution
from graft.commands.compare.cells import Cell, baseline, sampling_flags, training_flags
from graft.commands.compare.measure import measure
from graft.commands.compare.methods import METHODS, PURPOSE, load_early
from graft.commands.compare.preflight import preflight
from graft.commands.compare.rows import Row
from graft.commands.compare.setup import Build
from graft.commands.compare.spec import ComparisonSpec
from graft.commands.level_comparison import levels
from graft.commands.levels import results, show
from graft.dataloaders.sampling import SampleRequests, groups
from graft.errors import GraftError
from graft.io import yaml_files
from graft.io.atomic import write_text
from graft.io.json_files import read_json, write_json
from graft.reward import score_objects
from graft.sampler import nearest_level
from graft.version import versions

SETTINGS = "compare.yaml"
"""File with the settings that the comparison was started with."""


class Comparison:
    """Methods at levels with seeds.

    `open` takes the folder, and `run` computes the missing rows.

    Args:
        spec: Arguments of the command.
        build: Function that builds the objects of a configuration from flags on top of the user's.
        command: Command that repeats the comparison.

    Raises:
        GraftError: The settings do not fit; nothing has been trained or sampled.
    """

    def __init__(self, spec: ComparisonSpec, build: Build, command: str = "") -> None:
        self.spec, self.build, self.command = spec, build, command
        self.lines, self.built, self.budget = preflight(spec, build)
        self.baseline = baseline(spec, self.lines)
        self.folder = Path()
        self.accepted: AcceptedDistribution | None = None
        self.rows: list[Row] = []
        self._reference: dict[int, list[float]] = {}

    @property
    def higher_is_better(self) -> bool:
        """True if a larger reward is better."""
        return self.built.data.rounds.higher_is_better

    def open(self, folder: Path) -> None:
        """Take the folder, and resume the comparison in it.

        A resumed comparison may get more methods, levels or seeds.

        Raises:
            GraftError: The folder holds something else, or a comparison with other settings.
        """
        config = yaml_files.parse_yaml(self.built.config, "the configuration")
        given = {k: v for k, v in config.items() if k not in runs.LOCATION_KEYS}
        ours = {"compare": self.spec.describe(), "settings": given}
        path = folder / SETTINGS
        if path.exists():
            theirs, own = _known(path), ours["compare"]["methods"]
            again = {label: own.get(label, known) for label, known in theirs.items()}
            found = runs.first_difference(
                path, yaml.safe_dump({**ours, "compare": {**ours["compare"], "methods": again}})
            )
            if found is not None:
                raise GraftError(
                    f"the comparison in {folder} was started with {found[0]}={found[1]!r}, now it is {found[2]!r}. "
                    "Resume with the same settings, or choose another --run_dir."
                )
        else:
            runs.refuse_foreign(folder)
            runs.make_run_dir(folder)
            theirs, own = {}, ours["compare"]["methods"]
        ours["compare"]["methods"] = theirs | own
        runs.refuse_links(folder)
        runs.remove_temporary(folder, everywhere=True)
        write_text(path, yaml.safe_dump(ours, sort_keys=False))
        self.folder, self.rows = folder, rows.read_rows(folder / rows.NAME)

    @property
    def rows_shown(self) -> list[Row]:
        """The rows of the requested lines and seeds, in the order of the lines.

        The folder may have more rows.
        """
        places = {(line.label, seed): (i, seed) for i, line in enumerate(self.lines) for seed in self.spec.seeds}
        mine = [row for row in self.rows if (row["line"], row["seed"]) in places]
        return sorted(mine, key=lambda row: places[row["line"], row["seed"]])

    def run(self) -> None:
        """Compute the missing rows, seed by seed, so that a stopped comparison has whole seeds."""
        missing = [(seed, cell) for seed in self.spec.seeds for cell in self.lines if not self._has(cell, seed)]
        total = len(self.spec.seeds) * len(self.lines)
        if len(missing) < total:
            self._print(f"{total - len(missing)} of {total} are there and are not computed again")
        draws = self._accepted_rounds * self.built.data.draws
        self._print(f"the accepted distribution, {draws:,} draws of the reference")
        self.accepted = self._sample_accepted()
        for seed, cell in missing:
            number = self.spec.seeds.index(seed) * len(self.lines) + self.lines.index(cell) + 1
            self.rows.append(self._row(cell, seed, f"{number} of {total}: {cell.label}, seed {seed}"))
            rows.write_rows(self.folder / rows.NAME, self.rows)

    def _has(self, cell: Cell, seed: int) -> bool:
        return any((row["line"], row["seed"]) == (cell.label, seed) for row in self.rows)

    def _row(self, cell: Cell, seed: int, title: str) -> Row:
        level, chosen = self._level(cell, seed)
        name = cell.run(seed, level)
        run = self.folder / "runs" / name if name is not None else None
        if run is not None and not (run / "summary.json").exists():
            self._print(f"{title}: trains{'' if cell.method.weights == 'own' else ' graft'}")
            self._train(cell, seed, level, run)
        self._print(f"{title}: samples {self.built.data.evaluation.test_draws:,} objects")
        started = time.perf_counter()
        built = self.build(sampling_flags(cell, seed, level, self.budget, self.built) if run else _seeded(seed))
        if cell.rounds is not None and run is not None:
            load_early(built.module, run, cell.rounds)
        elif run is not None:
            cell.method.load_weights(built.module, run, cell.method.value)
        data = self.build(_seeded(seed)).data  # the configuration's own reward and number of samples
        try:
            samples = cell.method.sample(built.module, data, built.trainer, cell.method.value)
            seconds = time.perf_counter() - started
            rewards, calls = (samples.rewards, 0) if samples.rewards else self._score(data, samples.items)
            reference = rewards if cell.label == "reference" else self._reference_rewards(seed)
        finally:
            data.rounds.require_reward.teardown()
        assert self.accepted is not None
        requests = SampleRequests(built.module, data.evaluation.test_draws, data.batch_size, (PURPOSE,), "reference")
        return {
            "line": cell.label,
            "path": cell.path,
            "method": cell.method.label,
            "level": "" if cell.level is None else str(cell.level),
            "u": None if run is None else built.module.policy.handover_level,
            "seed": seed,
            "run": name or "",
            "position": line_cost.position(cell, run),
            **measure(
                built.module, samples, rewards, reference, groups(requests), self.accepted, self.higher_is_better
            ),
            **line_cost.training_cost(cell, run, chosen),
            "inference_reward_calls": samples.reward_calls,
            "inference_denoiser_calls": samples.denoiser_calls,
            "evaluation_reward_calls": calls,
            "training_seconds": line_cost.training_seconds(cell, run),
            "inference_seconds": round(seconds, 3),
        }

    def _level(self, cell: Cell, seed: int) -> "tuple[float | None, results.Analysis | None]":
        """Return (level of the line, analysis behind ``auto`` or None).

        The analysis is stored, one for each seed.
        """
        if cell.level is None:
            return None, None
        if cell.level != "auto":  # on the sampler's grid, so that a chosen level and an equal given level share a run
            return nearest_level(float(cell.level), self.built.module.policy.steps), None
        folder = self.folder / "levels" / str(seed)
        if (folder / results.NAME).exists():
            found = results.Analysis.read(folder)
        else:
            self._print(f"levels are compared for seed {seed}")
            built = self.build([*_seeded(seed), "--model.level", "auto"])
            found = levels(built.module, built.data, folder, built.trainer, built.config, every=False)
            built.data.rounds.require_reward.teardown()
            print(show.levels_table(found), flush=True)
        return found.level, found

    def _train(self, cell: Cell, seed: int, level: "float | None", folder: Path) -> None:
        """Train the run of a line, or resume it."""
        flags = training_flags(cell, seed, level, self.budget, self.built)
        built = self.build(flags)
        last = "last" if (folder / "config.yaml").exists() else None
        _, checkpoint = runs.resolve_run(str(folder), folder.name, built.config, last)
        built.trainer.loggers = list(built.loggers)
        built.trainer.callbacks.append(cost_callback.TrainingCostCallback(folder))  # type: ignore[attr-defined]
        commands.fit(built.module, built.data, folder, built.trainer, built.config, self.command, checkpoint)

    def _reference_rewards(self, seed: int) -> list[float]:
        """Return the rewards of the reference's samples, from disk if they are there.

        The samples share noise and conditions with those of all lines.
        """
        if seed in self._reference:
            return self._reference[seed]
        path = self.folder / "reference" / f"{seed}.json"
        if not path.exists():
            built = self.build(_seeded(seed))
            samples = METHODS["reference"].sample(built.module, built.data, built.trainer, math.nan)
            try:
                values, _ = self._score(built.data, samples.items)
            finally:
                built.data.rounds.require_reward.teardown()
            write_json(path, values)
        remedy = "remove it, and the reference is evaluated again"
        values = read_json(path, remedy)
        try:
            self._reference[seed] = [math.nan if value is None else float(value) for value in values]
        except (TypeError, ValueError) as error:
            raise GraftError(f"{path} is damaged ({error}): {remedy}") from None
        return self._reference[seed]

    def _score(self, data: Any, items: Sequence[Any]) -> tuple[list[float], int]:
        """Return (rewards, number of reward calls)."""
        size = data.batch_size
        parts = [score_objects(data.rounds.require_reward, items[i : i + size]) for i in range(0, len(items), size)]
        return [value for part in parts for value in part.values], sum(part.reward_calls for part in parts)

    @property
    def _accepted_rounds(self) -> int:
        """Number of rounds of the reference's draws for the accepted distribution."""
        draws = self.spec.target_draws
        return math.ceil(draws / self.built.data.draws) if draws else self.built.trainer.max_epochs or 1

    def _sample_accepted(self) -> AcceptedDistribution:
        rounds = ["--trainer.max_epochs", str(self._accepted_rounds)]
        built = self.build([*_seeded(accepted_distribution.SEED), *accepted_distribution.SETTINGS, *rounds])
        try:
            return accepted_distribution.sample_accepted(
                built.module, built.data, built.trainer, self.folder / "accepted"
            )
        finally:
            built.data.rounds.require_reward.teardown()

    def _print(self, text: str) -> None:
        if self.built.trainer.is_global_zero:
            print(f"graft: {text}", flush=True)

    def about(self) -> dict[str, Any]:
        """Return the content of ``compare.json`` except the rows and their means."""
        data = self.built.data
        name, unit = data.rounds.reward_label
        assert self.accepted is not None
        return {
            "reward": {"name": name, "unit": unit, "higher_is_better": self.higher_is_better},
            "rule": data.rounds.describe(),
            "seeds": list(self.spec.seeds),
            "baseline": self.baseline,
            "baseline_path": next(line.path for line in self.lines if line.label == self.baseline),
            "earlier": [line.label for line in self.lines if line.rounds is not None],
            "budget": asdict(self.budget),
            "samples": data.evaluation.test_draws,
            "accepted_distribution": self.accepted.about(),
            "methods": {cell.label: cell.method.about for cell in self.lines if cell.rounds is None},
            "settings": {cell.label: cell.method.flags for cell in self.lines if cell.rounds is None},
            "command": self.command,
            "versions": versions(),
        }


def _known(path: Path) -> dict[str, Any]:
    """Return the methods of a comparison on disk, by label."""
    try:
        return dict(yaml_files.read_yaml(path)["compare"]["methods"])
    except (GraftError, ValueError, TypeError, KeyError):
        raise GraftError(f"{path} is damaged. Choose another --run_dir.") from None


def _seeded(seed: int) -> list[str]:
    return ["--seed_everything", str(seed)]
