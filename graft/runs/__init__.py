"""Runs: folders, resume, checkpoints, metrics, and the stop of a run between two steps."""

from graft.runs.contents import (
    refuse_foreign,
    refuse_linked_round,
    refuse_links,
    remove_temporary,
    without_config_of_failed_start,
)
from graft.runs.folders import (
    LOCATION_KEYS,
    find_weights,
    first_difference,
    flatten_config,
    make_run_dir,
    recorded,
    resolve_run,
)

__all__ = [
    "LOCATION_KEYS",
    "find_weights",
    "first_difference",
    "flatten_config",
    "make_run_dir",
    "recorded",
    "refuse_foreign",
    "refuse_linked_round",
    "refuse_links",
    "remove_temporary",
    "resolve_run",
    "without_config_of_failed_start",
]
