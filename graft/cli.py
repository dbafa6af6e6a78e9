"""The command line: ``graft fit --config domains/molecule.yaml`` and the other commands."""

import inspect
import itertools
import logging
import math
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

HELP = """usage: graft COMMAND --config NAME [--config NAME ...] [--SETTING VALUE ...]

Fine-tune diffusion and flow models by shaping the law of an intermediate state.

commands:
  fit        rollouts, acceptance, fine-tuning; ends with a table, pictures and files (the main job)
  pretrain   train a reference on data
  correct    inverse noise correction of a flow: fewer operations a sample, learned from data and no reward
  levels     how much of the reward is decided at each level, and which one to choose
  compare    methods at an equal budget: --methods a,b --seeds 0,1,2 [--levels 0,0.125,auto]
  sample     draw objects from a run's weights into a file: --weights RUN -n 256 --out FILE [--seed S] [--level U]
             [--interpolate W] [--best_of N] [--given FILE]
             [--model.SETTING VALUE]
  hits       the best distinct objects of a run, ranked, with drawings: --weights RUN -n 100 --out FILE [--draws N]
  evaluate   the domain's metrics of fresh samples, over several runs: --weights RUN -n 10000 --runs 3 [--out FILE.json]
  validate   judge draws of a model: --weights RUN
  test       compare a model with its reference: --weights RUN
  predict    draw from a model into the run's folder: --weights RUN

A config is a path, or a name in ./configs or among the installed ones; several are merged, the later one wins, and
flags win over them.  graft COMMAND --config NAME --help  explains every setting.
"""


QUIET = [  # warnings of Lightning's that are not the user's to act on
    ".*does not have many workers.*",  # batches are indexed from memory
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run's
    ".*LightningCLI's args parameter is intended.*",  # it is given them by us
    ".*isinstance.treespec, LeafSpec.*",  # lightning 2.6 under torch 2.13
    ".*smaller than the logging interval.*",  # small data sets
    ".*but have no .val_dataloader.*",  # data without a validation part
    ".*Total length of .* across ranks is zero.*",  # no validation draws; a run resumed after its last round
    ".*your dataloader is not resumable.*",  # pre-training that was interrupted within an epoch: it is shuffled anew
    ".*The dirpath has changed.*",  # of a run whose folder was moved
    ".*module.s. in eval mode at the start of training.*",  # the reference
    ".*recommended to use .self.log.*sync_dist=True.*",  # every process logs what all of them found
    ".*Using .DistributedSampler. with the dataloaders.*",  # a repeated request is not judged twice
    r"(?s).*(JSONARGPARSE_DEPRECATION|deprecated\s+in\s+v4)",  # Lightning's calls of jsonargparse
]


def main(args: "Sequence[str] | None" = None) -> int:
    """Run a command; the exit status: 0, 2 for something the user can put right, 130 for an interruption."""
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help"):
        print(HELP)
        return 0
    if args[0] == "--version":
        from graft.commands import versions

        print(" ".join(f"{name} {version}" for name, version in versions().items()))
        return 0
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)  # a user's own rewards and domains, as with python -m
    try:
        return _run(args)
    except (KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, KeyboardInterrupt):  # Lightning's
            raise
        return _interrupted(args, error)


def _interrupted(args: list[str], error: BaseException) -> int:
    """Say how to go on; the exit status."""
    from graft.interruption import Interrupted

    if isinstance(error.__context__, Interrupted):  # Lightning made a SystemExit of it
        error = error.__context__
    if not isinstance(error, Interrupted) or args[0] == "compare":
        how = "the same command and --run_dir" if args[0] == "compare" else "--ckpt_path last"
        print(f"graft: interrupted; go on with {how}", file=sys.stderr)
        return error.status if isinstance(error, Interrupted) else 130
    _, rest = _apart(args[1:], ("ckpt_path", "run_dir"))
    how = _command(args[0], [*rest, "--run_dir", str(error.folder), "--ckpt_path", "last"])
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"graft: interrupted {error.where}, nothing is lost; go on with: {how}", file=sys.stderr)
    return error.status


def _run(args: list[str]) -> int:
    from graft.errors import GraftError

    try:
        if args[0] not in COMMANDS:
            raise GraftError(f"there is no command {args[0]!r}: {', '.join(COMMANDS)}")
        COMMANDS[args[0]](args[1:])
    except Exception as error:
        said = _said(error)
        if said is None or os.environ.get("GRAFT_TRACEBACK") == "1":
            raise
        rank = os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0"  # of several processes all may fail
        who = "graft" if rank == "0" else f"graft: process {rank}"
        print(f"{who}: {' '.join(said.split())}", file=sys.stderr)
        return 2
    return 0


def _said(error: BaseException) -> "str | None":
    """What the user can put right, in a sentence; None if the error is not of that kind."""
    import torch
    from jsonargparse import ArgumentError
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from graft.errors import GraftError

    cause: BaseException | None = error
    known: str | None = None
    while cause is not None:  # the parser wraps what the constructors of its classes raise
        if isinstance(cause, GraftError | MisconfigurationException):
            known = str(cause)
        cause = cause.__cause__
    if known is not None:
        return known
    if isinstance(error, torch.OutOfMemoryError):  # sampling makes do with less
        return (
            f"out of memory ({str(error).splitlines()[0]}): lower data.train_batch_size, or have it in parts with "
            "trainer.accumulate_grad_batches, which changes nothing else"
        )
    if isinstance(error, OSError) and error.errno is not None:  # no space, no permission
        return str(error)
    return _sentence(str(error)) if isinstance(error, ArgumentError) else None


NOISE = ("Does not validate", "Subtypes:", "Errors:", "Expected NoneType", "Expected a path but", "Given value")


def _sentence(message: str) -> str:
    """The part of a parser's message that says what is wrong."""
    keys, owner, said = list[str](), "", list[str]()
    message = re.sub(r"a typing\.Literal\[(.+?)\]", r"\1", re.sub(r"(?:a )?<class '(.+?)'>", r"\1", message))
    for line in message.splitlines():
        line = line.strip(" -")
        if match := re.match(r'Parser key "(.+?)":\s*(.*)', line):
            keys.append(match[1])
            line = match[2]
        elif match := re.match(r"Problem with given class_path '(.+)':", line):
            owner, line = f" by {match[1]}", ""
        if line and not line.startswith(NOISE):
            said.append(line + (owner if line.endswith("is not accepted") else ""))
    if said and said[0].startswith("Expected ") and (given := re.search(r"Given value: (.*)", message)):
        # of a setting that takes one kind or another, each on a line of its own
        kinds = [line.removeprefix("Expected ") for line in said if line.startswith("Expected ")]
        said[0] = f"Expected {' or '.join(kinds)}. Got value: {given[1]}"
    return f"{'.'.join(keys)}: {said[0]}" if keys and said else " ".join(said)


def console() -> None:
    """The ``graft`` command."""
    sys.exit(main())


def _parser(command: str, args: "list[str] | dict[str, Any]") -> Any:
    """The parsed and instantiated command: ``.model``, ``.datamodule``, ``.trainer``, ``.config``."""
    from lightning.pytorch import LightningDataModule
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

    from graft.commands import TRAINER
    from graft.correct import RecoveredNoise
    from graft.errors import GraftError
    from graft.module import GraftModule
    from graft.rollouts import Rollouts

    data = {"pretrain": LightningDataModule, "sample": None, "correct": RecoveredNoise}.get(command, Rollouts)
    reloads = data in (Rollouts, RecoveredNoise)

    class CLI(LightningCLI):
        """Lightning's command line with graft's settings; a run's folder is chosen before anything is built."""

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.add_argument(
                "--run_dir", type=str | None, default=None, help="Folder of the run; runs/NAME/N if null."
            )
            parser.add_argument(
                "--ckpt_path",
                type=str | None,
                default=None,
                help="Go on with an interrupted run: a checkpoint, 'last', or 'auto': the last if any.",
            )
            parser.add_argument(
                "--weights",
                type=str | None,
                default=None,
                help="Start from the tuned weights of a run: its folder or its weights file.",
            )
            parser.link_arguments("seed_everything", "model.init_args.seed", compute_fn=int)
            if reloads:
                parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

        def before_instantiate_classes(self) -> None:
            if data is Rollouts:  # the parser lets null pass for anything
                _no_nulls("data", Rollouts, vars(self.config.data))

    flags = [arg.partition("=")[0] for arg in args]
    if isinstance(args, list) and not any(f in ("--config", "-c", "-h") or f.endswith("help") for f in flags):
        raise GraftError(f"give a configuration: graft {command} --config NAME; there are {', '.join(configs())}")
    try:
        return CLI(
            GraftModule,
            data,
            subclass_mode_model=True,
            subclass_mode_data=data is LightningDataModule,
            save_config_callback=None,
            trainer_defaults={**TRAINER, "reload_dataloaders_every_n_epochs": int(reloads)},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={
                "prog": f"graft {command}",
                "description": "A config's settings, each of which is also a flag.",
                "exit_on_error": False,
                "allow_abbrev": False,
            },
            args=_found(command, args) if isinstance(args, list) else args,
            run=False,
        )
    except (ValueError, TypeError, OverflowError) as error:  # of a constructor: the Trainer's, a user's class's
        raise GraftError(_sentence(str(error))) from error


def _no_nulls(place: str, kind: type, given: dict[str, Any]) -> None:
    """Refuse null where a class has a value of its own and takes no null."""
    from graft.errors import GraftError

    for name, parameter in inspect.signature(kind).parameters.items():
        allowed = parameter.default is None or "None" in str(parameter.annotation)
        if name in given and given[name] is None and not allowed:
            raise GraftError(f"{place}.{name} is null, but it needs a value, such as {parameter.default!r}")


def load(config: str, *flags: str) -> tuple[Any, Any, Any]:
    """(module, data, trainer) of a configuration, as ``graft fit`` builds them.

    Args:
        config: Its name or path.
        *flags: As on the command line, such as ``--model.level=0.25``.
    """
    cli, _ = _setup("fit", ["--config", config, *flags])
    return cli.model, cli.datamodule, cli.trainer


def configs() -> list[str]:
    """Names of the configurations that ``--config`` finds."""
    from graft import files

    names: list[str] = []
    for root in files.roots():
        if root.name == "configs":
            names += files.below(root, ".yaml")
        elif root != Path.cwd():
            names += [f"domains/{name}" for name in files.below(root / "domains", ".yaml")]
    return sorted(set(names))


def _found(command: str, args: list[str]) -> list[str]:
    """The arguments with each configuration's name replaced by its path."""
    from graft import files
    from graft.errors import GraftError

    out = list(args)
    for i, arg in enumerate(out):
        flag, equals, value = arg.partition("=")
        if flag not in ("--config", "-c"):
            continue
        if not equals and i + 1 == len(out):
            raise GraftError("--config needs a name")
        name = value if equals else out[i + 1]
        try:
            path = str(files.locate(name))
        except GraftError:
            raise GraftError(f"there is no configuration {name!r}; there are {', '.join(configs())}") from None
        data = _content(path).get("data") or {}
        corrects = isinstance(data.get("source"), dict)
        if corrects and command != "correct":
            raise GraftError(f"{name} corrects a flow: use it with graft correct")
        if command in ("pretrain", "correct") and "reward" in data and not corrects:
            raise GraftError(f"{name} fine-tunes, it does not train on data: use it with graft fit")
        if command != "pretrain" and "class_path" in data:
            raise GraftError(f"{name} trains on data: use it with graft pretrain")
        if equals:
            out[i] = f"--config={path}"
        else:
            out[i + 1] = path
    return out


def _content(path: str) -> dict[str, Any]:
    """Of a configuration."""
    from graft.errors import GraftError

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise GraftError(f"{path} is no YAML file: {error}") from None
    if not isinstance(content, dict | None):
        raise GraftError(f"{path} is no configuration: it holds no settings by name")
    return content or {}


def _name(args: list[str]) -> str:
    """Of the run: the first configuration's."""
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag in ("--config", "-c"):
            return Path(value if equals else args[i + 1]).stem
    return "run"


def _setup(command: str, args: "list[str] | dict[str, Any]") -> "tuple[Any, str]":
    """(command line, its configuration as YAML), with Lightning's chatter turned down."""
    import lightning.pytorch  # noqa: F401  (its import sets the levels)

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in QUIET:
        warnings.filterwarnings("ignore", message=message)
    if isinstance(args, list) and {"-h", "--help"} & set(args):
        _help(command, args)
        raise SystemExit(0)
    cli = _parser(command, args)
    config = cli.config.clone()
    for name in ("ckpt_path", "run_dir"):  # what is kept says what was done, not where or how often it was begun
        if name in config:
            config[name] = None
    return cli, cli.parser.dump(config, skip_none=False)


def _help(command: str, args: list[str]) -> None:
    """Every setting: the command's own, then those of the classes that the configuration names."""
    found = _found(command, [arg for arg in args if arg not in ("-h", "--help")])
    paths = [value for flag, value in itertools.pairwise(found) if flag in ("--config", "-c")]
    paths += [arg.partition("=")[2] for arg in found if arg.startswith(("--config=", "-c="))]
    classes: dict[str, str] = {}
    for path in paths:
        config = _content(path)
        places = {"model": config.get("model"), "data": config.get("data")}
        places |= {f"data.{key}": value for key, value in (config.get("data") or {}).items()}
        for place, value in places.items():
            if isinstance(value, dict) and "class_path" in value:
                classes[place] = value["class_path"]
    levels = [] if command in ("pretrain", "correct") else [["--data.levels.help"]]  # a setting of settings of its own
    for extra in [["--help"], *([f"--{place}.help={name}"] for place, name in classes.items()), *levels]:
        try:
            _parser(command, extra)
        except SystemExit:
            pass


def _command(command: str, args: list[str]) -> str:
    return shlex.join(["graft", command, *args])


def _warm(cli: Any) -> None:
    if cli.config.weights is not None:
        from graft import runs

        cli.model.load_weights(runs.weights_file(cli.config.weights))


def _folder(cli: Any, name: str, config: str) -> "tuple[Path, Path | None]":
    """(the run's folder, the checkpoint to go on from), the same on every process."""
    from graft import ranks, runs

    ranks.begin(cli.trainer, cli.model)
    return ranks.first(cli.trainer, lambda: runs.choose(cli.config.run_dir, name, config, cli.config.ckpt_path))


def _say(cli: Any, text: str) -> None:
    """Print, once."""
    if cli.trainer.is_global_zero:
        print(text, flush=True)


def _fit(args: list[str]) -> None:
    from graft import commands, report

    cli, config = _setup("fit", args)
    _warm(cli)
    folder, checkpoint = _folder(cli, _name(args), config)
    _say(cli, f"graft: run in {folder}")
    summary = commands.fit(cli.model, cli.datamodule, folder, cli.trainer, config, _command("fit", args), checkpoint)
    _say(cli, f"\n{report.table(summary)}\n\n{folder / 'report.html'}")


def _pretrain(args: list[str]) -> None:
    from graft import commands, report

    cli, config = _setup("pretrain", args)
    _warm(cli)
    folder, checkpoint = _folder(cli, _name(args), config)
    _say(cli, f"graft: run in {folder}")
    summary = commands.pretrain(cli.model, cli.datamodule, folder, cli.trainer, config, checkpoint)
    for name, value in summary["reference"].items():
        if not isinstance(value, dict):
            _say(cli, f"{name.replace('_', ' '):<20} {report.number(value)}")
    _say(cli, str(folder / "reference.safetensors"))


def _correct(args: list[str]) -> None:
    from graft.correct import show
    from graft.correct.command import correct

    cli, config = _setup("correct", args)
    _warm(cli)
    folder, checkpoint = _folder(cli, _name(args), config)
    _say(cli, f"graft: run in {folder}")
    summary = correct(cli.model, cli.datamodule, folder, cli.trainer, config, _command("correct", args), checkpoint)
    _say(cli, f"\n{show.table(summary)}\n\n{folder / 'report.html'}")


def _levels(args: list[str]) -> None:
    from graft import commands
    from graft.errors import GraftError
    from graft.levels import show

    cli, config = _setup("levels", args)
    for name in ("weights", "ckpt_path"):
        if cli.config[name] is not None:
            raise GraftError(f"graft levels looks at the reference, which model.weights gives: leave out --{name}")
    folder, _ = _folder(cli, f"{_name(args)}_levels", config)
    found = commands.levels(cli.model, cli.datamodule, folder, cli.trainer, config)
    _say(cli, f"{show.table(found)}\n\n{folder / show.PICTURE}")


def _compare(args: list[str]) -> None:
    from graft import runs
    from graft.compare import methods, plan, show
    from graft.compare.run import Comparison
    from graft.errors import GraftError

    own, rest = _apart(args, ("methods", "seeds", "levels", "baseline", "law_draws", "run_dir"))
    if {"-h", "--help"} & set(rest):
        print(f"{COMPARE}\nmethods:\n{methods.described()}\n")
        _setup("compare", rest)
    run_dir = own.pop("run_dir", None)
    asked = plan.asked(own.pop("methods", ""), own.pop("seeds", ""), **own)

    def build(flags: list[str]) -> plan.Built:
        cli, config = _setup("compare", [*rest, *flags])
        for name in ("weights", "ckpt_path"):
            if cli.config[name] is not None:
                raise GraftError(
                    f"graft compare trains from the reference and goes on by --run_dir: leave out --{name}"
                )
        return plan.Built(cli.model, cli.datamodule, cli.trainer, config)

    comparison = Comparison(asked, build, _command("compare", args))
    name = f"compare-{_name(rest)}"
    folder = Path(run_dir) if run_dir is not None else runs.choose(None, name, "", None)[0]
    comparison.open(folder)
    print(f"graft: comparison in {folder}", flush=True)
    comparison.finish()
    about = comparison.about()
    print(f"\n{show.table(show.write(folder, comparison.shown, about), about)}\n\n{folder / 'compare.html'}")


COMPARE = """usage: graft compare --config NAME --methods a,b --seeds 0,1,2 [--SETTING VALUE ...]

  --methods LIST     methods, see below, or configuration files of settings: pgraft,best_of:8,mine.yaml
  --seeds LIST       of the runs
  --levels LIST      numbers or auto, for methods that have a level; the configuration's own if not given
  --baseline METHOD  that differences are taken to; the first one if not given
  --law_draws N      draws of the reference for the accepted law; as many as a run's if not given
  --run_dir FOLDER   where; runs/compare-NAME/N if not given. A comparison that is there goes on.
"""


def _apart(args: list[str], names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """(the flags of these names, the rest of the arguments)."""
    from graft.errors import GraftError

    own, rest = dict[str, str](), list[str]()
    left = iter(args)
    for arg in left:
        flag, equals, value = arg.partition("=")
        if flag.removeprefix("--") not in names or not flag.startswith("--"):
            rest.append(arg)
            continue
        given = value if equals else next(left, None)
        if given is None:
            raise GraftError(f"{flag} needs a value")
        own[flag.removeprefix("--")] = given
    return own, rest


def _sample(args: list[str]) -> None:
    from jsonargparse import ArgumentParser

    from graft import commands, files
    from graft.errors import GraftError

    parser = ArgumentParser(
        prog="graft sample", description="Draw objects from a run's weights into a file.", exit_on_error=False
    )
    _of_run(parser, 256)
    parser.add_argument(
        "--interpolate",
        type=float | None,
        default=None,
        metavar="W",
        help="Draw with the weights W * tuned + (1 - W) * reference: 0 is the reference, 1 the tuned model.",
    )
    parser.add_argument(
        "--best_of",
        type=int | None,
        default=None,
        metavar="N",
        help="For each object draw N under the same condition and keep the one that the run's reward likes best.",
    )
    parser.add_argument(
        "--given",
        type=str | None,
        default=None,
        metavar="FILE",
        help="What is given to every draw, in a file of the domain's: a brief of a page's elements.",
    )
    given, args = _given(args)
    asked = parser.parse_args(args)
    if asked.number < 1:
        raise GraftError(f"-n is {asked.number}, but it must be at least 1")
    if asked.interpolate is not None and not math.isfinite(asked.interpolate):
        raise GraftError(f"--interpolate is {asked.interpolate}, but it must be a finite number")
    if asked.best_of is not None and asked.best_of < 1:
        raise GraftError(f"--best_of is {asked.best_of}, but it takes at least 1 candidate")
    cli = _built(asked, given, "--best_of could choose" if asked.best_of is not None else "")
    if asked.given is not None:
        cli.model.give(Path(asked.given))
    if asked.interpolate is not None:
        cli.model.interpolate(asked.interpolate)
    rewards: list[float] | None = None
    cost = ""
    if asked.best_of is not None:
        from graft.best_of import best_of

        best = best_of(cli.model, cli.trainer, cli.datamodule.reward, asked.number, asked.best_of)
        items, rewards = best.items, best.rewards
        cost = f", the best of {asked.best_of} each: {best.reward_calls} reward calls, "
        cost += f"{best.denoiser_calls} denoiser calls, {_scored(cli.datamodule.reward, rewards)}"
    else:
        items = [item for drawn, _ in commands.sample(cli.model, cli.trainer, asked.number) for item in drawn]
    if asked.clean:
        items = cli.model.clean(items)
    out = Path(asked.out)
    if out.suffix == ".png":
        picture = cli.model.draw(items)
        if picture is None:
            raise GraftError(f"{type(cli.model).__name__} draws no pictures")
        files.write_bytes(out, picture)
    else:
        files.written(out, lambda path: cli.model.write(items, path, rewards))
    print(f"{len(items)} objects in {out}{cost}")


def _hits(args: list[str]) -> None:
    from jsonargparse import ArgumentParser

    from graft import commands, hits, runs
    from graft.errors import GraftError
    from graft.judge import Judge

    parser = ArgumentParser(
        prog="graft hits",
        description="The best distinct objects of a run's rounds, and of fresh samples, ranked. FILE may be of any of "
        "the domain's formats, a table (.csv), a picture (.png) or a page (.html).",
        exit_on_error=False,
    )
    _of_run(parser, 100)
    parser.add_argument("--draws", type=int, default=0, help="Draw and score so many more with the run's weights.")
    given, args = _given(args)
    asked = parser.parse_args(args)
    if asked.number < 1 or asked.draws < 0:
        raise GraftError(f"-n is {asked.number} and --draws {asked.draws}, but they are at least 1 and 0")
    cli = _built(asked, given, "hits could be ranked")
    data, path = cli.datamodule, runs.weights_file(asked.weights)
    data.run_dir = path.parent
    rounds = sum(1 for _ in itertools.takewhile(lambda n: (data.folder(n) / "round.json").exists(), itertools.count()))
    judge = Judge(data.scorer, {})
    data.scorer.open()
    try:
        for items, calls in commands.sample(cli.model, cli.trainer, asked.draws, "hits") if asked.draws else ():
            judge.update(items, calls)
    finally:
        data.scorer.close()
    found = hits.found(cli.model, data, rounds, judge.items, judge.rewards, asked.number)
    if not found:
        raise GraftError(f"{path.parent} keeps no scored draws: draw some with --draws 1000")
    if asked.clean:
        for hit, item in zip(found, cli.model.clean([hit.item for hit in found]), strict=True):
            hit.item = item
    out = Path(asked.out)
    hits.write(cli.model, found, out, data.label[0])
    print(f"{len(found)} hits in {out}, {data.label[0]} {found[0].reward:.4g} to {found[-1].reward:.4g}")


def _evaluate(args: list[str]) -> None:
    from jsonargparse import ArgumentParser

    from graft import commands, evaluate, files
    from graft.errors import GraftError

    parser = ArgumentParser(
        prog="graft evaluate",
        description="The domain's metrics of fresh samples, over several runs with seeds of their own.",
        exit_on_error=False,
    )
    _of_run(parser, 10_000)
    parser.add_argument("--runs", type=int, default=3, help="How often the samples are drawn.")
    given, args = _given(args)
    asked = parser.parse_args(args)
    if asked.number < 1 or asked.runs < 1:
        raise GraftError(f"-n is {asked.number} and --runs {asked.runs}, but both are at least 1")
    cli = _built(asked, given, "")
    found = evaluate.evaluate(cli.model, cli.trainer, asked.number, asked.runs)
    about = {"n": asked.number, "runs": asked.runs, "seed": asked.seed, "steps": cli.model.steps}
    if asked.out is not None:
        files.write_json(asked.out, {**evaluate.plain(found), **about, "versions": commands.versions()})
    print(f"{asked.runs} runs of {asked.number} samples, {cli.model.steps} steps\n{evaluate.table(found)}")


def _of_run(parser: Any, number: int) -> None:
    """The flags of commands that draw from a run's weights."""
    parser.add_argument("--weights", type=str, required=True, help="A run's folder, or its weights file.")
    parser.add_argument("-n", "--number", type=int, default=number, help="How many objects.")
    needed = parser.prog != "graft evaluate"
    kind = str if needed else str | None
    parser.add_argument("--out", type=kind, required=needed, help="File; its suffix says the format.")
    parser.add_argument("--seed", type=int, default=0, help="Of the draws.")
    parser.add_argument(
        "--level", type=float | None, default=None, help="Hand over at this level instead of the run's."
    )
    parser.add_argument("--steps", type=int | None, default=None, help="Steps of the sampler instead of the run's.")
    if not needed:
        return
    parser.add_argument(
        "--clean", action="store_true", help="Mend small flaws of what is written (relax molecules' conformers)."
    )


def _given(args: list[str]) -> tuple[dict[str, Any], list[str]]:
    """(settings of the model by name, the other arguments)."""
    from graft.errors import GraftError

    given, rest, left = dict[str, Any](), list[str](), iter(args)
    for arg in left:
        flag, equals, value = arg.partition("=")
        if not flag.startswith("--model."):
            rest.append(arg)
            continue
        text = value if equals else next(left, None)
        if text is None:
            raise GraftError(f"{flag} needs a value")
        try:
            given[flag.removeprefix("--model.")] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise GraftError(f"the value of {flag} is {text!r}, which is no YAML") from None
    return given, rest


def _built(asked: Any, given: dict[str, Any], by_reward: str) -> Any:
    """The command line of the run whose weights are asked for, with them; with its data where a reward is needed.

    Args:
        asked: Flags of `_of_run`.
        given: Settings of the model that take the place of the run's.
        by_reward: What its reward is needed for; empty if it is not.
    """
    from graft import files, runs
    from graft.errors import GraftError

    path = runs.weights_file(asked.weights)
    _, about = files.read_tensors(path)
    config = yaml.safe_load(about.get("config") or "null")
    if not config:
        raise GraftError(f"{path} does not say what model it belongs to: use graft predict --config … --weights {path}")
    _harmless(path, {name: config.get(name) for name in ("model", *(["data"] if by_reward else []))})
    model = config["model"]
    if about.get("reference"):
        model["init_args"]["weights"] = about["reference"]["path"]
    model["init_args"] |= {k: v for k, v in {"level": asked.level, "steps": asked.steps}.items() if v is not None}
    model["init_args"].pop("compile", None)  # its minute paid in training; for many samples it can be asked for anew
    model["init_args"] |= given
    settings = {"seed_everything": asked.seed, "model": model}
    if by_reward:
        if "reward" not in (config.get("data") or {}):
            raise GraftError(f"{path} belongs to a run without a reward, by which {by_reward}")
        cli, _ = _setup("predict", {**settings, "data": config["data"]})
    else:
        cli, _ = _setup("sample", settings)
    cli.model.load_weights(path)
    return cli


def _harmless(path: Path, config: Any) -> None:
    """Refuse a configuration that came with weights, which somebody else may have made, and names what no model is of.

    It builds classes that are installed here or lie in the current folder, with its settings; it cannot bring code.

    Raises:
        GraftError: It names something of Python's own library, or a program to start.
    """
    from graft import runs
    from graft.errors import GraftError

    for key, value in runs.flat(config):
        name, last = str(value).partition(".")[0], key.rpartition(".")[2]
        if last in ("class_path", "path", "by") and name in sys.stdlib_module_names | {"builtins", "__main__"}:
            raise GraftError(f"{path} names {value} in its {key}, which no model needs: it is not to be trusted")
        if last == "python" and value is not None:
            raise GraftError(
                f"{path} would start {value} for its reward: use graft.load with a configuration you trust"
            )


def _scored(reward: Any, rewards: list[float]) -> str:
    """What objects score, in words."""
    from graft import report

    right = [value for value in rewards if not math.isnan(value)]
    failed = f", {len(rewards) - len(right)} without a reward" if len(right) < len(rewards) else ""
    return f"mean {reward.name} {report.number(sum(right) / len(right) if right else math.nan)}{failed}"


def _validate(args: list[str]) -> None:
    from graft import report

    cli, _ = _setup("validate", args)
    _warm(cli)
    cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    cli.datamodule.reward.close()
    for name, value in cli.model.judges["tuned"].summary().items():
        _say(cli, f"{name.replace('_', ' '):<20} {report.number(value)}")


def _test(args: list[str]) -> None:
    from graft import commands, report

    cli, _ = _setup("test", args)
    _warm(cli)
    commands.compare(cli.model, cli.datamodule, cli.trainer)
    sides = {name: judge.summary() for name, judge in cli.model.judges.items()}
    _say(cli, f"{'':<20} {'reference':>12} {'tuned':>12}")
    for name in sides["tuned"]:
        values = "".join(f" {report.number(sides[side][name]):>12}" for side in ("reference", "tuned"))
        _say(cli, f"{name.replace('_', ' '):<20}{values}")


def _predict(args: list[str]) -> None:
    from graft import commands, files

    cli, config = _setup("predict", args)
    _warm(cli)
    folder, _ = _folder(cli, f"{_name(args)}_predict", config)
    drawn = commands.sample(cli.model, cli.trainer, cli.datamodule.test_draws, "predict")
    items = [item for part, _ in drawn for item in part]
    path = folder / f"samples{cli.model.suffix}"
    if cli.trainer.is_global_zero:
        files.written(path, lambda temporary: cli.model.write(items, temporary))
    _say(cli, f"{len(items)} objects in {path}")


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "fit": _fit,
    "pretrain": _pretrain,
    "correct": _correct,
    "levels": _levels,
    "compare": _compare,
    "sample": _sample,
    "hits": _hits,
    "evaluate": _evaluate,
    "validate": _validate,
    "test": _test,
    "predict": _predict,
}
