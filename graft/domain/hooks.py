"""Guard the hooks of a domain: a hook gets copies of objects, and its errors name the hook."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from graft.core.copies import copied, copies
from graft.core.state import size
from graft.errors import GraftError

ONE = ("key", "caption", "to_file")  # hooks with an object as first argument
MANY = ("features", "render", "render_html", "postprocess", "write")  # hooks with a list of objects as first argument
PLAIN = (
    *("sample_conditions", "conditions_for", "group", "decode", "encode", "apply_constraint"),
    *("in_training_set", "metrics", "distances", "load_condition", "read_scored", "export"),
)
FILES = ("write", "read_scored", "load_condition", "export")  # errors of the file system in these hooks pass unchanged
TRACEBACK = "fix it; GRAFT_TRACEBACK=1 in the environment shows the traceback"


def guard(kind: type, root: type) -> None:
    """Guard the hooks that the class of a domain or one of its mixins defines.

    Args:
        kind: A subclass of ``root``.
        root: `graft.GraftModule`; its own hooks need no guard.
    """
    for name in (*ONE, *MANY, *PLAIN):
        owner = next((base for base in kind.__mro__ if name in vars(base)), root)
        hook = vars(owner).get(name)
        guarded = owner is not kind and issubclass(owner, root)
        if not guarded and inspect.isfunction(hook) and not getattr(hook, "__isabstractmethod__", False):
            setattr(kind, name, _guarded(name, hook))


@contextmanager
def named(what: str, files: bool = False) -> Iterator[None]:
    """Turn an error in the block into a `GraftError` that names the failed hook.

    A `GraftError` and an error of too little memory pass unchanged.

    Args:
        what: Name of the hook, such as ``Points.write``.
        files: True to let errors of the file system pass, because their messages are clear.

    Raises:
        GraftError: The block raised another error, or SystemExit.
    """
    try:
        yield
    except (GraftError, torch.OutOfMemoryError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if files and isinstance(error, OSError) and error.errno is not None:
            raise
        text = " ".join(str(error).split())[:300]
        raise GraftError(f"{what} failed ({type(error).__name__}{f': {text}' if text else ''}): {TRACEBACK}") from error


def update(metric: Metric, name: str, items: Any) -> None:
    """Update a metric of a domain with copies of objects."""
    with named(f"{_of(metric, name)}.update"):
        metric.update(copies(items))


def compute(metric: Metric, name: str) -> "float | dict[str, float]":
    """Return the value of a metric of a domain: a number, or a dict of numbers by name.

    Raises:
        GraftError: The metric fails or returns another type.
    """
    what = f"{_of(metric, name)}.compute"
    with named(what):
        value = metric.compute()
    try:
        return {part: float(number) for part, number in value.items()} if isinstance(value, dict) else float(value)
    except Exception:  # conversion of an unknown type may raise any error
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise GraftError(f"{what} returned {found}; it must return a number, or a dict of numbers by name") from None


def _of(metric: Metric, name: str) -> str:
    return f"{getattr(metric, '_domain', type(metric).__name__)}.metrics()[{name!r}]"


def _guarded(name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
    parameter = list(inspect.signature(hook).parameters)[1:2]  # name of the argument with the objects

    @functools.wraps(hook)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        what = f"{type(self).__qualname__}.{name}"
        if name in (*ONE, *MANY):
            copy = copied if name in ONE else copies
            if args:
                args = (copy(args[0]), *args[1:])
            elif parameter and parameter[0] in kwargs:
                kwargs[parameter[0]] = copy(kwargs[parameter[0]])
        with named(what, name in FILES):
            result = hook(self, *args, **kwargs)
        if name in _CHECKS and (args or name == "metrics"):
            wrong = _CHECKS[name](self, result, *args, **kwargs)
            if wrong:
                raise GraftError(f"{what} returned {wrong}")
        return result

    return guarded


def _check_decode(self: Any, items: Any, state: Any, condition: Any) -> str:
    if not isinstance(items, list):
        return f"{type(items).__name__}; it must return a list of objects"
    if len(items) != size(condition):
        return f"{len(items)} objects for {size(condition)} states; it must return one for each, whatever its quality"
    return ""


def _check_group(self: Any, group: Any, condition: Any) -> str:
    if isinstance(group, Tensor) and group.shape == (size(condition),) and not group.is_floating_point():
        return ""
    kind = type(group).__name__
    found = f"a {group.dtype} tensor of shape {tuple(group.shape)}" if isinstance(group, Tensor) else kind
    return f"{found}; it must return an integer tensor of shape ({size(condition)},), one for each draw"


def _check_text(self: Any, key: Any, item: Any) -> str:
    return "" if isinstance(key, str) else f"{type(key).__name__}; it must return a string"


def _check_features(self: Any, features: Any, items: Any) -> str:
    if isinstance(features, Tensor) and features.ndim == 2 and len(features) == len(items):
        return ""
    found = f"a tensor of shape {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
    return f"{found} for {len(items)} objects; it must return a tensor of shape ({len(items)}, d)"


def _check_metrics(self: Any, metrics: Any) -> str:
    if not isinstance(metrics, Mapping) or not all(isinstance(each, Metric) for each in metrics.values()):
        return f"{type(metrics).__name__}; it must return a dict of torchmetrics.Metric by name"
    for each in metrics.values():
        each._domain = type(self).__qualname__  # for `named`
    return ""


def _check_render(self: Any, png: Any, items: Any, legends: Any = None) -> str:
    fine = png is None or isinstance(png, bytes)
    return "" if fine else f"{type(png).__name__}; it must return a PNG as bytes, or None"


_CHECKS: dict[str, Callable[..., str]] = {
    "decode": _check_decode,
    "group": _check_group,
    "key": _check_text,
    "caption": _check_text,
    "features": _check_features,
    "render": _check_render,
    "metrics": _check_metrics,
}
