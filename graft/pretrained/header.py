"""The model in the header of a weights file, or in the folder of its run, checked."""

from collections.abc import Hashable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from graft.domain import Domain
from graft.errors import GraftError
from graft.io import yaml_files
from graft.io.tensors import ForeignError, read_metadata
from graft.pretrained import allowed_classes
from graft.pretrained.classes import import_name
from graft.pretrained.parsing import shorten_parser_error
from graft.pretrained.reference_file import find_reference
from graft.runs import python_config
from graft.runs.architecture import TRAINING_SETTINGS
from graft.runs.object_settings import parameters


def read_header(path: Path) -> "dict[str, Any] | None":
    """Return the header that graft wrote into a weights file; None for a file of another program.

    Raises:
        GraftError: The file is damaged.
    """
    if path.suffix.lower() != ".safetensors":
        return None
    try:
        return read_metadata(path)
    except ForeignError:
        return None


def architecture(
    path: Path, about: dict[str, Any], given: Iterable[str], kind: "type[Domain] | None" = None
) -> dict[str, Any]:
    """Return the checked ``class_path`` and ``init_args`` of the model of a weights file.

    Args:
        path: The weights file.
        about: Header of the file.
        given: Settings of the model that the user replaces; those of the file are not checked.
        kind: Class that the user names, the file's or a subclass; None for the file's class, which is then checked.

    Raises:
        GraftError: The file names something that no model needs, or its reference is not here.
    """
    given = set(given)
    holes = about.get("undescribed")
    if isinstance(holes, dict):
        text = python_config.comments({place: str(what)[:200] for place, what in holes.items()})
        python_config.require_described(text, str(path), [f"model.{name}" for name in given], ("model",))
    model = described_model(about)
    if model is not None:
        leave = {*given, *TRAINING_SETTINGS}
        model = {**model, "init_args": {k: v for k, v in (model.get("init_args") or {}).items() if k not in leave}}
    named = kind is not None
    allowed_classes.check_model(path, model, named)
    assert model is not None
    kind = kind or import_name(model["class_path"])
    resolved = _resolved(path, kind, model["init_args"], given)
    allowed_classes.check_classes(path, {**model, "init_args": resolved}, named)
    reference = about.get("reference")
    if reference and "weights" not in given:
        model["init_args"]["weights"] = find_reference(path, reference)
    return model


def trusted_config(
    run: "str | Path", path: Path, about: dict[str, Any], given: Iterable[str], rewarded: bool
) -> dict[str, Any]:
    """Return the configuration in a run's folder, with the file of the reference where it is now.

    Args:
        run: The folder of the run, or of one of its rounds.
        path: The weights file.
        about: Header of the file.
        given: Dotted names of the settings that the user gives; the configuration may lack them.
        rewarded: True if the reward is needed too.

    Raises:
        GraftError: The folder holds no configuration of a run, or the configuration misses a setting.
    """
    file = _run(Path(run)) / "config.yaml"
    if not file.is_file():
        raise GraftError(f"--trust is for the folder of a run with its config.yaml, and {run} is none: leave it out")
    config: Any = yaml_files.read_yaml(file)
    needed = ("model", *(("data.reward",) if rewarded else ()))
    python_config.require_described(file.read_text(encoding="utf-8-sig"), str(file), given, needed)
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise GraftError(f"{file} is no configuration of a run: it has no model")
    if not isinstance(config["model"].get("init_args") or {}, dict):
        raise GraftError(f"{file} is no configuration of a run: model.init_args are no settings")
    with suppress(GraftError):  # the reference is the folder of a pipeline, which the configuration names
        if about.get("reference"):
            reference = find_reference(path, about["reference"])
            config["model"]["init_args"] = {**(config["model"].get("init_args") or {}), "weights": reference}
    return dict(config)


def described_model(about: dict[str, Any]) -> "dict[str, Any] | None":
    """Return the model that a header describes, unchecked; None if it describes none."""
    model = about.get("architecture")
    if not isinstance(model, dict) or not isinstance(model.get("class_path"), str):
        return model if isinstance(model, dict) and "class_path" in model else None
    return model if isinstance(model.get("init_args") or {}, dict) else None


def _resolved(path: Path, kind: type, settings: dict[str, Any], given: Iterable[str]) -> dict[str, Any]:
    """Return settings of a class with the names of their classes resolved."""
    key = kind, repr(settings), frozenset(given)
    if key not in _RESOLVED:
        _, parsed = parse_settings(path, kind, settings, given)
        resolved = (parsed.get("model") or parsed).as_dict() if settings else {}
        _RESOLVED[key] = {name: resolved[name] for name in settings}
    return _RESOLVED[key]


_RESOLVED: dict[Hashable, dict[str, Any]] = {}
"""Results of `_resolved`: a comparison builds one model for each row, and the parser takes most of that time."""


def parse_settings(path: Path, kind: type, settings: Mapping[str, Any], given: Iterable[str]) -> "tuple[Any, Any]":
    """Return (parser, its result) of settings of a class; names of classes in the result are resolved.

    Raises:
        GraftError: The class does not take the settings.
    """
    parser = ArgumentParser(exit_on_error=False)
    required = {name for name, each in parameters(kind).items() if each.default is each.empty}
    absent = required - {*settings}  # the constructor asks for them
    parser.add_class_arguments(kind, "model", skip={*given, *absent}, instantiate=False)
    try:
        return parser, parser.parse_object({"model": dict(settings)} if settings else {})
    except (ArgumentError, ValueError, TypeError, OverflowError, ImportError) as error:
        raise GraftError(f"{path}: {shorten_parser_error(str(error))}") from error


def _run(folder: Path) -> Path:
    """Return the folder of the run that a folder is, or is a round of."""
    own = (folder / "config.yaml").is_file() or folder.resolve().parent.name != "rounds"
    return folder if own else folder.resolve().parent.parent
