"""A reward's module that exits or fails on import is reported, in this process and in a worker's."""

import math
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from graft import GraftError
from graft.reward import FunctionReward, Scores, bounded, format_error, import_callable
from graft.reward.importing import ImportFault, fault, find_callable, guarded, import_user_module
from graft.rounds import RoundStore

BODY = "\n\ndef reward(item):\n    return 1.0\n"
KINDS = {  # the module's first lines, and the message about them
    "exits": ("import sys\nsys.exit(7)", "ends the program when it is imported: SystemExit: 7", 2),
    "well": ("raise SystemExit", "ends the program when it is imported: SystemExit", 1),
    "says": ("import sys\n\nsys.exit('no licence')", "SystemExit: no licence", 3),
    "quits": ("def leave():\n    quit(3)\nleave()", "SystemExit: 3", 2),
    "leaves": ("import os\nos._exit(5)", "ends the program when it is imported: SystemExit: os._exit(5)", 2),
    "slips": ("from os import _exit\n_exit(5)", "os._exit(5)", 2),
    "interrupts": ("x = 1\nraise KeyboardInterrupt", "fails when it is imported: KeyboardInterrupt", 2),
    "generates": ("raise GeneratorExit", "fails when it is imported: GeneratorExit", 1),
    "own": ("class Own(BaseException): pass\nraise Own('mine')", "Own: mine", 2),
    "lacks": ("import math\nimport nosuchpackage", "ModuleNotFoundError: No module named 'nosuchpackage'", 2),
    "lacks_part": ("from math import nosuchname", "ImportError: cannot import name 'nosuchname'", 1),
    "names": ("a = 1\nb = undefined", "NameError: name 'undefined' is not defined", 2),
    "divides": ("def half():\n    return 1 / 0\nhalf()", "ZeroDivisionError: division by zero", 2),
    "mistypes": ("def f(:\n    pass", "SyntaxError: invalid syntax", 1),
    "inner": ("import lacks", "the module inner fails when it is imported: ModuleNotFoundError", 2),
    "unspeakable": ("class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd", "Odd", 3),
    "long": ("raise ValueError('x' * 1_000_000)", "ValueError: xxx", 1),
}


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, (lines, _, _) in KINDS.items():
        (tmp_path / f"{name}.py").write_text(lines + BODY)
    odd = "\ndef __getattr__(name):\n    raise RuntimeError(name) if name == 'nothing' else AttributeError(name)\n"
    (tmp_path / "fine.py").write_text("number = 3" + BODY + odd)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in [*KINDS, "fine"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_in_this_process(kind: str, modules: Path) -> None:
    _, words, line = KINDS[kind]
    with pytest.raises(GraftError) as error:
        import_callable(f"{kind}.reward")
    message = str(error.value)
    file = modules / ("lacks.py" if kind == "inner" else f"{kind}.py")
    assert words in message and message.endswith(f" ({file}, line {line})") and "no reward function" not in message
    assert len(message) < 2500 and kind not in sys.modules


@pytest.mark.parametrize("kind", ["exits", "well", "leaves", "interrupts", "lacks", "mistypes", "long"])
def test_in_a_worker(kind: str, modules: Path) -> None:
    _, words, line = KINDS[kind]
    reward = FunctionReward(f"{kind}.reward")
    with pytest.raises(GraftError) as error:
        reward.setup()
    assert words in str(error.value) and str(error.value).endswith(f" ({modules / kind}.py, line {line})")
    reward.teardown()


@pytest.mark.skipif(os.name == "nt", reason="no posix")
def test_a_worker_that_dies(modules: Path) -> None:
    """These errors end the child and cannot be caught; the run continues."""
    (modules / "killed.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    (modules / "gone.py").write_text("import os\nos.execv('/bin/false', ['false'])\n")
    for name, status in (("killed", -9), ("gone", 1)):
        with pytest.raises(GraftError, match=rf"{name}.reward could not .* ended with status {status} while"):
            FunctionReward(f"{name}.reward").setup()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere.reward", "'nowhere.reward' (No module named 'nowhere')"),
        ("fine.deeper.reward", "'fine.deeper.reward' (No module named 'fine.deeper'"),
        ("fine.nothing", "'fine.nothing' (fine has no 'nothing')"),
        ("fine.number", "'fine.number' is not a function but int"),
        ("reward", "'reward'"),
        ("", "''"),
        ("fine..reward", "'fine..reward'"),
        (".reward", "'.reward'"),
        ("a b.reward", "'a b.reward'"),
    ],
)
def test_functions_that_are_not_there(path: str, words: str) -> None:
    with pytest.raises(GraftError) as error:
        import_callable(path)
    assert words in str(error.value) and "package.module.function" in str(error.value)
    with pytest.raises(GraftError) as error:
        FunctionReward(path).setup()
    assert words in str(error.value)
    assert find_callable("fine.reward")(None) == 1.0


def test_ctrl_c_is_no_fault_of_the_module(modules: Path) -> None:
    """The interrupt comes while a module is imported, and ends the program."""
    (modules / "slow.py").write_text("while True:\n    pass\n")
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        pytest.skip("signals go to the main thread")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores the signal
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            import_user_module("slow")
    finally:
        signal.signal(signal.SIGINT, before)
    timer.join()


def test_exits_of_the_program_s_own(modules: Path) -> None:
    """Only errors that are raised while a module is imported are the module's."""
    real = os._exit
    with pytest.raises(SystemExit), guarded():
        assert os._exit is not real
        sys.exit(3)
    assert os._exit is real
    if hasattr(os, "fork"):
        with guarded():
            child = os.fork()
            if not child:
                os._exit(9)  # as multiprocessing's children end
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert fault(ValueError("x")) is None
    with pytest.raises(ImportFault):
        import_user_module("lacks")


def test_failures_are_cut() -> None:
    whole = "x" * 1_000_000
    cut = format_error(ValueError(whole))
    assert len(cut) == 2000 and cut.endswith("… (cut: 1,000,000 characters in all)") and cut.startswith("xxx")
    assert bounded("x" * 2000) == "x" * 2000 and format_error(ValueError("short")) == "short"

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert format_error(Odd()) == "Odd"


@pytest.mark.parametrize("timeout", [None, 20.0])
def test_what_a_reward_says_of_a_failure_is_kept_in_part(timeout: "float | None", tmp_path: Path) -> None:
    (tmp_path / "chatty.py").write_text("def reward(item):\n    raise KeyError('x' * 3_000_000)\n")
    reward = FunctionReward("chatty.reward", timeout=timeout)
    failures = reward([1.0, 2.0]).failures
    reward.teardown()
    assert len(failures) == 2 and all(len(why) <= 2000 and "characters in all" in why for why in failures.values())


def test_no_round_keeps_more(tmp_path: Path) -> None:
    """The size of a round is bounded, whatever a user's reward puts into its scores."""
    store = RoundStore(tmp_path, None, [2], "reward")
    store.write_scores(0, Scores([math.nan, 1.0], {0: "long " + "x" * 1_000_000}), ["", ""])
    assert (tmp_path / "scores_00000.json").stat().st_size < 4000
    scores, _ = store.read_scores(0)
    assert len(scores.failures[0]) == 2000 and scores.failures[0].endswith("1,000,005 characters in all)")
