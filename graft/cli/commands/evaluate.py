"""``graft evaluate``: the domain's metrics of fresh samples."""

from jsonargparse import ArgumentParser

from graft import commands
from graft.cli.arguments import model_overrides
from graft.cli.weights import add_flags, load_run
from graft.commands import evaluation
from graft.core import limits
from graft.io.json_files import write_json


def run(args: list[str]) -> None:
    """Sample several times, and print means and spreads of the metrics."""
    parser = ArgumentParser(
        prog="graft evaluate",
        description="The domain's metrics of fresh samples, over several runs with seeds of their own.",
        exit_on_error=False,
    )
    add_flags(parser, 10_000)
    parser.add_argument("--runs", type=int, default=3, help="Number of runs.")
    given, args = model_overrides(args)
    asked = parser.parse_args(args)
    limits.check("-n", asked.number, 1)
    limits.check("--runs", asked.runs, 1)
    cli = load_run(asked, given, "")
    found = evaluation.evaluate(cli.model, cli.trainer, asked.number, asked.runs)
    about = {"n": asked.number, "runs": asked.runs, "seed": asked.seed, "steps": cli.model.policy.steps}
    if asked.out is not None:
        write_json(asked.out, {**evaluation.plain(found), **about, "versions": commands.versions()})
    print(f"{asked.runs} runs of {asked.number} samples, {cli.model.policy.steps} steps\n{evaluation.table(found)}")
