"""Any Python callable as a reward."""

import contextlib
import importlib
import importlib.util
import math
import os
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from graft import files
from graft.errors import GraftError
from graft.reward.base import Reward, Scores, finite, reason
from graft.reward.workers import Workers


class Function(Reward):
    """Any Python callable as a reward, by its dotted path; it runs in worker processes with a time limit.

    A call that raises, hangs, ends its process or returns what is no number costs its object, and no other.

    Args:
        path: ``package.module.function``, importable from the current folder or the environment.
        timeout: Seconds that one call may take before the worker is replaced and its sample counted as failed.
            ``null``: call it in this process, without a limit (a reward model that lives on this process's GPU).
        batch: The callable takes a list of objects and returns a list of as many numbers, instead of one and one.
            A batch that fails, or whose list has another length, is scored again object by object, so that a failure
            costs only the object it is due to.
        maximise: False if smaller is better.
        name: Shown in tables; the function's own name if not given.
        unit: Shown behind values.
        python: Interpreter of the worker, for a reward whose packages clash with graft's; this one if not given.
            Objects are pickled to it, so it needs the packages that define them (RDKit for molecules).
        workers: Processes that score side by side; each loads what the callable's module loads.
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
        workers: int = 1,
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise GraftError(f"the timeout of the reward {path} is {timeout:g}, but it is a number of seconds above 0")
        if workers < 1 or (timeout is None and workers > 1):
            raise GraftError(
                f"the reward {path} has {workers} workers: give at least 1, and more only with a timeout, since "
                "without one it runs in this process"
            )
        self.path, self.batch, self.maximise, self.unit = path, batch, maximise, unit
        self.name = name or path.rpartition(".")[2]
        self._workers = Workers(workers, path, timeout, python) if timeout is not None else None
        self._function = resolve(path) if self._workers is None else None

    def identity(self) -> Any:
        """See `graft.identity.identity`: what is called, with the hash of the file that defines it."""
        spec = None
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(self.path.rpartition(".")[0])
        file = files.sha256(spec.origin) if spec is not None and spec.origin and os.path.isfile(spec.origin) else None
        return {"function": self.path, "file": file, "batch": self.batch}

    def score(self, item: Any) -> float:
        """The callable's value for one object."""
        argument = [item] if self.batch else item
        return self._number(self._function(argument) if self._function else self._pool.call(argument))

    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every object; see `Reward.__call__`."""
        scores = Scores([math.nan] * len(items))
        alone = list(range(len(items)))
        if self.batch and len(items) > 1:
            alone = self._together(items, scores)
        answers = self._answers([[items[i]] if self.batch else items[i] for i in alone])
        for i, answer in zip(alone, answers, strict=True):
            try:
                scores.values[i] = self._number(answer)
            except (Exception, SystemExit) as error:
                scores.failures[i] = reason(error)
        return scores

    def _together(self, items: Sequence[Any], scores: Scores) -> list[int]:
        """Score a batch, in as many parts as there are workers; the positions that are to be scored one by one."""
        parts = len(self._workers.workers) if self._workers is not None else 1
        size = math.ceil(len(items) / parts)
        starts = range(0, len(items), size)
        alone: list[int] = []
        for start, answer in zip(starts, self._answers([list(items[s : s + size]) for s in starts]), strict=True):
            rows = range(start, min(start + size, len(items)))
            values = _listed(answer)
            if values is None or len(values) != len(rows):  # find the objects that it is due to
                alone += rows
                continue
            for i, value in zip(rows, values, strict=True):
                try:
                    scores.values[i] = finite(value)
                except ValueError as error:
                    scores.failures[i] = str(error)
        return alone

    def _answers(self, arguments: Sequence[Any]) -> list[Any]:
        """What the callable returns for each, or the exception that it raised."""
        if self._function is None:
            return self._pool.map(arguments)
        answers: list[Any] = []
        for argument in arguments:
            try:
                answers.append(self._function(argument))
            except GraftError:
                raise
            except (Exception, SystemExit) as error:
                answers.append(error)
        return answers

    def _number(self, answer: Any) -> float:
        """The value that an answer for one object is; raises the error that it is."""
        if isinstance(answer, BaseException):
            raise answer
        if not self.batch:
            return finite(answer)
        values = _listed(answer)
        if values is None:
            raise ValueError(f"with batch=true it returned {type(answer).__name__}, which is no list of numbers")
        if len(values) != 1:
            raise ValueError(f"it returned {len(values)} values for 1 object")
        return finite(values[0])

    @property
    def _pool(self) -> Workers:
        assert self._workers is not None
        return self._workers

    def open(self) -> None:
        """Start a worker process."""
        if self._workers is not None:
            self._workers.start()

    def close(self) -> None:
        """End the worker processes."""
        if self._workers is not None:
            self._workers.close()


def _listed(values: Any) -> "list[Any] | None":
    """A batch's values; None if they are no list, or an error."""
    if isinstance(values, str | bytes | Mapping | Set):  # a list of something else, or in no order
        return None
    try:
        return list(values)
    except Exception:  # of whatever type the callable returned
        return None


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
