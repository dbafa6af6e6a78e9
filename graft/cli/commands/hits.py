"""``graft hits``: the best distinct objects of a run."""

import itertools
from pathlib import Path

from graft import commands, runs
from graft.cli.arguments import model_overrides
from graft.cli.flags import CommandParser
from graft.cli.weights import add_flags, check_output_suffix, load_run
from graft.core import limits
from graft.errors import GraftError
from graft.evaluation import SampleEvaluator
from graft.report import hits
from graft.reward import scored_forms


def run(args: list[str]) -> None:
    """Rank the objects of a run, and write the file."""
    parser = CommandParser(
        prog="graft hits",
        description="The best distinct objects of a run's rounds, and of fresh samples, ranked. FILE may be of any of "
        "the domain's formats, a table (.csv), a picture (.png) or a page (.html).",
    )
    add_flags(parser, 100)
    parser.add_argument(
        "--draws", type=int, default=0, help="Number of further draws of the run's weights, which are scored."
    )
    parser.add_argument(
        "--as_scored",
        action="store_true",
        help="Write the objects in the form in which the reward scored them, such as docked poses, with its value.",
    )
    given, args = model_overrides(args)
    flags = parser.parse_args(args)
    limits.check("-n", flags.number, 1)
    limits.check("--draws", flags.draws, 0)
    if flags.as_scored and flags.postprocess:
        raise GraftError("--as_scored and --postprocess exclude each other. Leave out one.")
    cli = load_run(flags, given, "hits could be ranked")
    data, path, out = cli.datamodule, runs.find_weights(flags.weights), Path(flags.out)
    check_output_suffix(cli.model, out, ".csv", ".png", ".html")
    data.run_dir = path.parent
    rounds = sum(
        1 for _ in itertools.takewhile(lambda n: (data.rounds.round_dir(n) / "round.json").exists(), itertools.count())
    )
    evaluator = SampleEvaluator(data.rounds.require_reward, {})
    data.rounds.require_reward.setup()
    try:
        for items, calls in commands.sample_chunks(cli.model, cli.trainer, flags.draws, "hits") if flags.draws else ():
            evaluator.update(items, calls)
        found, invalid = hits.top_samples(cli.model, data, rounds, evaluator.items, evaluator.rewards, flags.number)
        if flags.postprocess:
            found = hits.postprocessed(cli.model, data, found)
        label, count = data.rounds.reward_label[0], len(found)
        if flags.as_scored and found:
            forms = scored_forms(data.rounds.require_reward, [hit.item for hit in found])
            if not forms:
                raise GraftError(f"the reward {label} has no other form of these objects. Leave out --as_scored.")
            found, label = hits.as_scored(found, forms[0][1]), forms[0][0].name
    finally:
        data.rounds.require_reward.teardown()
    if not found:
        kept = f"{path.parent} keeps no {'valid scored draws' if invalid else 'scored draws'}"
        raise GraftError(f"{kept}: draw some with --draws 1000")
    hits.write_hits(cli.model, found, out, label, invalid)
    without = f" ({count - len(found)} more have no such form)" if len(found) < count else ""
    print(f"{len(found)} hits in {out}, {label} {found[0].reward:.4g} to {found[-1].reward:.4g}{without}")
    if invalid:
        print(hits.left_out(invalid))
