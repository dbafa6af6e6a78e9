"""The model that a weights file describes: read from the header, checked, put below a configuration, or built.

``graft fit`` and the commands that take its configurations put the model below the user's settings. ``graft sample``,
``hits`` and ``evaluate`` build it for the weights of a run. `graft.GraftModule.from_pretrained` builds it in Python.
All of them use `architecture`.
"""

import importlib
import inspect
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from graft import runs
from graft.domain import Domain
from graft.errors import GraftError
from graft.io import yaml_files
from graft.io.paths import find_file
from graft.io.tensors import ForeignError, read_metadata
from graft.network.weights import is_reference
from graft.pretrained import allowed_classes
from graft.pretrained.parsing import read_config, shorten_parser_error
from graft.runs import config_of_objects
from graft.runs.architecture import TRAINING_SETTINGS, missing_network

TUNING = ("level", "upper_level", "lora", "corrector")
"""Settings of a header that say how the weights were tuned: a model that starts from a reference has its own."""

yaml_files.install()  # before a parser reads a value


@dataclass
class GivenModel:
    """The model that the user's configurations and flags describe.

    Attributes:
        class_path: Class, as the user names it; None if no source names one.
        weights: Reference; None if no source names one.
        replaced: Settings that replace those of the weights, without settings that are given in part.
        from_python: True if a configuration is of a run from Python, where a missing setting has its default.
    """

    class_path: "str | None" = None
    weights: "str | None" = None
    replaced: dict[str, Any] = field(default_factory=dict)
    from_python: bool = False

    def add(self, model: Any) -> None:
        """Add a ``model`` section, which replaces settings that were added before."""
        if isinstance(model, str):
            self.class_path = model
        elif isinstance(model, dict):
            if isinstance(model.get("class_path"), str):
                self.class_path = model["class_path"]
            settings = model.get("init_args")
            for name, value in settings.items() if isinstance(settings, dict) else ():
                self.set(str(name), value)

    def set(self, name: str, value: Any) -> None:
        """Add one setting of the model."""
        if name == "weights":
            self.weights = value if isinstance(value, str) else None
        if not isinstance(value, dict) or "class_path" in value:
            self.replaced[name] = value

    def set_flag(self, name: str, text: str) -> None:
        """Add the value of the flag ``--model.NAME``."""
        path = name.split(".")
        path = path[1:] if path[0] == "init_args" and len(path) > 1 else path
        if path == ["class_path"]:
            self.class_path = text
        elif len(path) == 1:
            value: Any = text
            with suppress(GraftError):  # the parser has a better message
                value = yaml_files.load(text, f"the value of --model.{name}")
            self.set(path[0], value)
        elif path[1:] == ["class_path"]:
            self.replaced[path[0]] = {"class_path": text}


def given_model(args: list[str]) -> GivenModel:
    """Return the model that arguments with paths of configurations describe; the last source wins."""
    found, left = GivenModel(), iter(args)
    for arg in left:
        flag, equals, value = arg.partition("=")
        if flag not in ("--config", "-c", "--model") and not flag.startswith("--model."):
            continue
        text = value if equals else next(left, "")
        if flag in ("--config", "-c"):
            found.add(read_config(text).get("model"))  # first, because it raises GraftError for a file that is not text
            found.from_python |= Path(text).read_text(encoding="utf-8-sig").startswith(config_of_objects.KEPT)
        elif flag == "--model":
            with suppress(GraftError):  # the parser has a better message
                found.add(yaml_files.load(text, "the value of --model"))
        else:
            found.set_flag(flag.removeprefix("--model."), text)
    return found


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
    said = _described(about) if about is not None else None
    if about is None or said is None or about.get("reference") or not isinstance(said["class_path"], str):
        return None
    kind, same = _user_class(given.class_path, said["class_path"])
    if not same:
        return None
    replaced = {*given.replaced, *TUNING}
    model = _chosen(path, about, said, replaced, kind, trust)
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
        make = _imported(given.class_path).default_process
        names = inspect.signature(make).parameters
        process = make(**{name: value for name, value in given.replaced.items() if name in names})
    except Exception:  # the constructor has a better message
        return None
    model = {"class_path": given.class_path, "init_args": {"process": config_of_objects.setting_of(process)}}
    return yaml.safe_dump({"model": model}, sort_keys=False)


def from_pretrained(kind: type[Domain], path: "str | Path", trust: bool, overrides: Mapping[str, Any]) -> Any:
    """Return the model of a weights file or of a run's folder; see `graft.GraftModule.from_pretrained`."""
    file = runs.find_weights(path)
    about = read_header(file)
    said = _described(about) if about is not None else None
    if about is None or said is None:
        raise missing_network(str(path))
    theirs = str(said["class_path"])
    named = theirs in _names(kind)
    below = not named and any(theirs in _names(each) for each in kind.__mro__)
    tuned = bool(about.get("reference"))
    replaced = {*overrides, *(() if tuned else TUNING)}
    model = _chosen(file, about, said, replaced, kind if named or below else None, trust)
    built = kind if named or below else _imported(model["class_path"])
    if not issubclass(built, kind):
        raise GraftError(f"{path} holds weights of {theirs}; they are no weights of {kind.__name__}")
    settings = {name: value for name, value in model["init_args"].items() if name != "weights"}
    parser, parsed = _parsed(file, built, settings, {*replaced, "weights"})
    objects = parser.instantiate_classes(parsed).get("model") or {}
    reference = model["init_args"].get("weights") if tuned else str(file if Path(path).is_dir() else path)
    given = {"weights": reference, **{name: objects[name] for name in settings}, **overrides}
    module: Any = built(**given)
    config_of_objects.remember_settings(module, {name: (settings[name], given[name]) for name in settings})
    if tuned:
        module.load_weights(file)
    return module


def _chosen(
    path: Path,
    about: dict[str, Any],
    said: dict[str, Any],
    replaced: set[str],
    kind: "type[Domain] | None",
    trust: bool,
) -> dict[str, Any]:
    """Return the model of a header without replaced settings; with ``trust`` that of the run's folder."""
    if not trust:
        return architecture(path, about, replaced, kind)
    model = trusted_config(path.parent, path, about, [f"model.{name}" for name in replaced], False)["model"]
    names = {*(said.get("init_args") or {}), *(["weights"] if about.get("reference") else [])} - replaced
    return {**model, "init_args": {k: v for k, v in (model.get("init_args") or {}).items() if k in names}}


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
    unsaid = about.get("unsaid")
    if isinstance(unsaid, dict):
        holes = "".join(f"{config_of_objects.MISSING}{place} ({str(what)[:200]})\n" for place, what in unsaid.items())
        config_of_objects.refuse(holes, str(path), [f"model.{name}" for name in given], ("model",))
    model = _described(about)
    if model is not None:
        leave = {*given, *TRAINING_SETTINGS}
        model = {**model, "init_args": {k: v for k, v in (model.get("init_args") or {}).items() if k not in leave}}
    named = kind is not None
    allowed_classes.check(path, model, named)
    assert model is not None
    kind = kind or _imported(model["class_path"])
    resolved = _resolved(path, kind, model["init_args"], given)
    allowed_classes.check_classes(path, {**model, "init_args": resolved}, named)
    reference = about.get("reference")
    if reference and "weights" not in given:
        model["init_args"]["weights"] = _reference(path, reference)
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
    config: Any = yaml_files.read(file)
    needed = ("model", *(("data.reward",) if rewarded else ()))
    config_of_objects.refuse(file.read_text(encoding="utf-8-sig"), str(file), given, needed)
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise GraftError(f"{file} is no configuration of a run: it has no model")
    if not isinstance(config["model"].get("init_args") or {}, dict):
        raise GraftError(f"{file} is no configuration of a run: model.init_args are no settings")
    with suppress(GraftError):  # the reference is the folder of a pipeline, which the configuration names
        if about.get("reference"):
            reference = _reference(path, about["reference"])
            config["model"]["init_args"] = {**(config["model"].get("init_args") or {}), "weights": reference}
    return dict(config)


def _described(about: dict[str, Any]) -> "dict[str, Any] | None":
    """Return the model that a header describes, unchecked; None if it describes none."""
    model = about.get("architecture")
    if not isinstance(model, dict) or not isinstance(model.get("class_path"), str):
        return model if isinstance(model, dict) and "class_path" in model else None
    return model if isinstance(model.get("init_args") or {}, dict) else None


def _resolved(path: Path, kind: type, settings: dict[str, Any], given: Iterable[str]) -> dict[str, Any]:
    """Return settings of a class with the names of their classes resolved.

    Raises:
        GraftError: The class does not take the settings.
    """
    key = kind, repr(settings), frozenset(given)
    if key not in _RESOLVED:
        _, parsed = _parsed(path, kind, settings, given)
        resolved = (parsed.get("model") or parsed).as_dict() if settings else {}
        _RESOLVED[key] = {name: resolved[name] for name in settings}
    return _RESOLVED[key]


_RESOLVED: dict[Hashable, dict[str, Any]] = {}
"""Results of `_resolved`: a comparison builds one model for each row, and the parser takes most of that time."""


def _parsed(path: Path, kind: type, settings: Mapping[str, Any], given: Iterable[str]) -> "tuple[Any, Any]":
    """Return (parser, its result) of settings of a class; names of classes in the result are resolved.

    Raises:
        GraftError: The class does not take the settings.
    """
    parser = ArgumentParser(exit_on_error=False)
    required = {name for name, each in config_of_objects.parameters(kind).items() if each.default is each.empty}
    absent = required - {*settings}  # the constructor asks for them
    parser.add_class_arguments(kind, "model", skip={*given, *absent}, instantiate=False)
    try:
        return parser, parser.parse_object({"model": dict(settings)} if settings else {})
    except (ArgumentError, ValueError, TypeError, OverflowError, ImportError) as error:
        raise GraftError(f"{path}: {shorten_parser_error(str(error))}") from error


def _user_class(ours: "str | None", theirs: Any) -> "tuple[type[Domain] | None, bool]":
    """Return (class that the user names, True if it is the class of the weights or a subclass).

    The class is None if the user names none.
    """
    if ours is None:
        return None, True
    if "." not in ours:  # the parser finds classes by their last names
        return None, str(theirs).rpartition(".")[2] == ours
    try:
        kind = _imported(ours)
    except Exception:  # the parser has a better message
        return None, False
    same = isinstance(kind, type) and any(theirs in _names(each) for each in kind.__mro__)
    return kind, same and issubclass(kind, Domain)


def _imported(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _names(kind: type) -> set[str]:
    """Return the dotted paths of a class: in its module, and in packages that export it."""
    parts = kind.__module__.split(".")
    modules = [".".join(parts[: i + 1]) for i in range(len(parts))]
    found = {name for name in modules[:-1] if getattr(importlib.import_module(name), kind.__name__, None) is kind}
    return {f"{name}.{kind.__name__}" for name in {*found, kind.__module__}}


def _run(folder: Path) -> Path:
    """Return the folder of the run that a folder is, or is a round of."""
    own = (folder / "config.yaml").is_file() or folder.resolve().parent.name != "rounds"
    return folder if own else folder.resolve().parent.parent


def _reference(path: Path, reference: Any) -> str:
    """Return the file of the reference that weights were tuned from, checked by its hash."""
    reference = reference if isinstance(reference, dict) else {}
    name = str(reference.get("path", ""))
    for place in _places(path, name, str(reference.get("relative_path", ""))):
        if "://" in place or place.startswith(("//", "\\\\")):
            continue
        try:
            file = find_file(place)
            if is_reference(file, reference.get("sha256")):
                return place
        except (GraftError, OSError, ValueError):
            continue
    raise GraftError(
        f"{path} was tuned from the reference {name[:200]!r}, which is not here or has changed: give it with "
        "--model.weights FILE, or, if the run is your own, name its folder with --weights and add --trust"
    )


def _places(path: Path, name: str, relative: str) -> Iterator[str]:
    """Yield possible paths of a reference: by its name, from the weights, and in the run's settings."""
    if name:
        yield name
        yield str(path.parent / name)
    if relative:
        yield str(path.parent / relative)
    for folder in (path.parent, path.parent.parent.parent):  # the folder may be that of a run or of one of its rounds
        try:
            config = yaml_files.read(folder / "config.yaml") if (folder / "config.yaml").is_file() else None
        except GraftError:
            continue
        model = config.get("model") if isinstance(config, dict) else None
        settings = model.get("init_args") if isinstance(model, dict) else None
        if isinstance(settings, dict) and isinstance(settings.get("weights"), str):
            yield settings["weights"]
