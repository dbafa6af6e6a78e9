"""``graft validate``: evaluate draws of a model."""

from graft import report
from graft.cli.context import load_initial_weights, rank_zero_print
from graft.cli.parser import parse_and_build


def run(args: list[str]) -> None:
    """Sample and score, and print the metrics."""
    cli, _ = parse_and_build("validate", args)
    load_initial_weights(cli)
    cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    cli.datamodule.reward.teardown()
    for name, value in cli.model.evaluators["tuned"].summary().items():
        rank_zero_print(cli, f"{name.replace('_', ' '):<20} {report.format_number(value)}")
