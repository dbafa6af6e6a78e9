"""What is compared, and at how many draws."""

import math
from dataclasses import dataclass

from graft.errors import GraftError
from graft.sampler import nearest_level

SURVIVING = 0.9  # share of the accepted gain that a level must keep for `auto` to choose it
LEAST = 128  # draws below which the shares say nothing
AGAIN = 4  # one re-rolled state for so many draws


@dataclass
class LevelSearch:
    """How ``graft levels`` and ``model.level: auto`` compare levels, on draws of the reference.

    Args:
        candidates: Levels in (0, 1), each moved to the nearest step of the sampler; level 0 (GRAFT) needs no evidence.
        draws: Of the reference. ``null``: so many that the analysis takes fewer reward calls and denoiser calls than
            one round of ``data.draws``, but at least 128, in whole batches.
        n_bootstrap: Of the bootstrap behind the 95 % intervals.
    """

    candidates: tuple[float, ...] = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75)
    draws: "int | None" = None
    n_bootstrap: int = 400

    def __post_init__(self) -> None:
        if not self.candidates or not all(0 < level < 1 for level in self.candidates):
            raise GraftError(
                f"data.level_search.candidates are {list(self.candidates)}, but a candidate lies in (0, 1)"
            )
        if self.draws is not None and self.draws < 2:
            raise GraftError(f"data.level_search.draws is {self.draws}, but a comparison takes at least 2")
        if self.n_bootstrap < 1:
            raise GraftError(f"data.level_search.n_bootstrap is {self.n_bootstrap}, but an interval takes at least 1")

    def candidates_on_grid(self, steps: int) -> tuple[float, ...]:
        """The candidates on a sampler of so many steps, ascending, each once.

        Raises:
            GraftError: There is none between 0 and 1.
        """
        levels = sorted({nearest_level(level, steps) for level in self.candidates} - {0.0, 1.0})
        if not levels:
            raise GraftError(f"no candidate of data.level_search lies between the ends of a sampler of {steps} steps")
        return tuple(levels)

    def num_draws(self, a_round: int, batch: int, levels: int) -> int:
        """Draws of the analysis, for rounds of ``a_round`` draws in batches of ``batch`` and so many levels.

        A draw is scored itself and as its estimate at each level, and every fourth is re-rolled from each level.
        """
        if self.draws is not None:
            return self.draws
        affordable = a_round / (1 + levels + levels / AGAIN)
        return min(a_round, max(math.ceil(LEAST / batch), math.floor(affordable / batch)) * batch)
