"""The header of a weights file: the architecture, which readers build, and the training, which is a record.

Neither names a folder of the machine that trained the weights.
"""

import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.errors import GraftError
from graft.io import yaml_files
from graft.io.paths import domain_roots, find_file
from graft.io.tensors import ForeignError, read_metadata
from graft.runs.python_config import undescribed
from graft.version import __version__

if TYPE_CHECKING:
    from torch import nn

    from graft.process import Process

FILE = "file:"
"""Prefix of the name of a file or folder that a setting named in training; weights hold no path."""

OUTSIDE = re.compile(r"~|/|\\|[A-Za-z]:[\\/]|[A-Za-z][\w+.-]*://|file:")  # begins a path or an address
TRAINER_SETTINGS = (
    "max_epochs",
    "max_steps",
    "max_time",
    "precision",
    "accumulate_grad_batches",
    "limit_train_batches",
)
"""Settings of the trainer that change the trained weights."""

TRAINING_SETTINGS = ("weights", "weights_prefix", "objective", "tuning", "optimizer", "lr_scheduler", "seed")
"""Settings of a module that samples do not depend on; weights files hold the others, as the architecture."""

LONGEST = 200  # characters of a text in the record of training


def header_of(module: Any, config: str) -> dict[str, Any]:
    """Return the header of a weights file of this module.

    Args:
        module: The `graft.GraftModule`.
        config: The configuration of the run as YAML; empty where there is none, as for models built in Python.

    Returns:
        ``architecture``, the ``class_path`` and ``init_args`` of the module that sampling needs, and ``training``, the
        numbers and short texts of the run's other settings by name, and ``undescribed``, the settings of the model that
        the configuration of a run from Python cannot describe, if any; empty without a configuration.
    """
    settings = yaml_files.parse_yaml(config, "the configuration") if config else None
    if not isinstance(settings, dict):
        return {}
    model = settings.get("model")
    if not isinstance(model, dict) or "class_path" not in model:
        return {}
    given = model.get("init_args") or {}
    needed = {name: portable(value) for name, value in given.items() if name not in module.only_training}
    if needed.get("level") == "auto":
        needed["level"] = module.policy.interval.low
    rest = {name: value for name, value in given.items() if name in module.only_training}
    training = {"graft": __version__, **dict(_plain({**settings, "model": rest}, ""))}
    built: dict[str, Any] = {"class_path": model["class_path"], "init_args": needed}
    out = {"architecture": built, "training": training}
    names = {place: what for place, what in undescribed(config).items() if place.split(".")[0] == "model"}
    holes = {place: what for place, what in names.items() if place.split(".")[-1] not in module.only_training}
    return {**out, "undescribed": holes} if holes else out


def portable(value: Any) -> Any:
    """Return settings without paths: a shipped file by its name, another by `FILE` and its last part."""
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
    """Return whether a text is an address, an absolute path, a path upwards, or a file that exists."""
    if OUTSIDE.match(text) or ".." in re.split(r"[\\/]", text):
        return True
    return bool(re.search(r"[\\/]|\.\w+$", text)) and _exists(text)


def is_shipped(text: str) -> bool:
    """Return whether a text names weights in an installed package."""
    named = text.startswith("domains/") and text.endswith(".safetensors") and ".." not in text.split("/")
    return named and any((root / text).is_file() for root in domain_roots())


def reference_name(reference: "dict[str, str] | None", path: "str | Path") -> "dict[str, str] | None":
    """Return the name and hash of a reference, without a folder of the machine, for weights in ``path``.

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
        file = find_file(name).resolve()
    if not file.is_absolute():
        return {"path": _last(name) if OUTSIDE.match(name) else name, "sha256": sha256}
    if shipped := _shipped_name(file):
        return {"path": shipped, "sha256": sha256}
    own = file.parent.name == "checkpoints" and home.is_relative_to(file.parent.parent)
    known = file.is_relative_to(here)
    found = {"path": file.relative_to(here).as_posix() if known else file.name, "sha256": sha256}
    if own or (known and home.is_relative_to(here)):
        found["relative_path"] = Path(os.path.relpath(file, home)).as_posix()
    return found


def require_network(
    backbone: "nn.Module | None",
    process: "Process | None",
    weights: Any,
    default: "Callable[[], Process] | None" = None,
) -> "tuple[nn.Module, Process]":
    """Return (network, process) of a model, or raise GraftError if one of them is missing.

    Args:
        backbone: Network, or None.
        process: Process, or None.
        weights: Weights of the model; with weights, the process must be the one that they were trained with.
        default: Makes the process of a model without weights.
    """
    if process is None and weights is None and default is not None:
        process = default()
    if backbone is None or process is None:
        raise missing_network(weights)
    return backbone, process


def missing_network(weights: Any) -> GraftError:
    """Return the error of a model that has no network, and no weights that bring one."""
    if not isinstance(weights, str | Path):
        return GraftError(
            "the model has no network: give model.weights that graft wrote, or model.backbone and model.process"
        )
    about: dict[str, Any] = {}
    if Path(weights).suffix.lower() == ".safetensors":
        with suppress(ForeignError):  # another program's file
            about = read_metadata(find_file(weights))
    if about.get("reference"):
        return GraftError(f"{weights} holds tuned weights, not a reference: give the file it was tuned from")
    model = about.get("architecture")
    if isinstance(model, dict) and isinstance(model.get("class_path"), str):
        return GraftError(
            f"weights {weights} are of {model['class_path'][:LONGEST]}; give model.class_path that class, or "
            "model.backbone and model.process. In Python, build the model with its from_pretrained"
        )
    return GraftError(f"weights {weights} do not say their network; give model.backbone and model.process")


def _exists(text: str) -> bool:
    try:
        return Path(text).exists() or find_file(text).exists()
    except (GraftError, OSError, ValueError):
        return False


def _shipped_name(file: Path) -> "str | None":
    """Return the name of a file of an installed package, from its path; None for another file."""
    for root in domain_roots() if file.is_absolute() else ():
        if file.is_relative_to(root / "domains") and is_shipped(name := file.relative_to(root).as_posix()):
            return name
    return None


def _last(text: str) -> str:
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1][:LONGEST]


def _plain(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of numbers and short texts; for a reward, its class alone."""
    if isinstance(value, dict):
        for name, inner in value.items():
            at = f"{key}.{name}" if key else str(name)
            if at.startswith("trainer.") and name not in TRAINER_SETTINGS:
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
