"""``graft test``: compare a model with its reference."""

from graft import commands, report
from graft.cli.context import load_initial_weights, rank_zero_print
from graft.cli.parser import parse_and_build


def run(args: list[str]) -> None:
    """Evaluate draws of both, and print the metrics side by side."""
    cli, _ = parse_and_build("test", args)
    load_initial_weights(cli)
    commands.evaluate_both(cli.model, cli.datamodule, cli.trainer)
    sides = {name: evaluator.summary() for name, evaluator in cli.model.evaluators.items()}
    rank_zero_print(cli, f"{'':<20} {'reference':>12} {'tuned':>12}")
    for name in sides["tuned"]:
        values = "".join(f" {report.format_number(sides[side][name]):>12}" for side in ("reference", "tuned"))
        rank_zero_print(cli, f"{name.replace('_', ' '):<20}{values}")
