"""The command line, called in this process, and arguments that make it quick."""

import io
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from graft import cli

HERE = Path(__file__).parent
TOY = HERE / "toy"  # a third-party package with a domain of its own

MOLECULE = ["--config", "domains/molecule.yaml", "--config", "molecule/pgraft.yaml"]
MIXTURE = ["--config", str(TOY / "domains" / "mixture" / "mixture.yaml")]
QUIET = ["--trainer.enable_progress_bar", "false"]
SMALL = [
    *["--data.draws", "64", "--data.batch_size", "32", "--data.train_batch_size", "16", "--data.steps_per_round", "4"],
    *[
        "--data.evaluation.validation_draws",
        "16",
        "--data.evaluation.test_draws",
        "32",
        "--trainer.max_epochs",
        "2",
        "--model.steps",
        "8",
    ],
    *["--trainer.log_every_n_steps", "1"],
    *["--data.source", "reference"],
]
REWARD = [  # says something of points, and of molecules of any quality
    *[
        "--data.reward",
        "graft.reward.FunctionReward",
        "--data.reward.path",
        "tried.spread",
        "--data.reward.timeout",
        "null",
    ]
]
HALF = ["--data.accept", "graft.accept.TopFraction", "--data.accept.fraction", "0.5"]


PROGRESS = re.compile(r"graft: [^;,]*: \d+ of \d+ \w+(;| in )")
"""A line of progress, which a slow machine shows."""


@dataclass
class Result:
    """Result of a command that was run in this process."""

    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one line of a refusal."""
        lines = [line for line in self.err.strip().split("\n") if "\r" not in line and not PROGRESS.match(line)]
        assert self.status == 2 and len(lines) == 1 and lines[0].startswith("graft: "), (self.status, self.err)
        return lines[0]


def run(*args: object) -> Result:
    """The status and the output of ``graft ARGS``."""
    out, err = io.StringIO(), io.StringIO()
    before = list(sys.path)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = cli.main([str(arg) for arg in args])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        finally:
            sys.path[:] = before
    return Result(status, out.getvalue(), err.getvalue())


def done(*args: object) -> Result:
    """The same of a command that must end well."""
    result = run(*args)
    assert result.status == 0, result.err
    return result
