"""Folders of runs, runs/<config name>/<n>, and the run that is resumed."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from graft.errors import GraftError
from graft.io import yaml_files
from graft.io.paths import find_file
from graft.runs.contents import refuse_foreign

LOCATION_KEYS = {"run_dir", "ckpt_path", "config"}  # settings of places, which change no result

STOPPING_KEYS = ("allow_constant",)  # settings that end a run or not, which change no result

_made = set[Path]()  # folders that this process made

HARDWARE_KEYS = tuple(  # settings of hardware and display, which change no result
    f"trainer.{name}" for name in ("accelerator", "devices", "num_nodes", "strategy", "enable_progress_bar", "logger")
)


def resolve_run(
    run_dir: "str | None",
    name: str,
    config: str,
    ckpt_path: "str | None",
    whole: "Callable[[str], str] | None" = None,
) -> tuple[Path, "Path | None"]:
    """Return (folder of the run, checkpoint to resume from).

    Args:
        run_dir: Folder; None for ``runs/<name>/<n>`` with the next n, or with ``last`` the newest unfinished one.
        name: Name of the configuration.
        config: The resolved configuration as YAML.
        ckpt_path: None for a new run, ``last``, ``auto`` (the last one if there is a run, else a new run), or its path.
        whole: Makes the configuration of a run that was started from Python as complete as ``config``.

    Raises:
        GraftError: There is no run to resume, the configuration differs, or the folder is taken or not writable.
    """
    if ckpt_path == "auto":  # for schedulers, which restart a job with the same command
        unfinished = _find_unfinished(name) if run_dir is None else (Path(run_dir) / "config.yaml").exists()
        ckpt_path = "last" if unfinished else None
    if ckpt_path is None:
        return _new(run_dir, name), None
    if ckpt_path != "last":
        checkpoint = find_checkpoint(ckpt_path)
        folder = Path(run_dir) if run_dir else checkpoint.parent.parent
    else:
        folder = Path(run_dir) if run_dir else _newest(name)
        checkpoint = folder / "checkpoints" / "last.ckpt"
    if not (folder / "config.yaml").exists():
        raise GraftError(f"there is no run in {folder} to resume: leave out --ckpt_path to start one")
    if (folder / "summary.json").exists():
        raise GraftError(f"the run in {folder} is finished: start a new one, from its weights with --weights {folder}")
    _same(folder / "config.yaml", config, whole)
    return folder, checkpoint if checkpoint.exists() else None


def _new(run_dir: "str | None", name: str) -> Path:
    if run_dir is not None:
        folder = Path(run_dir)
        if (folder / "summary.json").exists():
            raise GraftError(f"{folder} holds a finished run: choose another --run_dir")
        if (folder / "config.yaml").exists():
            raise GraftError(
                f"{folder} holds an unfinished run: resume it with --ckpt_path last, or choose another --run_dir"
            )
        refuse_foreign(folder)
        return make_run_dir(folder)
    base = Path("runs") / name
    taken = [int(p.name) for p in base.glob("*") if p.name.isdigit()] if base.is_dir() else []
    return make_run_dir(base / str(max(taken, default=0) + 1))


def make_run_dir(folder: Path) -> Path:
    """Create a folder if it is missing, and return it; raise GraftError if it is not writable."""
    try:
        if not folder.exists():
            _made.add(folder.absolute())
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GraftError(
            f"cannot make the run's folder {folder} ({error.strerror}): choose another --run_dir"
        ) from None
    if not os.access(folder, os.W_OK):
        raise GraftError(f"cannot write to the run's folder {folder}: choose another --run_dir")
    return folder


@contextmanager
def without_empty_folders() -> Iterator[None]:
    """Remove the run folders that the block makes and leaves empty, such as those of a command that is refused."""
    before = set(_made)
    try:
        yield
    finally:
        for folder in _made - before:
            _made.discard(folder)
            with suppress(OSError):  # it holds files, or is gone
                folder.rmdir()


def _newest(name: str) -> Path:
    found = _find_unfinished(name)
    if found is None:
        raise GraftError(f"there is no unfinished run in {Path('runs') / name}: leave out --ckpt_path to start one")
    return found


def find_checkpoint(name: "str | Path") -> Path:
    """Return the checkpoint of that name: a file, or the folder of a sharded one.

    Raises:
        GraftError: There is none.
    """
    sharded = Path(name).is_dir() and any(Path(name).glob("*.distcp"))
    return Path(name) if sharded else find_file(name)


def _find_unfinished(name: str) -> "Path | None":
    """Return the folder of the newest unfinished run; None if there is none."""
    base = Path("runs") / name
    numbers = sorted((int(p.name) for p in base.glob("*") if p.name.isdigit()), reverse=True) if base.is_dir() else []
    for number in numbers:
        folder = base / str(number)
        if (folder / "config.yaml").exists() and not (folder / "summary.json").exists():
            return folder
    return None


def _same(path: Path, config: str, whole: "Callable[[str], str] | None") -> None:
    found = first_difference(path, config, whole)
    if found is not None:
        key, theirs, ours = found
        raise GraftError(
            f"the run in {path.parent} was started with {key}={theirs!r}, now it is {ours!r}: resume with the same "
            "settings, or start a new run (from its weights with --weights)"
        )


def first_difference(
    path: Path, config: str, whole: "Callable[[str], str] | None" = None
) -> "tuple[str, Any, Any] | None":
    """Return (setting, value in the file, value in ``config``) of the first difference, or None.

    Args:
        path: The file.
        config: The configuration.
        whole: Function of the text of the file that completes it.

    Raises:
        GraftError: The file is damaged.
    """
    try:
        theirs = dict(flatten_config(yaml_files.read_yaml(path)))
        if whole is not None:
            theirs = dict(flatten_config(yaml_files.parse_yaml(whole(path.read_text(encoding="utf-8-sig")), str(path))))
    except GraftError as error:
        raise GraftError(f"{path} is damaged: the run cannot be resumed ({error})") from None
    ours = dict(flatten_config(yaml_files.parse_yaml(config, "the configuration")))
    for key in sorted(theirs.keys() | ours.keys()):
        moved = key.startswith(HARDWARE_KEYS)
        before, now = theirs.get(key), ours.get(key)
        alike = before == now or (before != before and now != now)  # NaN is not equal to itself
        if (
            key.split(".")[0] not in LOCATION_KEYS
            and key.split(".")[-1] not in STOPPING_KEYS
            and not moved
            and not alike
        ):
            return key, before, now
    return None


def flatten_config(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted setting, value) of all settings in a configuration."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield prefix, value
        return
    for key, inner in items:
        yield from flatten_config(inner, f"{prefix}.{key}" if prefix else str(key))


def recorded(run_dir: "str | None", name: str, ckpt_path: str) -> dict[str, Any]:
    """Return the configuration of the run that `resolve_run` resumes; {} if missing or damaged."""
    if ckpt_path in ("last", "auto"):
        folder = Path(run_dir) if run_dir else _find_unfinished(name)
    else:
        folder = Path(run_dir) if run_dir else Path(ckpt_path).parent.parent
    try:
        found = yaml_files.read_yaml(folder / "config.yaml") if folder is not None else {}
    except GraftError:
        return {}
    return found if isinstance(found, dict) else {}


def find_weights(run: "str | Path") -> Path:
    """Return the weights file of a run, from its folder or from the file itself.

    Raises:
        GraftError: The folder holds no weights, or the file is missing.
    """
    path = Path(run)
    if path.is_dir():
        for name in ("tuned.safetensors", "reference.safetensors"):
            if (path / name).exists():
                return path / name
        raise GraftError(f"{path} holds no tuned.safetensors: the run did not end, or it is another folder")
    return find_file(run)
