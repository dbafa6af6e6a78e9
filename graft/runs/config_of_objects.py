"""The configuration of a run that was started from Python, written from its objects."""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import yaml
from lightning.pytorch import Trainer

from graft.core.recorded_arguments import Described
from graft.runs.object_settings import (
    ABSENT,
    Undescribable,
    Verbatim,
    class_path,
    current_value,
    is_group,
    is_plain,
    parameters,
    recorded_arguments,
    setting_of,
)
from graft.runs.python_config import HEADING, comments

REWARDS = ("reward",)
PLACES = ("seed", "run_dir")  # settings of objects that stand elsewhere in a configuration


def remember(module: Any, data: Any, trainer: Any, config: Mapping[str, Any]) -> None:
    """Record the configuration that objects were built from, and their present attributes."""
    for place, value in (("model", module), ("data", data), ("trainer", trainer)):
        if value is not None:
            found = {name: current_value(value, name) for name in parameters(type(value))}
            now = {  # a group of settings may be changed in place
                name: dataclasses.replace(each) if is_group(each) else each
                for name, each in found.items()
                if each is not ABSENT
            }
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
    return HEADING + comments(holes) + text


def _trainer(trainer: Trainer, holes: dict[str, str]) -> dict[str, Any]:
    if "_built" in vars(trainer):
        return dict(vars(trainer)["_built"][0])
    given = vars(trainer).get("_given")
    if given is None:
        names = "max_epochs", "accumulate_grad_batches", "precision", "log_every_n_steps"
        given = {name: getattr(trainer, name) for name in names}
    out = {}
    for name, value in given.items():
        with _holes_noted(holes, f"trainer.{name}", value):
            out[name] = setting_of(value)
    return out


def _settings(value: Any, place: str, holes: dict[str, str]) -> Any:
    """Return the settings of the model or of the data."""
    if "_built" in vars(value):
        config, then = vars(value)["_built"]
        known = config.get("init_args", {}) if "class_path" in config else config
        found = {name: Verbatim(each) for name, each in known.items()}
        found |= {name: now for name, before in then.items() if not _same(before, now := current_value(value, name))}
        path = config.get("class_path")
    else:
        found, path = _given(value), None
    out: dict[str, Any] = {}
    for name, each in found.items():
        if name not in PLACES:
            with _holes_noted(holes, f"{place}.{name}", each):
                out[name] = setting_of(each)
    if place == "data" and type(value).__name__ == "Rollouts":
        return out
    with _holes_noted(holes, place, value):
        path = path or class_path(type(value))
    return {**({"class_path": path} if path else {}), "init_args": out}


def _given(value: Any) -> dict[str, Any]:
    """Return the arguments of an object from Python by name, with the present value of changed ones."""
    made, out = recorded_arguments(value), dict[str, Any]()
    for name, parameter in parameters(type(value)).items():
        now = current_value(value, name)
        if not isinstance(value, Described):
            if now is not ABSENT or parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
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
            out[name] = Verbatim(setting)
    return out


def _same(before: Any, now: Any) -> bool:
    if isinstance(before, partial) and isinstance(now, partial):
        return (before.func, before.args, before.keywords) == (now.func, now.args, now.keywords)
    if is_group(before) and type(before) is type(now):
        return bool(before == now)
    return before is now or (is_plain(before) and is_plain(now) and before == now)


def _changed(value: Any, name: str, before: Any, now: Any) -> bool:
    """Return whether an attribute differs from the argument of the constructor."""
    if name in ("level", "upper_level") and type(before) in (int, float) and type(now) in (int, float):
        return bool(abs(before - now) > 0.5001 / value.policy.steps)  # the constructor moves it to the nearest step
    if is_group(now):
        return bool(now != (type(now)() if before is None else before))
    return is_plain(now) and not _same(before, now) and (is_plain(before) or now is None)


@contextlib.contextmanager
def _holes_noted(holes: dict[str, str], place: str, value: Any) -> Iterator[None]:
    try:
        yield
    except Undescribable as error:
        holes[place] = str(error) or type(value).__qualname__
