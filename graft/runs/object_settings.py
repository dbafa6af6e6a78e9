"""The setting of an object: its class with the constructor's arguments.

A network is built a second time from the arguments that it kept, on torch's ``meta`` device, which computes nothing,
and is compared with the first.
"""

import dataclasses
import inspect
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graft.core.recorded_arguments import Described
from graft.io.fingerprint import public_attributes
from graft.reward import FunctionReward
from graft.reward.code import importable


class Undescribable(Exception):
    """Raised for an object that no configuration can name."""


class Verbatim:
    """A value that is already in the form of a configuration."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Absent:
    """An argument that the object did not keep."""


ABSENT = _Absent()


def current_value(value: Any, name: str) -> Any:
    """Return the attribute of an argument's name; `ABSENT` if there is none."""
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
    return ABSENT


def is_group(value: Any) -> bool:
    """Return whether a value is a group of settings."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def is_plain(value: Any) -> bool:
    """Return whether a value is its own setting: a number, a text, or a class with such arguments."""
    if isinstance(value, partial):  # makes an optimizer or a schedule
        return isinstance(value.func, type) and not value.args and all(map(is_plain, value.keywords.values()))
    return value is None or type(value) in (bool, int, float, str)


def setting_of(value: Any) -> Any:
    """Return a value in the form of a configuration.

    Raises:
        Undescribable: No configuration can describe it.
    """
    if isinstance(value, Verbatim):
        return value.value
    if isinstance(value, partial) and is_plain(value):
        made = {name: setting_of(each) for name, each in value.keywords.items()}
        kind: Any = value.func
        return {"class_path": class_path(kind), **({"init_args": made} if made else {})}
    if value is ABSENT:
        raise Undescribable("a value that the object did not keep")
    if is_plain(value):
        return value
    if isinstance(value, Path):
        return str(value)
    if type(value) in (list, tuple):
        return [setting_of(each) for each in value]
    if type(value) is dict and all(type(key) in (str, int) for key in value):
        return {key: setting_of(each) for key, each in value.items()}
    if isinstance(value, FunctionReward):
        return _function(value)
    if is_group(value):
        return {each.name: setting_of(getattr(value, each.name)) for each in dataclasses.fields(value) if each.init}
    if isinstance(value, Described):
        made = {name: setting_of(each) for name, each in recorded_arguments(value).items()}
        return {"class_path": class_path(type(value)), **({"init_args": made} if made else {})}
    if isinstance(value, nn.Module):
        return _network(value)
    if callable(value) and (path := importable(value)) is not None:
        return path
    raise Undescribable(_name_of(value))


def _function(value: FunctionReward) -> Any:
    """Return the path of a function that can be imported, with its settings if it has any."""
    made = recorded_arguments(value)
    path = made.pop("path")
    path = path if isinstance(path, str) else importable(path)
    if path is None or path.startswith("__main__."):
        raise Undescribable(value.name)
    if not made:
        return path
    made = {"path": path, **{name: setting_of(each) for name, each in made.items()}}
    return {"class_path": class_path(type(value)), "init_args": made}


def _network(value: nn.Module) -> Any:
    """Return the setting of a network that kept its arguments or has the defaults."""
    made: dict[str, Any] = {}
    for name, parameter in parameters(type(value)).items():
        now = current_value(value, name)
        if now is not ABSENT:
            made[name] = now
        elif parameter.default is inspect.Parameter.empty:
            raise Undescribable(_name_of(value))
    try:
        settings = {name: setting_of(each) for name, each in made.items()}
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            rebuilt = type(value)(**made)
        shapes = [{name: tensor.shape for name, tensor in each.state_dict().items()} for each in (rebuilt, value)]
        same = shapes[0] == shapes[1] and public_attributes(rebuilt) == public_attributes(value)
    except Exception:  # the network's own constructor may raise any error
        raise Undescribable(_name_of(value)) from None
    if not same:
        raise Undescribable(_name_of(value))
    return {"class_path": class_path(type(value)), **({"init_args": settings} if settings else {})}


def recorded_arguments(value: Any) -> dict[str, Any]:
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


def class_path(kind: type) -> str:
    """Return the shortest path by which a class is imported, as jsonargparse writes it."""
    if importable(kind) is None:
        raise Undescribable(f"{kind.__qualname__}, which cannot be imported")
    parts = kind.__module__.split(".")
    for i in range(len(parts)):
        module = ".".join(parts[: i + 1])
        if getattr(sys.modules.get(module), kind.__name__, None) is kind:
            return f"{module}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__qualname__}"


def _name_of(value: Any) -> str:
    return value.__name__ if inspect.isroutine(value) else type(value).__qualname__
