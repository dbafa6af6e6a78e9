"""``graft rate``: people rate the draws of a run in a browser."""

from pathlib import Path

from graft import runs
from graft.cli.arguments import model_overrides
from graft.cli.flags import CommandParser
from graft.cli.weights import check_output_suffix, load_run
from graft.commands.rate import LABEL, RatedRound, newest_round, rate
from graft.core import limits
from graft.rating.scale import SCALES, find_scale


def run(args: list[str]) -> None:
    """Serve the page, and write the ratings as a file of scored draws."""
    parser = CommandParser(
        prog="graft rate",
        description="A page on which people rate draws of a run: keep or drop, or 1 to 5. The ratings become a file "
        "of scored draws, which graft fit takes as --data.source.path.",
    )
    parser.add_argument("weights", type=str, metavar="RUN", help="A run's folder.")
    parser.add_argument("-n", "--number", type=int, default=64, help="Number of draws, a random choice.")
    parser.add_argument("--round", type=int | None, help="Number of the round, from 1; the newest one if not given.")
    parser.add_argument("--scale", type=str, default="keep", help=f"Scale of the ratings: {' or '.join(SCALES)}.")
    parser.add_argument("--out", type=str | None, help="A further file of the rated objects, in the domain's format.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the choice of draws.")
    parser.add_argument("--port", type=int, default=0, help="Port of the page; 0: a free one.")
    parser.add_argument("--write_only", action="store_true", help="Show no page, and write the ratings so far.")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="Build the model of config.yaml in the run's folder: for runs of your own only.",
    )
    given, args = model_overrides(args)
    flags = parser.parse_args(args)
    limits.check("-n", flags.number, 1)
    limits.check("--round", flags.round, 1)
    scale = find_scale(flags.scale, "--scale")
    folder = runs.find_weights(flags.weights).parent
    number = flags.round or newest_round(folder)
    for name in ("level", "steps", "reward"):
        flags[name] = None
    module = load_run(flags, given, "").model
    out = None if flags.out is None else Path(flags.out)
    if out is not None:
        check_output_suffix(module, out)
    rated = RatedRound(module, folder, number, scale)
    if not flags.write_only:
        rate(rated, f"{type(module).__name__}: round {number}", flags.number, flags.seed, flags.port)
    counts = rated.write(out)
    text = ", ".join(f"{counts[value]} {name}" for value, name in scale.choices.items())
    source = f"--data.source.path {rated.path} --data.source.score_column {LABEL}"
    print(
        f"{sum(counts.values())} ratings ({text}) in {rated.path}\nfine-tune on them: graft fit --config ... {source}"
    )
