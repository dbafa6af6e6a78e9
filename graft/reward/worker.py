"""A callable in a process of its own: it may raise, hang or crash, and only that call is lost.

The child runs this very file as a script, so it imports the callable's module and nothing of graft but
``importing.py``: it starts fast, and its interpreter may be another one. The two talk in pickles over pipes that nobody
else can write to.
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

STARTUP = 120.0  # seconds: imports of a heavy reward model
MOST_TEXT = 10_000  # characters of an exception
EXHAUSTED = (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN)  # no memory, files or processes left
PATIENCE = 1.0  # seconds in which a child that is told so ends by itself


class Worker:
    """Calls ``path`` (``package.module.function``) in a child process; the child starts with the first call.

    Args:
        path: Dotted path of the callable, importable in the child (its current folder counts).
        timeout: Seconds that one call may take, from when the child has its argument.
        python: Interpreter of the child; this one if not given.
        environment: Variables that are set for the child.
    """

    def __init__(
        self, path: str, timeout: float, python: "str | None" = None, environment: "Mapping[str, str] | None" = None
    ) -> None:
        self.path, self.timeout, self.python = path, timeout, python or sys.executable
        self.environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, argument: Any) -> Any:
        """The callable's value for ``argument``.

        Raises:
            GraftError: The child cannot start or cannot import the callable.
            TimeoutError: The call took longer than ``timeout``; the next call starts a new child.
            RuntimeError: The child died during the call, or the callable raised; the message says what.
        """
        data = pickle.dumps(argument)
        self.start()
        try:
            self._exchange(data, STARTUP)  # it has the argument, whose class it may have had to import
            ok, value = self._exchange(None, self.timeout)
        except TimeoutError:
            self.kill()
            raise TimeoutError(f"no answer within {self.timeout:g} s") from None
        except EOFError:
            raise RuntimeError(f"the worker process died (exit status {self.close()})") from None
        if ok is None:  # what the callable has kept for itself is given back with its process
            self.close()
        if not ok:
            raise RuntimeError(value)
        return value

    def start(self) -> None:
        """Start the child, if it is not there; raises as `call` does."""
        if self._process is not None:
            return
        import subprocess  # here, for the child has no use for it and starts a third faster without

        from graft.errors import GraftError

        path = [os.getcwd(), *(p for p in sys.path if p)] if self.python == sys.executable else [os.getcwd()]
        try:
            self._process = subprocess.Popen(
                [self.python, os.path.abspath(__file__), self.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **self.environment, "PYTHONPATH": os.pathsep.join(path)},
                start_new_session=True,  # Ctrl-C is for this process; and what the child starts can be ended with it
            )
            ok, value = self._exchange(pickle.dumps(None), STARTUP)
        except (OSError, EOFError, TimeoutError) as error:
            status = self.close()
            text = str(error) or type(error).__name__
            if isinstance(error, EOFError) and status is not None:
                text = f"it ended with status {status} while it imported the module"
            elif isinstance(error, TimeoutError):
                text = f"the module was not imported within {STARTUP:g} s"
            raise GraftError(f"the reward {self.path} could not be started in a worker process: {text}") from None
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
            except Exception:  # whatever it is (a dead child, an answer that does not unpickle), there is no answer
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
        """Let the child end, or end it if it does not; its exit status, if it ended by itself."""
        if self._process is None:
            return None
        import subprocess

        assert self._process.stdin is not None
        try:
            self._process.stdin.close()  # nothing more will come
        except OSError:
            pass  # it is gone already
        try:
            code: int | None = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()
        return code

    def kill(self) -> None:
        """End the child and whatever it started."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (OSError, AttributeError):  # all are gone; or there are no process groups here
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass
        self._process = None

    def __del__(self) -> None:
        self.kill()


def send(pipe: "IO[bytes]", data: bytes) -> None:
    """Write one pickle after its length."""
    pipe.write(len(data).to_bytes(8, "big") + data)
    pipe.flush()


def receive(pipe: "IO[bytes]") -> Any:
    """Read what `send` wrote.

    Raises:
        EOFError: The other side is gone.
    """
    head = pipe.read(8)
    length = int.from_bytes(head, "big")
    data = pipe.read(length) if len(head) == 8 else b""
    if not data or len(data) != length:
        raise EOFError
    return pickle.loads(data)


def serve(path: str, find: "Callable[[str], Callable[..., Any]]") -> None:
    """The child's loop: answer ``(True, value)`` or ``(False, reason)`` to every argument until the pipe closes.

    The answer is ``(None, reason)`` if the child is out of memory, files or threads: a callable that leaks them fails
    from then on, and a new child does not.

    Args:
        path: Dotted path of the callable.
        find: `graft.reward.importing.find`.
    """
    reader = sys.stdin.buffer
    writer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the callable prints goes to standard error, not between the answers
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
        send(writer, pickle.dumps((True, None)))  # from here on its time counts
        try:
            answer = pickle.dumps((True, function(argument)))
        except Exception as error:
            lines = _text(error).splitlines()
            ok = None if exhausted(error) else False
            answer = pickle.dumps((ok, type(error).__name__ + (f": {lines[0]}" if lines else "")))
        send(writer, answer)


def exhausted(error: "BaseException | None") -> bool:
    """Return whether an error, or the one that it was raised from, says that a process is out of something."""
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in EXHAUSTED:
            return True
        if isinstance(error, RuntimeError) and "start new thread" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _text(error: BaseException) -> str:
    """Return what an exception says, cut: it passes through a pipe and is kept with the run."""
    try:
        return str(error).strip()[:MOST_TEXT]
    except Exception:  # of an exception class of the callable's own
        return ""


if __name__ == "__main__":
    # Run as a script, this file's folder is first on the path: graft's own module names must not shadow others.
    from importing import find  # type: ignore[import-not-found]

    del sys.modules["importing"]
    sys.path = [p for p in sys.path if os.path.abspath(p) != os.path.dirname(os.path.abspath(__file__))]
    serve(sys.argv[1], find)
