"""A callable in a process of its own: it may raise, hang or crash, and only that call fails.

The child runs this very file as a script, so it imports the callable's module and no part of graft but
``importing.py``: it starts fast, and its interpreter may be another one. Parent and child exchange pickles over pipes
of their own.
"""

import errno
import os
import pickle
import signal
import sys
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping

STARTUP = 120.0  # seconds, enough for the imports of a large reward model
MOST_TEXT = 10_000  # largest number of characters of an exception
EXHAUSTED = (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN)  # no memory, files or processes left
PATIENCE = 1.0  # seconds in which a child ends by itself after its pipe is closed


class Worker:
    """Calls ``path`` (``package.module.function``) in a child process.

    The child starts with the first call.

    Args:
        path: Dotted path of the callable, importable in the child (its current folder counts).
        timeout: Time limit of a call in seconds, from when the child has its argument.
        python: Interpreter of the child; this one if not given.
        environment: Environment variables of the child.
    """

    def __init__(
        self, path: str, timeout: float, python: "str | None" = None, environment: "Mapping[str, str] | None" = None
    ) -> None:
        self.path, self.timeout, self.python = path, timeout, python or sys.executable
        self.environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, argument: Any) -> Any:
        """Return the callable's value for ``argument``.

        Raises:
            GraftError: The child cannot start or cannot import the callable.
            TimeoutError: The call took longer than ``timeout``; the next call starts a new child.
            RuntimeError: The child died during the call, or the callable raised; the message has the reason.
        """
        data = pickle.dumps(argument)
        self.start()
        try:
            self._exchange(data, STARTUP)  # the child unpickles the argument, which may import its class
            ok, value = self._exchange(None, self.timeout)
        except TimeoutError:
            self.kill()
            raise TimeoutError(f"no answer within {self.timeout:g} s") from None
        except EOFError:
            raise RuntimeError(f"the worker process died (exit status {self.close()})") from None
        if ok is None:  # the child is out of a resource, which ends with its process
            self.close()
        if not ok:
            raise RuntimeError(value)
        return value

    def start(self) -> None:
        """Start the child, if it is not running; raise the errors of `call`."""
        if self._process is not None:
            return
        import subprocess  # not at the top: the child does not need it and starts faster without it

        from graft.errors import GraftError

        path = [os.getcwd(), *(p for p in sys.path if p)] if self.python == sys.executable else [os.getcwd()]
        try:
            self._process = subprocess.Popen(
                [self.python, os.path.abspath(__file__), self.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **self.environment, "PYTHONPATH": os.pathsep.join(path)},
                start_new_session=True,  # Ctrl-C reaches this process only, and the child's children can be killed
            )
            ok, value = self._exchange(pickle.dumps(None), STARTUP)
        except (OSError, EOFError, TimeoutError) as error:
            status = self.close()
            text = str(error) or type(error).__name__
            if isinstance(error, EOFError) and status is not None:
                text = f"it ended with status {status} while it imported the module"
            elif isinstance(error, TimeoutError):
                text = f"the module was not imported within {STARTUP:g} s"
            raise GraftError(f"{self.path} could not be started in a worker process: {text}") from None
        if not ok:
            self.close()
            raise GraftError(value)

    def _exchange(self, data: "bytes | None", timeout: float) -> "tuple[bool | None, Any]":
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        import threading

        stdin, stdout, answer = self._process.stdin, self._process.stdout, list[Any]()

        def talk() -> None:
            try:
                if data is not None:
                    send(stdin, data)
                answer.append(receive(stdout))
            except Exception:  # the child is dead, or its answer does not unpickle
                pass

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        thread.join(timeout)
        if thread.is_alive():
            raise TimeoutError
        if not answer:
            raise EOFError
        return answer[0]  # type: ignore[no-any-return]

    def close(self) -> "int | None":
        """End the child; return its exit status if it ends by itself."""
        if self._process is None:
            return None
        import subprocess

        assert self._process.stdin is not None
        try:
            self._process.stdin.close()  # tells the child to end
        except OSError:
            pass  # the child has ended already
        try:
            code: int | None = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()
        return code

    def kill(self) -> None:
        """End the child and all its children."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (OSError, AttributeError):  # all have ended, or the system has no process groups
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass
        self._process = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the child: a copy starts its own, with the variables of the copy's process."""
        return self.__dict__ | {"_process": None, "environment": {}}

    def __del__(self) -> None:
        self.kill()


def send(pipe: "IO[bytes]", data: bytes) -> None:
    """Write one pickle after its length."""
    pipe.write(len(data).to_bytes(8, "big") + data)
    pipe.flush()


def receive(pipe: "IO[bytes]") -> Any:
    """Return the object that `send` wrote.

    Raises:
        EOFError: The other side has ended.
    """
    head = pipe.read(8)
    length = int.from_bytes(head, "big")
    data = pipe.read(length) if len(head) == 8 else b""
    if not data or len(data) != length:
        raise EOFError
    return pickle.loads(data)


def serve(path: str, find: "Callable[[str], Callable[..., Any]]") -> None:
    """Answer ``(True, value)`` or ``(False, reason)`` to every argument until the pipe closes.

    This is the child's loop. The answer is ``(None, reason)`` if the child is out of memory, files or threads: a
    callable that leaks them would fail from then on, and a new child does not.

    Args:
        path: Dotted path of the callable.
        find: `graft.reward.importing.find_callable`.
    """
    reader = sys.stdin.buffer
    writer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of the callable goes to standard error, not between the answers
    try:
        receive(reader)
        function = find(path)
        send(writer, pickle.dumps((True, None)))
    except Exception as error:
        send(writer, pickle.dumps((False, _text(error))))
        return
    while True:
        try:
            argument = receive(reader)
        except EOFError:
            return
        send(writer, pickle.dumps((True, None)))  # the time limit starts here
        try:
            answer = pickle.dumps((True, function(argument)))
        except Exception as error:
            lines = _text(error).splitlines()
            ok = None if exhausted(error) else False
            answer = pickle.dumps((ok, type(error).__name__ + (f": {lines[0]}" if lines else "")))
        send(writer, answer)


def exhausted(error: "BaseException | None") -> bool:
    """Return True if an error or its cause shows that a process is out of a resource."""
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in EXHAUSTED:
            return True
        if isinstance(error, RuntimeError) and "start new thread" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _text(error: BaseException) -> str:
    """Return the text of an exception, cut.

    It passes through a pipe and is kept with the run.
    """
    try:
        return str(error).strip()[:MOST_TEXT]
    except Exception:  # the callable's own exception class may fail here
        return ""


if __name__ == "__main__":
    # Run as a script, this file's folder is first on the path: graft's own module names must not shadow others.
    from importing import find_callable  # type: ignore[import-not-found]

    del sys.modules["importing"]
    sys.path = [p for p in sys.path if os.path.abspath(p) != os.path.dirname(os.path.abspath(__file__))]
    serve(sys.argv[1], find_callable)
