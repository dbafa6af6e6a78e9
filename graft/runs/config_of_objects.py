"""The configuration of a run that was started from Python, written from its objects.

An object is its class with the arguments that it was made with. A network is made anew from what it has kept of its
arguments and is compared with the one there is, on torch's ``meta`` device, which computes nothing. What no file can
say (a lambda, a class of the program that was started, a network whose arguments are lost) is named in a comment, and
who goes on from the command line must give it.
"""

import contextlib
import copy
import dataclasses
import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Trainer
from torch import nn

from graft import plain_yaml
from graft.errors import GraftError
from graft.fingerprint import public_attributes
from graft.recorded_arguments import Described
from graft.reward import FunctionReward
from graft.reward.code import importable

KEPT = "# kept by graft from Python: what it does not name has its default\n"
MISSING = "# made in Python, so that no file says it: "
REWARDS = ("reward", "screen", "held_out")
PLACES = ("seed", "run_dir")  # settings of objects that are said elsewhere


class _Unsaid(Exception):
    """An object that no configuration can name."""


def remember(module: Any, data: Any, trainer: Any, config: Mapping[str, Any]) -> None:
    """Note the configuration that objects were built from, and their attributes as they are now."""
    for place, value in (("model", module), ("data", data), ("trainer", trainer)):
        if value is not None:
            now = {name: found for name in _parameters(type(value)) if (found := _now(value, name)) is not _LOST}
            value.__dict__["_built"] = copy.deepcopy(dict(config.get(place) or {})), now


def configuration(module: Any, data: Any, trainer: Trainer) -> str:
    """Return the configuration of objects as YAML; what it cannot say stands in a comment."""
    holes: dict[str, str] = {}
    settings: dict[str, Any] = {"seed_everything": int(module.seed)}
    settings["trainer"] = _trainer(trainer, holes)
    settings["model"] = _settings(module, "model", holes)
    settings["data"] = _settings(data, "data", holes)
    seed = getattr(data, "seed", module.seed)
    if seed != module.seed:
        holes["data.seed"] = f"{seed}, not the model's {module.seed}"
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    said = "".join(f"{MISSING}{place} ({' '.join(what.split())})\n" for place, what in holes.items())
    return KEPT + said + text


def missing(text: str) -> dict[str, str]:
    """Return what a kept configuration cannot say, by setting, with a word on it."""
    lines = [line.removeprefix(MISSING) for line in text.splitlines() if line.startswith(MISSING)]
    return {place: what.rstrip(")") for place, _, what in (line.partition(" (") for line in lines)}


def refuse(text: str, of: str, given: Iterable[str] = (), places: Iterable[str] = ("",)) -> None:
    """Refuse a configuration that does not say all that is to be built.

    Args:
        text: The configuration.
        of: The file, for the message.
        given: Settings that are given besides.
        places: What is to be built: settings below these.

    Raises:
        GraftError: Something is missing.
    """
    given, places = tuple(given), tuple(places)
    holes = {
        place: what
        for place, what in missing(text).items()
        if not any(place.startswith(each) or each.startswith(f"{place}.") for each in given)
        and any(place.startswith(each) for each in places)
    }
    if holes:
        names = ", ".join(f"{place} ({what})" for place, what in holes.items())
        raise GraftError(
            f"{of} is of a run that was started from Python and does not say {names}: give it with "
            f"--{next(iter(holes))}, or go on in Python with graft.fit(..., checkpoint='last')"
        )


def whole(text: str, config: str, parser: Any) -> str:
    """Return a kept configuration with the defaults of what it does not name; any other as it is.

    Args:
        text: The configuration.
        config: The one that a run goes on with, whole; it says what ``text`` cannot.
        parser: Of the command.

    Raises:
        GraftError: A setting is unknown.
    """
    if not text.startswith(KEPT):
        return text
    from jsonargparse import ArgumentError

    settings, ours = (plain_yaml.load(each, "config.yaml") for each in (text, config))
    for place in missing(text):
        _set(settings, place.split("."), _get(ours, place.split(".")))
    try:
        parsed = parser.parse_object(settings)
    except (ArgumentError, TypeError, ValueError) as error:
        raise GraftError(f"the configuration that the run was started with cannot be read ({error})") from None
    for name in ("ckpt_path", "run_dir"):
        parsed[name] = None
    return str(parser.dump(parsed, skip_none=False))


def _get(settings: Any, path: list[str]) -> Any:
    for name in path:
        inner = settings.get("init_args", {}) if isinstance(settings, dict) and name not in settings else settings
        settings = inner.get(name) if isinstance(inner, dict) else None
    return settings


def _set(settings: Any, path: list[str], value: Any) -> None:
    for name in path[:-1]:
        settings = settings.setdefault(name, {})
    settings = settings.setdefault("init_args", {}) if "init_args" in settings else settings
    settings[path[-1]] = value


def _trainer(trainer: Trainer, holes: dict[str, str]) -> dict[str, Any]:
    if "_built" in vars(trainer):
        return dict(vars(trainer)["_built"][0])
    asked = vars(trainer).get("_asked")
    if asked is None:
        names = "max_epochs", "accumulate_grad_batches", "precision", "log_every_n_steps"
        asked = {name: getattr(trainer, name) for name in names}
    out = {}
    for name, value in asked.items():
        with _noting(holes, f"trainer.{name}", value):
            out[name] = _said(value)
    return out


def _settings(value: Any, place: str, holes: dict[str, str]) -> Any:
    """The settings of the model or of the data."""
    if "_built" in vars(value):
        config, then = vars(value)["_built"]
        known = config.get("init_args", {}) if "class_path" in config else config
        found = {name: _Kept(each) for name, each in known.items()}
        found |= {name: now for name, before in then.items() if not _same(before, now := _now(value, name))}
        path = config.get("class_path")
    else:
        found, path = _given(value), None
    out: dict[str, Any] = {}
    for name, each in found.items():
        if name not in PLACES:
            with _noting(holes, f"{place}.{name}", each):
                out[name] = _said(each)
    if place == "data" and type(value).__name__ == "Rollouts":
        return out
    with _noting(holes, place, value):
        path = path or _path(type(value))
    return {**({"class_path": path} if path else {}), "init_args": out}


class _Kept:
    """A value that is a configuration's already."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Lost:
    """An argument that cannot be had back."""


_LOST = _Lost()


def _given(value: Any) -> dict[str, Any]:
    """The arguments of an object that was made in Python, by name, as they are now if they were changed since."""
    made, out = _made(value), dict[str, Any]()
    for name, parameter in _parameters(type(value)).items():
        now = _now(value, name)
        if not isinstance(value, Described):
            if now is not _LOST or parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                out[name] = now
        elif name in REWARDS:  # a callable became a reward
            out |= {name: now} if now is not None else {}
        elif name in made:
            out[name] = now if _changed(value, name, made[name], now) else made[name]
        elif _changed(value, name, parameter.default, now):
            out[name] = now
    if getattr(value, "in_memory", None) is not None:  # it lies in the run's folder
        out["weights"], out["weights_prefix"] = value.reference_file["path"], None
    return {**{name: each for name, each in made.items() if name not in out}, **out}


def _now(value: Any, name: str) -> Any:
    """The attribute that an argument has become; `_LOST` if there is none of its name."""
    if name == "level" and hasattr(value, "level_setting"):
        return "auto" if value.level_setting == "auto" else value._level
    for each in (name, f"_{name}"):
        try:
            found = getattr(value, each)
        except Exception:  # also of a property
            continue
        if not inspect.ismethod(found):  # a method of that name is no argument
            return found
    return _LOST


def _same(before: Any, now: Any) -> bool:
    return before is now or (_plain(before) and _plain(now) and before == now)


def _changed(value: Any, name: str, before: Any, now: Any) -> bool:
    """Whether an attribute was set to something else than what the object was made with."""
    if name in ("level", "start") and type(before) in (int, float) and type(now) in (int, float):
        return bool(abs(before - now) > 0.5001 / value.steps)  # it was moved to the sampler's nearest step
    return _plain(now) and not _same(before, now) and (_plain(before) or now is None)


def _plain(value: Any) -> bool:
    return value is None or type(value) in (bool, int, float, str)


@contextlib.contextmanager
def _noting(holes: dict[str, str], place: str, value: Any) -> Any:
    try:
        yield
    except _Unsaid as error:
        holes[place] = str(error) or type(value).__qualname__


def _said(value: Any) -> Any:
    """A value as a configuration has it.

    Raises:
        _Unsaid: None can.
    """
    if isinstance(value, _Kept):
        return value.value
    if value is _LOST:
        raise _Unsaid("whose value was not kept by the object")
    if _plain(value):
        return value
    if isinstance(value, Path):
        return str(value)
    if type(value) in (list, tuple):
        return [_said(each) for each in value]
    if type(value) is dict and all(type(key) in (str, int) for key in value):
        return {key: _said(each) for key, each in value.items()}
    if isinstance(value, FunctionReward):
        return _function(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _said(getattr(value, each.name)) for each in dataclasses.fields(value) if each.init}
    if isinstance(value, Described):
        made = {name: _said(each) for name, each in _made(value).items()}
        return {"class_path": _path(type(value)), **({"init_args": made} if made else {})}
    if isinstance(value, nn.Module):
        return _network(value)
    if callable(value) and (path := importable(value)) is not None:
        return path
    raise _Unsaid(_word(value))


def _function(value: FunctionReward) -> Any:
    """A function that can be imported: its path, with the settings if there are any."""
    made = _made(value)
    path = made.pop("path")
    path = path if isinstance(path, str) else importable(path)
    if path is None or path.startswith("__main__."):
        raise _Unsaid(value.name)
    if not made:
        return path
    made = {"path": path, **{name: _said(each) for name, each in made.items()}}
    return {"class_path": _path(type(value)), "init_args": made}


def _network(value: nn.Module) -> Any:
    """A network whose constructor's arguments it has kept, or that have their defaults."""
    made: dict[str, Any] = {}
    for name, parameter in _parameters(type(value)).items():
        now = _now(value, name)
        if now is not _LOST:
            made[name] = now
        elif parameter.default is inspect.Parameter.empty:
            raise _Unsaid(_word(value))
    try:
        said = {name: _said(each) for name, each in made.items()}
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            again = type(value)(**made)
        shapes = [{name: tensor.shape for name, tensor in each.state_dict().items()} for each in (again, value)]
        same = shapes[0] == shapes[1] and public_attributes(again) == public_attributes(value)
    except Exception:  # of the network's own constructor
        raise _Unsaid(_word(value)) from None
    if not same:
        raise _Unsaid(_word(value))
    return {"class_path": _path(type(value)), **({"init_args": said} if said else {})}


def _made(value: Any) -> dict[str, Any]:
    """The arguments that an object was made with, by name; those that a class passes on too."""
    args, kwargs = vars(value).get("_arguments", ((), {}))
    kinds = [kind for kind in type(value).__mro__ if "__init__" in vars(kind) and kind is not object]
    out: dict[str, Any] = {}
    rest = list(args)
    for kind in kinds:
        names = list(inspect.signature(vars(kind)["__init__"]).parameters.values())[1:]
        for parameter in names:
            if rest and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                out[parameter.name] = rest.pop(0)
        if not rest:
            break
    return out | dict(kwargs)


def _parameters(kind: type) -> dict[str, inspect.Parameter]:
    """The parameters of a constructor by name, those that it passes on to its base class too."""
    out: dict[str, inspect.Parameter] = {}
    for each in kind.__mro__:
        if "__init__" not in vars(each) or each in (object, nn.Module):
            continue
        found = list(inspect.signature(vars(each)["__init__"]).parameters.values())[1:]
        variable = [each for each in found if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        out = {parameter.name: parameter for parameter in found if parameter not in variable} | out
        if not variable:
            break
    return out


def _path(kind: type) -> str:
    """The shortest path by which a class is imported, as jsonargparse has it."""
    if importable(kind) is None:
        raise _Unsaid(f"{kind.__qualname__}, which cannot be imported")
    parts = kind.__module__.split(".")
    for i in range(len(parts)):
        module = ".".join(parts[: i + 1])
        if getattr(sys.modules.get(module), kind.__name__, None) is kind:
            return f"{module}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__qualname__}"


def _word(value: Any) -> str:
    return value.__name__ if inspect.isroutine(value) else type(value).__qualname__
