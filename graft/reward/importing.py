"""Import modules that a user names, and explain errors in them.

A reward's module is the user's own program. It may exit while it is imported, or fail in a line of its own; neither may
be reported as a missing function. The file uses the standard library only, since the worker of a reward loads it
without graft.
"""

import dis
import importlib
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any

MOST_TEXT = 2_000  # largest number of characters of an error


class ImportFault(ImportError):
    """A failed import, explained in one sentence."""


def find_callable(path: str) -> "Callable[..., Any]":
    """Return the callable at ``package.module.function``.

    Raises:
        ImportFault: The module fails while it is imported, or it has no such callable.
    """
    module, _, name = path.rpartition(".")
    advice = "give package.module.function"
    if not module or not all(part.isidentifier() for part in path.split(".")):
        raise ImportFault(f"there is no reward function {path!r}: {advice}")
    try:
        loaded = import_user_module(module)
    except ModuleNotFoundError as error:
        raise ImportFault(f"there is no reward function {path!r} ({error}): {advice}") from None
    try:
        found = getattr(loaded, name)
    except Exception:  # the module's own __getattr__ may raise
        raise ImportFault(f"there is no reward function {path!r} ({module} has no {name!r}): {advice}") from None
    if not callable(found):
        raise ImportFault(f"{path!r} is not a function but {type(found).__name__}: {advice}")
    function: Callable[..., Any] = found
    return function


def import_user_module(name: str) -> ModuleType:
    """Return a module.

    Raises:
        ModuleNotFoundError: There is no module of this name.
        ImportFault: The module fails or exits while it is imported; the message has the error, its file and line.
    """
    try:
        with guarded():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if fault(error) is None and error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise
        raise ImportFault(fault(error) or f"the module {name} fails when it is imported: {_describe(error)}") from error
    except ImportFault:
        raise
    except Exception as error:
        raise ImportFault(fault(error) or f"the module {name} fails when it is imported: {_describe(error)}") from error


@contextmanager
def guarded() -> "Iterator[None]":
    """Raise ImportFault within the block if a module ends the program while it is imported.

    Ctrl-C ends the program as usual. A process that the module forks may end itself.
    """
    places = [module for name in ("os", "posix", "nt") if hasattr(module := sys.modules.get(name), "_exit")]
    ours, real = os.getpid(), os._exit

    def leave(status: int = 0) -> None:
        if os.getpid() == ours and _importing(sys._getframe()):
            raise SystemExit(f"os._exit({status})")
        real(status)

    for module in places:
        setattr(module, "_exit", leave)  # noqa: B010  (assigning it is an error to type checkers)
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        text = fault(error)
        if text is None or (isinstance(error, KeyboardInterrupt) and not _raised(error)):
            raise
        raise ImportFault(text) from error
    finally:
        for module in places:
            setattr(module, "_exit", real)  # noqa: B010


def fault(error: "BaseException | None") -> "str | None":
    """Return a sentence about an error in the import of a user's module, None for others."""
    while error is not None:
        frames = _frames(error)
        module = next((_module(frame) for frame, _ in frames if _is_body(frame)), None)
        if module is not None or (isinstance(error, SyntaxError) and _is_own(error.filename or "")):
            does = "ends the program" if isinstance(error, SystemExit) else "fails"
            what = f"the module {module}" if module is not None else "a module"
            return f"{what} {does} when it is imported: {_describe(error)}{_place(error, frames)}"
        error = error.__cause__ or error.__context__
    return None


def _describe(error: BaseException) -> str:
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # the module's own exception class may fail here
        lines = []
    if isinstance(error, SyntaxError):
        lines = [error.msg]
    return (type(error).__name__ + (f": {lines[0]}" if lines else ""))[:MOST_TEXT]


def _place(error: BaseException, frames: "list[tuple[FrameType, int]]") -> str:
    """Return file and line of the innermost frame in the user's code."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}, line {error.lineno})"
    own = [(frame, line) for frame, line in frames if _is_own(frame.f_code.co_filename)]
    frame, line = (own or frames)[-1]
    return f" ({frame.f_code.co_filename}, line {line})"


def _frames(error: BaseException) -> "list[tuple[FrameType, int]]":
    frames, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename != __file__:
            frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return frames


def _importing(frame: "FrameType | None") -> bool:
    """Return True if a user's module is being imported in the stack of a frame."""
    while frame is not None:
        if _is_body(frame):
            return True
        frame = frame.f_back
    return False


def _is_body(frame: FrameType) -> bool:
    """Return True if a frame runs the body of a module other than graft's and the main one."""
    name = _module(frame)
    return frame.f_code.co_name == "<module>" and name != "__main__" and name.partition(".")[0] != "graft"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_own(file: str) -> bool:
    """Return True if a file belongs neither to Python nor to an installed package."""
    paths = sysconfig.get_paths()
    return not file.startswith("<") and not file.startswith(
        tuple(os.path.join(paths[name], "") for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    )


def _raised(error: BaseException) -> bool:
    """Return True if a ``raise`` statement raised the error: Ctrl-C comes between instructions."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_lasti < 0:
        return False
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
