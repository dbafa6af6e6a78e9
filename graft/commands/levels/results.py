"""The result of a comparison of levels: an entry for each level and the chosen level, as ``levels.json`` holds them."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from graft.commands.levels.statistics import Estimate
from graft.errors import GraftError
from graft.io.json_files import parse_json, write_json

NAME = "levels.json"


@dataclass
class Level:
    """The estimates of a level with their 95 % intervals.

    An estimate that does not exist is None.

    Attributes:
        level: u, the level.
        time: t, the process's time at the level.
        log_snr: Logarithm of the signal-to-noise ratio, in nats; None at level 0, where it is infinite.
        reward_r2: ρ²(u), the share of the reward's variance within conditions that x_u decides, by the fit.
        predicted_retention: Share of the accepted gain that survives a hand-over at u, by the fit.
        measured_retention: Share of the accepted gain that survives, by re-rolling accepted states with the reference;
            an upper bound for P-GRAFT.
        score_gap: E‖score − score of the prior's Gaussian‖²: how much of the distribution is left to learn.
        trained_fraction: Share of the levels that are trained, 1 − u.
        denoiser_calls: Number of denoiser calls for this level.
        reward_calls: Number of reward calls for this level.
    """

    level: float
    time: float
    log_snr: "float | None"
    reward_r2: "Estimate | None"
    predicted_retention: "Estimate | None"
    measured_retention: "Estimate | None"
    score_gap: "Estimate | None"
    trained_fraction: float
    denoiser_calls: int = 0
    reward_calls: int = 0

    @property
    def retention(self) -> "Estimate | None":
        """Share of the accepted gain that survives: as re-rolled, or by the fit."""
        return self.measured_retention if self.measured_retention is not None else self.predicted_retention


@dataclass
class Analysis:
    """The content of ``levels.json``.

    Attributes:
        level: The chosen level.
        reason: Reason for the choice, in one sentence.
        levels: Entry of each level, ascending, level 0 first.
        stochastic: True if the sampler draws noise; else x_u decides the sample and all shares are 1 by definition.
        draws: Number of draws of the reference.
        accepted: Number of accepted draws; None if the sampler draws no noise.
        resampled: Number of states that are re-rolled from each level.
        failed_rewards: Number of failed rewards.
        reward: Mean reward of the draws; None if no draw is scored.
        accepted_reward: Mean reward of the draws plus the condition-matched accepted gain; None if no draw is scored.
        rule: Description of the acceptance rule.
        denoiser_calls: Number of denoiser calls in all.
        reward_calls: Number of reward calls in all.
        origin: Settings that the analysis depends on, by name.
    """

    level: float
    reason: str
    levels: list[Level]
    stochastic: bool
    draws: int
    accepted: "int | None"
    resampled: int
    failed_rewards: int
    reward: "float | None"
    accepted_reward: "float | None"
    rule: str
    denoiser_calls: int
    reward_calls: int
    origin: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write ``levels.json`` into a run's folder."""
        write_json(folder / NAME, asdict(self))

    @classmethod
    def read(cls, folder: Path, origin: "dict[str, Any] | None" = None) -> "Analysis":
        """Return the analysis in a run's folder.

        Args:
            folder: Folder of the run.
            origin: Settings that the analysis must depend on; None to accept any.

        Raises:
            GraftError: The file is damaged, or its origin differs.
        """
        path = folder / NAME
        try:
            content = parse_json(path.read_text(encoding="utf-8-sig"))
            levels = [Level(**{k: _from_plain(v) for k, v in level.items()}) for level in content.pop("levels")]
            found = cls(levels=levels, **content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise GraftError(f"{path} is damaged ({error}). Remove it; the levels are then compared again.") from None
        if origin is not None and found.origin != origin:
            differing = [key for key in origin if found.origin.get(key) != origin[key]]
            raise GraftError(
                f"{path} compares levels with another {' and '.join(differing) or 'origin'}. Choose another --run_dir, "
                "or remove the file."
            )
        return found

    def to_summary(self) -> dict[str, Any]:
        """Return the entry ``levels`` of ``summary.json``."""
        names = ("level", "reason", "draws", "resampled", "failed_rewards", "denoiser_calls", "reward_calls")
        return {name: getattr(self, name) for name in names}


def _from_plain(value: Any) -> Any:
    """Return a field of `Level` from its JSON value."""
    if not isinstance(value, dict):
        return value
    return Estimate(**{key: math.nan if inner is None else inner for key, inner in value.items()})
