"""Any Python callable as a reward."""

import contextlib
import functools
import importlib.util
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from typing_extensions import override

from graft.core import limits
from graft.core.copies import copied, copies
from graft.errors import GraftError
from graft.io.checksum import file_checksum
from graft.reward import importing
from graft.reward.base import Reward
from graft.reward.code import describe_code, importable
from graft.reward.scores import Scores, format_error, to_finite_float
from graft.reward.workers import Workers

if TYPE_CHECKING:
    Called = str | Callable[..., Any]
    Scorer = Reward | str | Callable[[Any], Any]
else:  # types of a configuration
    Called = str
    Scorer = Reward | str


class FunctionReward(Reward):
    """Any Python callable as a reward.

    It runs in worker processes with a time limit, if they can import it.

    A call that raises, hangs, ends its process or returns a value that is not a number fails its object alone. A
    callable that a fresh interpreter cannot import by name (a lambda, a partial, an object, a function of the main
    program) runs in this process, without a time limit: it may raise, but it must not hang.

    Args:
        path: ``package.module.function``, importable from the current folder or the environment; or the callable.
        timeout: Time limit of a call in seconds; then the worker is replaced and its object counts as failed. ``null``:
            call it in this process, without a limit (a reward model on the GPU of this process).
        batched: The callable takes a list of objects and returns a list of as many numbers. A batch that fails, or with
            a list of another length, is scored again object by object, so that a failure costs only the object that
            causes it.
        higher_is_better: False if smaller is better.
        name: Name in tables; the function's own name if not given.
        unit: Unit of the values.
        python: Interpreter of the worker, for a reward with packages that clash with graft's; this one if not given.
            Objects are pickled to it, so it needs the packages that define them (RDKit for molecules).
        workers: Number of processes; each loads all that the callable's module loads.
    """

    def __init__(
        self,
        path: "Called",
        timeout: "float | None" = 60.0,
        batched: bool = False,
        higher_is_better: bool = True,
        name: "str | None" = None,
        unit: str = "",
        python: "str | None" = None,
        workers: int = 1,
    ) -> None:
        given: Callable[..., Any] | None = None
        if not isinstance(path, str):
            given, path = path, importable(path) or ""
        if path.startswith("__main__."):  # workers have another main module
            given, path = _of_main(path), ""
        if given is not None and not path:
            path, timeout = _name(given), None
            if python is not None:
                raise GraftError(f"the reward {path} cannot be imported by {python}: move it into a module")
        limits.check(f"the timeout of the reward {path}", timeout, 0, above=True)
        if workers < 1 or (timeout is None and workers > 1):
            raise GraftError(
                f"the reward {path} has {workers} workers: give at least 1, and more only with a timeout and for a "
                "function that can be imported, since others run in this process"
            )
        self.path, self.batched, self.higher_is_better, self.unit = path, batched, higher_is_better, unit
        self.name = name or path.rpartition(".")[2]
        self._workers = Workers(workers, path, timeout, python) if timeout is not None else None
        self._function = (given if given is not None else import_callable(path)) if self._workers is None else None
        self._local = given is not None and not importable(given)
        self._token = uuid4().hex

    copies_items = True  # workers get pickles of the objects

    @override
    def identity(self) -> Any:
        """Return the path of the callable with the hash of its file.

        A callable that cannot be imported is described by its code and all that the code uses. If that is not possible,
        the identity is unique.
        """
        if self._local:
            found = describe_code(self._function)
            return {"code": found if found is not None else {"unidentified": self._token}, "batch": self.batched}
        spec = None
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(self.path.rpartition(".")[0])
        file = file_checksum(spec.origin) if spec is not None and spec.origin and os.path.isfile(spec.origin) else None
        return {"function": self.path, "file": file, "batch": self.batched}

    @override
    def score(self, item: Any) -> float:
        argument = [item] if self.batched else item
        return self._number(self._pool.call(argument) if self._function is None else self._called(argument))

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        scores = Scores([math.nan] * len(items))
        alone = list(range(len(items)))
        if self.batched and len(items) > 1:
            alone = self._together(items, scores)
        answers = self._answers([[items[i]] if self.batched else items[i] for i in alone])
        for i, answer in zip(alone, answers, strict=True):
            try:
                scores.values[i] = self._number(answer)
            except (Exception, SystemExit) as error:
                scores.failures[i] = format_error(error)
        return scores

    def _together(self, items: Sequence[Any], scores: Scores) -> list[int]:
        """Score a batch in a part for each worker; return positions to score one by one."""
        parts = len(self._workers.workers) if self._workers is not None else 1
        size = math.ceil(len(items) / parts)
        starts = range(0, len(items), size)
        alone: list[int] = []
        for start, answer in zip(starts, self._answers([list(items[s : s + size]) for s in starts]), strict=True):
            rows = range(start, min(start + size, len(items)))
            values = _listed(answer)
            if values is None or len(values) != len(rows):  # single calls find the objects that fail
                alone += rows
                continue
            for i, value in zip(rows, values, strict=True):
                try:
                    scores.values[i] = to_finite_float(value)
                except ValueError as error:
                    scores.failures[i] = str(error)
        return alone

    def _answers(self, arguments: Sequence[Any]) -> list[Any]:
        """Return the callable's value for each argument, or the exception that it raised."""
        if self._function is None:
            return self._pool.map(arguments)
        answers: list[Any] = []
        for argument in arguments:
            try:
                answers.append(self._called(argument))
            except GraftError:
                raise
            except (Exception, SystemExit) as error:
                answers.append(error)
        return answers

    def _called(self, argument: Any) -> Any:
        """Return the callable's value in this process, for copies of its arguments."""
        assert self._function is not None
        return self._function(copies(argument) if self.batched else copied(argument))

    def _number(self, answer: Any) -> float:
        """Return the score of an answer for one object; raise the answer if it is an exception."""
        if isinstance(answer, BaseException):
            raise answer
        if not self.batched:
            return to_finite_float(answer)
        values = _listed(answer)
        if values is None:
            raise ValueError(f"with batched=true it returned {type(answer).__name__}, which is not a list of numbers")
        if len(values) != 1:
            raise ValueError(f"the function returned {len(values)} values for 1 object")
        return to_finite_float(values[0])

    @property
    def _pool(self) -> Workers:
        assert self._workers is not None
        return self._workers

    @override
    def setup(self) -> None:
        if self._workers is not None:
            self._workers.start()

    @override
    def teardown(self) -> None:
        if self._workers is not None:
            self._workers.close()


def _listed(values: Any) -> "list[Any] | None":
    """Return a batch's values as a list; None if they are not a list of values."""
    if isinstance(values, str | bytes | Mapping | Set):  # iterable, but not a list of numbers in order
        return None
    try:
        return list(values)
    except Exception:  # the callable may return any type
        return None


def scorer(value: "Scorer", setting: str) -> Reward:
    """Return a reward as it is, and a callable or its dotted path as a `FunctionReward`.

    Args:
        value: Value from the user.
        setting: Name of the setting in messages.

    Raises:
        GraftError: The value is of another type.
    """
    if isinstance(value, Reward):
        return value
    if isinstance(value, str):
        return FunctionReward(value)
    if isinstance(value, type) and issubclass(value, Reward):
        raise GraftError(f"{setting} is the class {value.__name__}; it must be an object of it. Write it with brackets")
    if callable(value):
        return FunctionReward(value)
    raise GraftError(
        f"{setting} is {type(value).__name__}; it must be a graft.reward.Reward, or a function of one object that "
        "returns a number"
    )


class RewardAttribute:
    """An attribute that holds a reward, or None.

    An assigned callable becomes a `FunctionReward`.

    Args:
        setting: Name of the attribute in messages.
    """

    def __init__(self, setting: str) -> None:
        self.setting = setting

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, instance: Any, owner: "type | None" = None) -> "Reward | None":
        found: Reward | None = None if instance is None else instance.__dict__.get(self._name)
        return found

    def __set__(self, instance: Any, value: "Scorer | None") -> None:
        instance.__dict__[self._name] = None if value is None else scorer(value, self.setting)


def _of_main(path: str) -> Callable[..., Any]:
    """Return a callable of the main program."""
    found: Any = sys.modules["__main__"]
    for name in path.split(".")[1:]:
        found = getattr(found, name, None)
    if not callable(found):
        raise GraftError(f"there is no reward function {path!r}: the program that was started has none of that name")
    function: Callable[..., Any] = found
    return function


def _name(function: Callable[..., Any]) -> str:
    """Return the name of a callable in tables."""
    while isinstance(function, functools.partial):
        function = function.func
    name = str(getattr(function, "__name__", type(function).__name__))
    return "lambda" if name == "<lambda>" else name


def import_callable(path: str) -> Callable[..., Any]:
    """Return the callable at a dotted path.

    Raises:
        GraftError: There is none.
    """
    try:
        return importing.find_callable(path)
    except importing.ImportFault as error:
        raise GraftError(str(error)) from None
