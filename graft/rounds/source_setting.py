"""The source of samples from the setting ``data.source``."""

from pathlib import Path
from typing import Any

from graft.errors import GraftError
from graft.rounds.scored_draws import SUFFIX
from graft.rounds.scored_draws_source import ScoredDrawsSource
from graft.rounds.sources import ModelSource, ScoredFileSource, Source


def make_source(source: "Any") -> Source:
    """Return the source of samples.

    Args:
        source: ``reference``, ``current``, or a `graft.rollouts.ScoredFile`.

    Raises:
        GraftError: ``source`` is another value.
    """
    if not isinstance(source, str):
        source.check()
        if Path(source.path).suffix.lower() == SUFFIX:
            for name in ("filters", "options"):
                if getattr(source, name):
                    raise GraftError(f"data.source.{name} is set, and {source.path} is read without it: remove it")
            return ScoredDrawsSource(source.path, source.score_column, source.higher_is_better)
        return ScoredFileSource(
            source.path,
            source.score_column,
            source.higher_is_better,
            source.max_invalid_fraction,
            source.filters,
            source.options,
        )
    if source in ("reference", "current"):
        return ModelSource(source)  # type: ignore[arg-type]
    if Path(source).suffix == "":
        raise GraftError(f"data.source is '{source}'; it must be 'reference', 'current', or a scored file")
    raise GraftError(
        f"data.source is the file {source}; use --data.source.path {source} and set the column of its scores with "
        "--data.source.score_column"
    )
