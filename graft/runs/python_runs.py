"""The folder of a run from Python: new, resumed, or overwritten on request."""

import shutil
from pathlib import Path
from typing import Any

from graft.errors import GraftError
from graft.io import yaml_files
from graft.runs.config_of_objects import configuration
from graft.runs.folders import HARDWARE_KEYS, LOCATION_KEYS, find_checkpoint, flatten_config
from graft.runs.python_config import HEADING, undescribed

OURS = (  # names in a run's folder that graft writes
    *(
        "config.yaml",
        "summary.json",
        "metrics.csv",
        "report.html",
        "frontier.png",
        "CARD.md",
        "training.json",
        "elapsed.json",
        "invalid_records.csv",
    ),
    *("tuned.safetensors", "reference.safetensors", "levels.json", "levels.png", "levels.yaml"),
    *("rounds", "checkpoints", "samples", "diffusers"),
)


def checkpoint_to_resume(folder: Path, checkpoint: "str | Path | None", overwrite: bool) -> "Path | None":
    """Return the checkpoint to resume from; None for a new run.

    Args:
        folder: Folder of the run.
        checkpoint: Path of a checkpoint, or ``last``.
        overwrite: Remove the files of an earlier run.

    Raises:
        GraftError: The folder holds another run, or no run that could be resumed.
    """
    last, finished = folder / "checkpoints" / "last.ckpt", (folder / "summary.json").exists()
    if overwrite:
        if checkpoint is not None:
            raise GraftError("overwrite=True removes the run that the checkpoint is of: give one of the two")
        _clear(folder)
        return None
    if finished:
        raise GraftError(
            f"{folder} holds a finished run: choose another folder, or overwrite=True to remove that run first"
        )
    if checkpoint is None:
        if last.exists():
            raise GraftError(
                f"{folder} holds an unfinished run: resume it with checkpoint='last', choose another folder, or "
                "overwrite=True to remove that run first"
            )
        return None
    if str(checkpoint) == "last":
        if not last.exists() and not (folder / "rounds").is_dir():
            raise GraftError(f"there is no run in {folder} to resume: leave out checkpoint to start one")
        return last if last.exists() else None
    return find_checkpoint(checkpoint)


def config_to_store(folder: Path, config: str) -> str:
    """Return the configuration to store: that of the run itself if the run is resumed.

    Args:
        folder: Folder of the run.
        config: Configuration of the objects that resume the run.

    Raises:
        GraftError: A setting differs from the one that the run was started with.
    """
    path = folder / "config.yaml"
    if not path.exists():
        return config
    text = path.read_text(encoding="utf-8-sig")
    theirs, ours = (dict(flatten_config(yaml_files.parse_yaml(each, str(path)) or {})) for each in (text, config))
    ignored = (*undescribed(text), *undescribed(config), *HARDWARE_KEYS, *LOCATION_KEYS)
    for key in sorted(theirs.keys() | ours.keys() if text.startswith(HEADING) else theirs.keys() & ours.keys()):
        if not key.startswith(ignored) and theirs.get(key) != ours.get(key):
            raise GraftError(
                f"the run in {folder} was started with {key}={theirs.get(key)!r}, now it is {ours.get(key)!r}: resume "
                "with the same settings, or start a new run (from its weights with load_weights)"
            )
    return text


def config_of_run(module: Any, data: Any, trainer: Any, folder: Path, resumed: bool) -> str:
    """Return the configuration of a run's objects, for its folder.

    Args:
        module: The model.
        data: The rollouts, or the data set.
        trainer: Trainer of the run.
        folder: Folder of the run.
        resumed: True if the run is resumed, so that its settings must be the same.

    Raises:
        GraftError: A setting differs.
    """
    config = configuration(module, data, trainer)
    return config_to_store(folder, config) if resumed else config


def _clear(folder: Path) -> None:
    """Remove the files of graft from a folder; other files stay."""
    hits = (*folder.glob("hits.*"), *folder.glob("hits_as_scored.*"))
    for path in (*(folder / name for name in OURS), *hits):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
