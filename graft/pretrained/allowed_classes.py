"""Classes that the header of a weights file may name: networks, processes and domains, with plain settings.

A weights file may come from another person. Its header names classes, and a class runs code when it is imported and
when it is built. So names are checked before any module is imported, and classes before any object is built. A reward
is never allowed.
"""

import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch import nn

from graft.accept import AcceptanceRule
from graft.domain import Domain
from graft.errors import GraftError
from graft.filters import Filter
from graft.io import yaml_files
from graft.network import LoRA
from graft.network.corrector import NoiseCorrector
from graft.objectives import Objective
from graft.process import Process, Projection, Schedule
from graft.reward import Reward
from graft.runs.architecture import is_path, is_shipped
from graft.solvers import Solver

KINDS = (nn.Module, Process, Schedule, Projection, Solver, NoiseCorrector, LoRA)
"""Kinds of the parts of a model; a domain's own classes may be of other kinds."""

NEVER = (Reward, AcceptanceRule, Filter, Objective, LightningDataModule, Callback, Trainer)
"""Kinds that are never built from a weights file, in any package."""

PACKAGES = ("graft.", "domains.", "diffusers.", "torch.nn.")
"""Packages whose modules may be imported for a weights file."""

SPEC = {"class_path", "init_args", "dict_kwargs"}
PATH = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", re.ASCII)
LONGEST = 10_000  # characters of a text


def check_model(path: Path, model: Any, named: bool = False) -> None:
    """Raise GraftError if a weights file names a class that is no part of a model.

    Only modules of `PACKAGES` are imported, and only after all settings have been checked.

    Args:
        path: The weights file, for messages.
        model: ``{"class_path": ..., "init_args": {...}}``.
        named: The user names the class of the model, which is then not checked.
    """
    if not isinstance(model, dict) or "class_path" not in model:
        raise GraftError(f"{path} describes no model: use graft predict --config … --weights {path}")
    _check_keys(path, "model", model)
    for key, spec in _specs(model, "model"):
        if key != "model" or not named:
            _check_name(path, key, spec["class_path"])
        if not set(spec) <= SPEC:
            raise _refused(path, key, spec["class_path"], "which has more than its settings")
    for key, text in _nodes(model, "model"):
        if isinstance(text, str) and not key.endswith(".class_path"):
            _check_string(path, key, text)
    check_classes(path, model, named)


def check_classes(path: Path, model: Mapping[str, Any], named: bool = False) -> None:
    """Raise GraftError if a weights file names a class that is no network, process or domain.

    Args:
        path: The weights file, for messages.
        model: ``{"class_path": ..., "init_args": {...}}``, with resolved names of classes.
        named: The user names the class of the model, which is then not checked.
    """
    home = _package(str(model["class_path"]))
    for key, spec in _specs(model, "model"):
        name = spec["class_path"]
        if key == "model" and named:
            continue
        _check_name(path, key, name)
        module, _, attribute = name.rpartition(".")
        try:
            kind = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # a module can raise any error
            raise GraftError(f"{path} names {name} in its {key}, which cannot be imported ({error})") from None
        if not isinstance(kind, type) or issubclass(kind, NEVER) or not f"{kind.__module__}.".startswith(PACKAGES):
            raise _refused(path, key, name, "which is no network, process or domain")
        own = _package(kind.__module__) == home and home.startswith("domains.")
        if not issubclass(kind, Domain if key == "model" else KINDS) and not (own and key != "model"):
            raise _refused(path, key, name, "which is no network, process or domain")


def _check_keys(path: Path, key: str, value: Any) -> None:
    """Raise GraftError for a name of a setting that the parser would read as a path to other settings."""
    for at, name in ((at, name) for at, each in _nodes(value, key) if isinstance(each, dict) for name in each):
        if not isinstance(name, str | int) or not re.fullmatch(r"[A-Za-z0-9]\w*", str(name), re.ASCII):
            raise GraftError(f"{path} has a setting {str(name)[:80]!r} in its {at}: it is not to be trusted")


def _check_name(path: Path, key: str, name: Any) -> None:
    """Raise GraftError for a name of a class that is not of `PACKAGES`, before any import."""
    if not isinstance(name, str) or not PATH.fullmatch(name):
        raise _refused(path, key, name, "which is no class of a package")
    if not name.startswith(PACKAGES):
        raise _refused(path, key, name, "which is no class of graft or of a domain")


def _check_string(path: Path, key: str, text: str) -> None:
    """Raise GraftError for text that names a file, an address, a class or further settings."""
    name = f"{key} {text[:80]!r}"
    if "\0" in text or len(text) > LONGEST:
        raise GraftError(f"{path} has {name}, which is no plain setting: it is not to be trusted")
    if is_path(text) and not is_shipped(text):
        setting = key.removeprefix("model.init_args.")
        raise GraftError(
            f"{path} names a file or address in its {name}: give it with --model.{setting}, or, if the run is your "
            "own, name its folder with --weights and add --trust"
        )
    if PATH.fullmatch(text) and (text.startswith(PACKAGES) or _importable(text.partition(".")[0])):
        _check_name(path, key, text)  # the parser would import it
        raise _refused(path, key, text, "a class or function where a plain setting is due")
    if yaml_files.holds_collection(text):
        raise GraftError(f"{path} has {name}, settings written as text: it is not to be trusted")


def _importable(name: str) -> bool:
    """Return whether a top-level package or module has the name, without an import."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # the module exists without a specification
        return True


def _refused(path: Path, key: str, name: Any, why: str) -> GraftError:
    return GraftError(
        f"{path} names {str(name)[:200]} in its {key}, {why}: it is not to be trusted. If the run is your own, name "
        "its folder with --weights and add --trust"
    )


def _nodes(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield (place, value) of a setting and of all settings within it."""
    yield key, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, each in inner:
        yield from _nodes(each, f"{key}.{name}")


def _specs(value: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, class with its settings) of all named classes."""
    return ((place, each) for place, each in _nodes(value, key) if isinstance(each, dict) and "class_path" in each)


def _package(name: str) -> str:
    """Return the domain or the package of a class."""
    parts = name.split(".")
    return ".".join(parts[: 2 if parts[0] == "domains" else 1])
