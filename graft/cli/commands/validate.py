"""``graft validate``: evaluate draws of a model."""

from graft import report
from graft.cli.context import load_initial_weights, rank_zero_print
from graft.cli.parser import parse_and_build
from graft.core import limits


def run(args: list[str]) -> None:
    """Sample and score, and print the metrics."""
    cli, _ = parse_and_build("validate", args)
    limits.check("data.evaluation.validation_draws", cli.datamodule.evaluation.validation_draws, 1)
    load_initial_weights(cli)
    try:
        cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    finally:
        if cli.datamodule.reward is not None:  # a scored file may have none
            cli.datamodule.reward.teardown()
    for name, value in cli.model.evaluators["tuned"].summary().items():
        rank_zero_print(cli, f"{name.replace('_', ' '):<20} {report.format_number(value)}")
