"""The configuration of a run that was started from Python, written from its objects.

The configuration of an object is its class with the constructor's arguments. A network is built a second time from the
arguments that it kept, on torch's ``meta`` device, which computes nothing, and is compared with the first. An object
that no file can describe (a lambda, a class of the program itself, a network without its arguments) is named in a
comment; the command line must give it when it resumes the run.
"""

import contextlib
import copy
import dataclasses
import inspect
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Trainer
from torch import nn

from graft.core.recorded_arguments import Described
from graft.errors import GraftError
from graft.io import yaml_files
from graft.io.fingerprint import public_attributes
from graft.reward import FunctionReward
from graft.reward.code import importable

KEPT = "# written by graft from Python objects: a setting that is missing has its default\n"
MISSING = "# made in Python, so that no configuration describes it: "
REWARDS = ("reward",)
PLACES = ("seed", "run_dir")  # settings of objects that stand elsewhere in a configuration


class _Unsaid(Exception):
    """Raised for an object that no configuration can name."""


def remember(module: Any, data: Any, trainer: Any, config: Mapping[str, Any]) -> None:
    """Record the configuration that objects were built from, and their present attributes."""
    for place, value in (("model", module), ("data", data), ("trainer", trainer)):
        if value is not None:
            now = {name: found for name in parameters(type(value)) if (found := _now(value, name)) is not _LOST}
            # a group of settings may be changed in place
            now = {name: dataclasses.replace(each) if _is_group(each) else each for name, each in now.items()}
            value.__dict__["_built"] = copy.deepcopy(dict(config.get(place) or {})), now


def remember_settings(module: Any, settings: Mapping[str, tuple[Any, Any]]) -> None:
    """Record (setting, object built from it) of arguments of a module, for the configuration of its run."""
    module.__dict__["_settings"] = dict(settings)


def configuration(module: Any, data: Any, trainer: Trainer) -> str:
    """Return the configuration of objects as YAML, with comments for objects that it cannot describe."""
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
    """Return the settings that a kept configuration cannot describe, each with a word about the object."""
    lines = [line.removeprefix(MISSING) for line in text.splitlines() if line.startswith(MISSING)]
    return {place: what.rstrip(")") for place, _, what in (line.partition(" (") for line in lines)}


def refuse(text: str, of: str, given: Iterable[str] = (), places: Iterable[str] = ("",)) -> None:
    """Raise GraftError if a configuration does not describe all objects that are to be built.

    Args:
        text: The configuration.
        of: The file, for the message.
        given: Settings that the user gives in addition.
        places: Sections that are to be built.

    Raises:
        GraftError: A setting is missing.
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
            f"--{next(iter(holes))}, or resume in Python with graft.fit(..., checkpoint='last')"
        )


def whole(text: str, config: str, parser: Any) -> str:
    """Return a kept configuration with the defaults of missing settings; another configuration unchanged.

    Args:
        text: The configuration.
        config: The whole configuration that resumes the run; it describes the objects that ``text`` cannot describe.
        parser: Parser of the command.

    Raises:
        GraftError: A setting is unknown.
    """
    if not text.startswith(KEPT):
        return text
    from jsonargparse import ArgumentError

    settings, ours = (yaml_files.load(each, "config.yaml") for each in (text, config))
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
            out[name] = setting_of(value)
    return out


def _settings(value: Any, place: str, holes: dict[str, str]) -> Any:
    """Return the settings of the model or of the data."""
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
                out[name] = setting_of(each)
    if place == "data" and type(value).__name__ == "Rollouts":
        return out
    with _noting(holes, place, value):
        path = path or _path(type(value))
    return {**({"class_path": path} if path else {}), "init_args": out}


class _Kept:
    """A value that is already in the form of a configuration."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Lost:
    """An argument that the object did not keep."""


_LOST = _Lost()


def _given(value: Any) -> dict[str, Any]:
    """Return the arguments of an object from Python by name, with the present value of changed ones."""
    made, out = _made(value), dict[str, Any]()
    for name, parameter in parameters(type(value)).items():
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
    policy = getattr(value, "policy", None)
    if policy is not None and policy.in_memory is not None:  # the reference lies in the run's folder
        out["weights"], out["weights_prefix"] = policy.reference_file["path"], None
    out = {**{name: each for name, each in made.items() if name not in out}, **out}
    for name, (setting, built) in vars(value).get("_settings", {}).items():
        if out.get(name) is built:
            out[name] = _Kept(setting)
    return out


def _now(value: Any, name: str) -> Any:
    """Return the attribute of an argument's name; `_LOST` if there is none."""
    if name == "level" and hasattr(value, "level_setting"):
        return "auto" if value.level_setting == "auto" else value.policy.interval.low
    policy = getattr(value, "policy", value)
    for owner, each in ((value, name), (value, f"_{name}"), (policy, name)):
        try:
            found = getattr(owner, each)
        except Exception:  # a property may raise any error
            continue
        if not inspect.ismethod(found):  # a method of that name is not an argument
            return found
    return _LOST


def _same(before: Any, now: Any) -> bool:
    if isinstance(before, partial) and isinstance(now, partial):
        return (before.func, before.args, before.keywords) == (now.func, now.args, now.keywords)
    if _is_group(before) and type(before) is type(now):
        return bool(before == now)
    return before is now or (_plain(before) and _plain(now) and before == now)


def _changed(value: Any, name: str, before: Any, now: Any) -> bool:
    """Return whether an attribute differs from the argument of the constructor."""
    if name in ("level", "upper_level") and type(before) in (int, float) and type(now) in (int, float):
        return bool(abs(before - now) > 0.5001 / value.policy.steps)  # the constructor moves it to the nearest step
    if _is_group(now):
        return bool(now != (type(now)() if before is None else before))
    return _plain(now) and not _same(before, now) and (_plain(before) or now is None)


def _is_group(value: Any) -> bool:
    """Return whether a value is a group of settings."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _plain(value: Any) -> bool:
    if isinstance(value, partial):  # makes an optimizer or a schedule
        return isinstance(value.func, type) and not value.args and all(map(_plain, value.keywords.values()))
    return value is None or type(value) in (bool, int, float, str)


@contextlib.contextmanager
def _noting(holes: dict[str, str], place: str, value: Any) -> Any:
    try:
        yield
    except _Unsaid as error:
        holes[place] = str(error) or type(value).__qualname__


def setting_of(value: Any) -> Any:
    """Return a value in the form of a configuration.

    Raises:
        _Unsaid: No configuration can describe it.
    """
    if isinstance(value, _Kept):
        return value.value
    if isinstance(value, partial) and _plain(value):
        made = {name: setting_of(each) for name, each in value.keywords.items()}
        kind: Any = value.func
        return {"class_path": _path(kind), **({"init_args": made} if made else {})}
    if value is _LOST:
        raise _Unsaid("a value that the object did not keep")
    if _plain(value):
        return value
    if isinstance(value, Path):
        return str(value)
    if type(value) in (list, tuple):
        return [setting_of(each) for each in value]
    if type(value) is dict and all(type(key) in (str, int) for key in value):
        return {key: setting_of(each) for key, each in value.items()}
    if isinstance(value, FunctionReward):
        return _function(value)
    if _is_group(value):
        return {each.name: setting_of(getattr(value, each.name)) for each in dataclasses.fields(value) if each.init}
    if isinstance(value, Described):
        made = {name: setting_of(each) for name, each in _made(value).items()}
        return {"class_path": _path(type(value)), **({"init_args": made} if made else {})}
    if isinstance(value, nn.Module):
        return _network(value)
    if callable(value) and (path := importable(value)) is not None:
        return path
    raise _Unsaid(_word(value))


def _function(value: FunctionReward) -> Any:
    """Return the path of a function that can be imported, with its settings if it has any."""
    made = _made(value)
    path = made.pop("path")
    path = path if isinstance(path, str) else importable(path)
    if path is None or path.startswith("__main__."):
        raise _Unsaid(value.name)
    if not made:
        return path
    made = {"path": path, **{name: setting_of(each) for name, each in made.items()}}
    return {"class_path": _path(type(value)), "init_args": made}


def _network(value: nn.Module) -> Any:
    """Return the setting of a network that kept its arguments or has the defaults."""
    made: dict[str, Any] = {}
    for name, parameter in parameters(type(value)).items():
        now = _now(value, name)
        if now is not _LOST:
            made[name] = now
        elif parameter.default is inspect.Parameter.empty:
            raise _Unsaid(_word(value))
    try:
        said = {name: setting_of(each) for name, each in made.items()}
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            again = type(value)(**made)
        shapes = [{name: tensor.shape for name, tensor in each.state_dict().items()} for each in (again, value)]
        same = shapes[0] == shapes[1] and public_attributes(again) == public_attributes(value)
    except Exception:  # the network's own constructor may raise any error
        raise _Unsaid(_word(value)) from None
    if not same:
        raise _Unsaid(_word(value))
    return {"class_path": _path(type(value)), **({"init_args": said} if said else {})}


def _made(value: Any) -> dict[str, Any]:
    """Return the recorded arguments of an object by name, with those that it passes to base classes."""
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


def parameters(kind: type) -> dict[str, inspect.Parameter]:
    """Return the parameters of a constructor by name, with those that it passes to its base class."""
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
    """Return the shortest path by which a class is imported, as jsonargparse writes it."""
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
