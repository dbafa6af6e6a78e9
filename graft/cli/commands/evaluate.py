"""``graft evaluate``: the domain's metrics of fresh samples."""

from dataclasses import asdict

from graft.cli.arguments import model_overrides
from graft.cli.flags import CommandParser
from graft.cli.weights import add_flags, load_run
from graft.commands import evaluation
from graft.core import limits
from graft.io.json_files import write_json
from graft.version import versions


def run(args: list[str]) -> None:
    """Sample several times, and print means and spreads of the metrics."""
    parser = CommandParser(
        prog="graft evaluate",
        description="The domain's metrics of fresh samples, over several runs with seeds of their own.",
    )
    add_flags(parser, 10_000)
    parser.add_argument("--runs", type=int, default=3, help="Number of runs.")
    given, args = model_overrides(args)
    flags = parser.parse_args(args)
    limits.check("-n", flags.number, 1)
    limits.check("--runs", flags.runs, 1)
    cli = load_run(flags, given, "")
    found = evaluation.evaluate(cli.model, cli.trainer, flags.number, flags.runs)
    about = {"n": flags.number, "runs": flags.runs, "seed": flags.seed, "steps": cli.model.policy.steps}
    if flags.out is not None:
        write_json(
            flags.out,
            {**{name: asdict(metric) for name, metric in found.items()}, **about, "versions": versions()},
        )
    print(f"{flags.runs} runs of {flags.number} samples, {cli.model.policy.steps} steps")
    print(evaluation.metrics_table(found))
