"""Rewards: decoded objects in, one number each out; what fails for one sample costs that sample, never the run."""

import contextlib
import importlib
import importlib.util
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from graft import files
from graft.errors import GraftError
from graft.worker import Worker


@dataclass
class Scores:
    """What a reward said of a batch: ``values`` (NaN where it failed) and the reason of each failure by position."""

    values: list[float]
    failures: dict[int, str] = field(default_factory=dict)


class Reward(ABC):
    """A black-box score of one decoded object; a larger value is better unless ``maximise`` is False.

    A subclass implements `score`. Attributes: ``name`` (shown in tables), ``unit`` (shown behind values, empty for a
    pure number), ``maximise``.
    """

    name: str = "reward"
    unit: str = ""
    maximise: bool = True

    @abstractmethod
    def score(self, item: Any) -> float:
        """The reward of one object. Anything raised, and a value that is not finite, fails this object alone."""

    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every object; a failure becomes NaN with its reason and is never counted as 0."""
        scores = Scores([math.nan] * len(items))
        for i, item in enumerate(items):
            try:
                scores.values[i] = finite(self.score(item))
            except GraftError:
                raise
            except Exception as error:
                scores.failures[i] = reason(error)
        return scores

    def open(self) -> None:  # noqa: B027  (most rewards need nothing)
        """Get ready, so that what cannot work is said before anything is drawn.

        Raises:
            GraftError: It cannot score.
        """

    def close(self) -> None:  # noqa: B027  (most rewards hold nothing)
        """Free what the reward holds (worker processes)."""


class Function(Reward):
    """Any Python callable as a reward, by its dotted path; it runs in a worker process with a time limit.

    Args:
        path: ``package.module.function``, importable from the current folder or the environment.
        timeout: Seconds that one call may take before the worker is replaced and its sample counted as failed.
            ``null``: call it in this process, without a limit (a reward model that lives on this process's GPU).
        batch: The callable takes a list of objects and returns a list of as many numbers, instead of one and one.
            A batch that fails is scored again object by object, so that a failure costs only the object it is due to.
        maximise: False if smaller is better.
        name: Shown in tables; the function's own name if not given.
        unit: Shown behind values.
        python: Interpreter of the worker, for a reward whose packages clash with graft's; this one if not given.
            Objects are pickled to it, so it needs the packages that define them (RDKit for molecules).
    """

    def __init__(
        self,
        path: str,
        timeout: "float | None" = 60.0,
        batch: bool = False,
        maximise: bool = True,
        name: "str | None" = None,
        unit: str = "",
        python: "str | None" = None,
    ) -> None:
        self.path, self.batch, self.maximise, self.unit = path, batch, maximise, unit
        self.name = name or path.rpartition(".")[2]
        self._worker = Worker(path, timeout, python) if timeout is not None else None
        self._function = resolve(path) if self._worker is None else None

    def identity(self) -> Any:
        """See `graft.identity.identity`: what is called, with the hash of the file that defines it."""
        spec = None
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(self.path.rpartition(".")[0])
        file = files.sha256(spec.origin) if spec is not None and spec.origin and os.path.isfile(spec.origin) else None
        return {"function": self.path, "file": file, "batch": self.batch}

    def score(self, item: Any) -> float:
        """The callable's value for one object."""
        value = self._call([item] if self.batch else item)
        return finite(self._checked(value, 1)[0] if self.batch else value)

    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every object; see `Reward.__call__`."""
        if not self.batch or not items:
            return super().__call__(items)
        try:
            values = self._call(list(items))
        except GraftError:
            raise
        except Exception:
            return super().__call__(items)  # one by one: find the object it is due to
        scores = Scores([math.nan] * len(items))
        for i, value in enumerate(self._checked(values, len(items))):
            try:
                scores.values[i] = finite(value)
            except ValueError as error:
                scores.failures[i] = str(error)
        return scores

    def _call(self, argument: Any) -> Any:
        return self._function(argument) if self._function is not None else self._worker_call(argument)

    def _worker_call(self, argument: Any) -> Any:
        assert self._worker is not None
        return self._worker.call(argument)

    def _checked(self, values: Any, count: int) -> "list[Any]":
        try:
            numbers = list(values)
        except TypeError:
            raise GraftError(
                f"the reward {self.path} returned {type(values).__name__} for {count} objects: "
                "with batch=true it must return a list with one number for each"
            ) from None
        if len(numbers) != count:
            raise GraftError(
                f"the reward {self.path} returned {len(numbers)} values for {count} objects: "
                "it must return one number for each"
            )
        return numbers

    def open(self) -> None:
        """Start the worker process."""
        if self._worker is not None:
            self._worker.start()

    def close(self) -> None:
        """End the worker process."""
        if self._worker is not None:
            self._worker.close()


def finite(value: Any) -> float:
    """``value`` as a finite float.

    Raises:
        ValueError: It is not a number, or NaN or infinite.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"the reward is not a number but {type(value).__name__}") from None
    if not math.isfinite(number):
        raise ValueError(f"the reward is {number}")
    return number


def reason(error: BaseException) -> str:
    """One line for a failure."""
    text = str(error).strip().splitlines()
    name = type(error).__name__
    if not text:
        return name
    told = isinstance(error, ValueError | TimeoutError | RuntimeError)
    return text[0] if told else f"{name}: {text[0]}"


def resolve(path: str) -> Callable[..., Any]:
    """The callable at a dotted path.

    Raises:
        GraftError: There is none.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise GraftError(f"there is no reward function {path!r} ({error}): give package.module.function") from None
    if not callable(found):
        raise GraftError(f"{path!r} is no function: give package.module.function")
    function: Callable[..., Any] = found
    return function
