"""What a weights file says of its model: the architecture, which readers build, and the training, which none builds.

Neither names a folder of the machine that trained it.
"""

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import graft
from graft import files, plain_yaml
from graft.errors import GraftError

if TYPE_CHECKING:
    from graft.module import GraftModule

FILE = "file:"
"""Before the name of a file or folder that a setting named in training; weights do not say where it lay."""

OUTSIDE = re.compile(r"~|/|\\|[A-Za-z]:[\\/]|[A-Za-z][\w+.-]*://|file:")  # what a path or an address begins with
TRAINER = ("max_epochs", "max_steps", "max_time", "precision", "accumulate_grad_batches", "limit_train_batches")
"""Settings of the trainer that decide what is learned."""

LONGEST = 200  # of a text that is kept of the training


def described(module: "GraftModule", config: str) -> dict[str, Any]:
    """Return what a weights file of this module says besides its tensors.

    Args:
        module: The model.
        config: The configuration of the run as YAML; empty where there is none, as for models built in Python.

    Returns:
        ``architecture``, the ``class_path`` and ``init_args`` of the module that sampling needs, and ``training``, the
        numbers and short texts of the run's other settings by name, and ``unsaid``, what of the model the
        configuration of a run from Python cannot say, if anything; empty without a configuration.
    """
    from graft.runs.config_of_objects import missing  # which imports what networks are part of

    settings = plain_yaml.load(config, "the configuration") if config else None
    if not isinstance(settings, dict):
        return {}
    model = settings.get("model")
    if not isinstance(model, dict) or "class_path" not in model:
        return {}
    given = model.get("init_args") or {}
    needed = {name: portable(value) for name, value in given.items() if name not in module.only_training}
    if needed.get("level") == "auto":
        needed["level"] = module.level
    rest = {name: value for name, value in given.items() if name in module.only_training}
    training = {"graft": graft.__version__, **_facts({**settings, "model": rest})}
    said: dict[str, Any] = {"class_path": model["class_path"], "init_args": needed}
    out = {"architecture": said, "training": training}
    names = {place: what for place, what in missing(config).items() if place.split(".")[0] == "model"}
    unsaid = {place: what for place, what in names.items() if place.split(".")[-1] not in module.only_training}
    return {**out, "unsaid": unsaid} if unsaid else out


def portable(value: Any) -> Any:
    """Return settings in which a path is its last part, marked with `FILE`, and a shipped file has its name."""
    if isinstance(value, dict):
        return {name: portable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [portable(inner) for inner in value]
    if not isinstance(value, str):
        return value
    if is_shipped(value) or not is_path(value):
        return value
    return _shipped_name(Path(value)) or f"{FILE}{_last(value)}"


def is_path(text: str) -> bool:
    """Return whether a text names a place: an address, an absolute path, one above it, or a file that is here."""
    if OUTSIDE.match(text) or ".." in re.split(r"[\\/]", text):
        return True
    return bool(re.search(r"[\\/]|\.\w+$", text)) and _exists(text)


def is_shipped(text: str) -> bool:
    """Return whether a text names weights in an installed package; other files could hold settings."""
    named = text.startswith("domains/") and text.endswith(".safetensors") and ".." not in text.split("/")
    return named and any((root / text).is_file() for root in files.domain_roots())


def reference_name(reference: "dict[str, str] | None", path: "str | Path") -> "dict[str, str] | None":
    """Return what the weights in ``path`` say of their reference, in which is no folder of the machine.

    ``sha256``, and ``path``: the name of a file that ships, a path from the current folder, or else the last part of
    the path; and ``relative_path``, the path from the weights, where both lie in the current folder or the reference in
    the weights' run.
    """
    if reference is None:
        return None
    name, sha256 = reference["path"], reference["sha256"]
    if is_shipped(name):
        return {"path": name, "sha256": sha256}
    file, home, here = Path(name), Path(path).resolve().parent, Path.cwd()
    with suppress(GraftError, OSError, ValueError):
        file = files.find_file(name).resolve()
    if not file.is_absolute():
        return {"path": _last(name) if OUTSIDE.match(name) else name, "sha256": sha256}
    if found := _shipped_name(file):
        return {"path": found, "sha256": sha256}
    own = file.parent.name == "checkpoints" and home.is_relative_to(file.parent.parent)
    known = file.is_relative_to(here)
    said = {"path": file.relative_to(here).as_posix() if known else file.name, "sha256": sha256}
    if own or (known and home.is_relative_to(here)):
        said["relative_path"] = Path(os.path.relpath(file, home)).as_posix()
    return said


def _exists(text: str) -> bool:
    try:
        return Path(text).exists() or files.find_file(text).exists()
    except (GraftError, OSError, ValueError):
        return False


def _shipped_name(file: Path) -> "str | None":
    """Return the name by which a file of an installed package is found anywhere."""
    for root in files.domain_roots() if file.is_absolute() else ():
        if file.is_relative_to(root / "domains") and is_shipped(name := file.relative_to(root).as_posix()):
            return name
    return None


def _last(text: str) -> str:
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1][:LONGEST]


def _facts(config: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers and short texts of settings by their dotted names; of a reward no more than its class."""
    return dict(_plain(config, ""))


def _plain(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            at = f"{key}.{name}" if key else str(name)
            if at.startswith("trainer.") and name not in TRAINER:
                continue
            if name == "reward":
                kind = inner.get("class_path") if isinstance(inner, dict) else None
                if isinstance(kind, str):
                    yield at, kind[:LONGEST]
                continue
            yield from _plain(inner, at)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _plain(inner, f"{key}.{number}")
    elif isinstance(value, str):
        yield key, _last(value) if re.search(r"[\\/]", value) else value[:LONGEST]
    elif isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        yield key, value
