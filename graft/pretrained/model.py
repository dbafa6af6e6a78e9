"""The model that a weights file describes: read from the header, checked, put below a configuration, or built.

``graft fit`` and the commands that take its configurations put the model below the user's settings. ``graft sample``,
``hits`` and ``evaluate`` build it for the weights of a run. `graft.GraftModule.from_pretrained` builds it in Python.
All of them use `architecture`.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from graft import runs
from graft.domain import Domain
from graft.errors import GraftError
from graft.io import yaml_files
from graft.io.paths import find_file
from graft.pretrained.classes import dotted_names, import_name, user_class
from graft.pretrained.given import GivenModel
from graft.pretrained.header import architecture, described_model, parse_settings, read_header, trusted_config
from graft.runs.architecture import missing_network
from graft.runs.config_of_objects import remember_settings
from graft.runs.object_settings import setting_of

TUNING = ("level", "upper_level", "lora", "corrector")
"""Settings of a header that say how the weights were tuned: a model that starts from a reference has its own."""

yaml_files.check_yaml_in_parser()  # before a parser reads a value


def model_below(given: GivenModel, trust: bool = False) -> "str | None":
    """Return the model of the user's weights as YAML, below the user's configurations and flags.

    A setting that the user gives whole, with a value or a class, replaces that of the weights; the latter is then not
    checked. The user's class may be the one of the weights or a subclass.

    Args:
        given: The model that the user describes.
        trust: True to read ``config.yaml`` in the folder of the weights, which may name any class and file.

    Returns:
        None if the file is missing, comes from another program, holds tuned weights, or is of another class.

    Raises:
        GraftError: The file names something that no model needs.
    """
    if given.from_python:
        return None
    if given.weights is None:
        return _default_process(given)
    try:
        path = find_file(given.weights)
    except GraftError:  # a pipeline on a hub; a missing file is named when it is loaded
        return None
    about = read_header(path)
    described = described_model(about) if about is not None else None
    if about is None or described is None or about.get("reference") or not isinstance(described["class_path"], str):
        return None
    kind, same = user_class(given.class_path, described["class_path"])
    if not same:
        return None
    replaced = {*given.replaced, *TUNING}
    model = _chosen(path, about, described, replaced, kind, trust)
    if given.class_path is not None:
        model["class_path"] = given.class_path
        if not model["init_args"]:
            return None
    return yaml.safe_dump({"model": model}, sort_keys=False)


def _default_process(given: GivenModel) -> "str | None":
    """Return the ``default_process`` of the user's domain as YAML, for a model without weights, or None.

    The configuration then holds the whole process, so that an overlay can change a part.
    """
    if given.class_path is None or "process" in given.replaced:
        return None
    try:
        make = import_name(given.class_path).default_process
        names = inspect.signature(make).parameters
        process = make(**{name: value for name, value in given.replaced.items() if name in names})
    except Exception:  # the constructor has a better message
        return None
    model = {"class_path": given.class_path, "init_args": {"process": setting_of(process)}}
    return yaml.safe_dump({"model": model}, sort_keys=False)


def from_pretrained(kind: type[Domain], path: "str | Path", trust: bool, overrides: Mapping[str, Any]) -> Any:
    """Return the model of a weights file or of a run's folder; see `graft.GraftModule.from_pretrained`."""
    file = runs.find_weights(path)
    about = read_header(file)
    described = described_model(about) if about is not None else None
    if about is None or described is None:
        raise missing_network(str(path))
    theirs = str(described["class_path"])
    named = theirs in dotted_names(kind)
    below = not named and any(theirs in dotted_names(each) for each in kind.__mro__)
    tuned = bool(about.get("reference"))
    replaced = {*overrides, *(() if tuned else TUNING)}
    model = _chosen(file, about, described, replaced, kind if named or below else None, trust)
    built = kind if named or below else import_name(model["class_path"])
    if not issubclass(built, kind):
        raise GraftError(f"{path} holds weights of {theirs}; they are no weights of {kind.__name__}")
    settings = {name: value for name, value in model["init_args"].items() if name != "weights"}
    parser, parsed = parse_settings(file, built, settings, {*replaced, "weights"})
    objects = parser.instantiate_classes(parsed).get("model") or {}
    reference = model["init_args"].get("weights") if tuned else str(file if Path(path).is_dir() else path)
    given = {"weights": reference, **{name: objects[name] for name in settings}, **overrides}
    module: Any = built(**given)
    remember_settings(module, {name: (settings[name], given[name]) for name in settings})
    if tuned:
        module.load_weights(file)
    return module


def _chosen(
    path: Path,
    about: dict[str, Any],
    described: dict[str, Any],
    replaced: set[str],
    kind: "type[Domain] | None",
    trust: bool,
) -> dict[str, Any]:
    """Return the model of a header without replaced settings; with ``trust`` that of the run's folder."""
    if not trust:
        return architecture(path, about, replaced, kind)
    model = trusted_config(path.parent, path, about, [f"model.{name}" for name in replaced], False)["model"]
    names = {*(described.get("init_args") or {}), *(["weights"] if about.get("reference") else [])} - replaced
    return {**model, "init_args": {k: v for k, v in (model.get("init_args") or {}).items() if k in names}}
