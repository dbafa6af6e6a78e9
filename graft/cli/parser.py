"""Parse and build a configuration and its flags: Lightning's command line with graft's settings."""

import inspect
import itertools
import re
from typing import Any

from jsonargparse import ArgumentError
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from typing_extensions import override

from graft.cli.configs import list_configs, resolve_config_paths
from graft.cli.flags import SettingsParser
from graft.cli.seed import choose_seed
from graft.cli.suggestions import explain_unknown_setting
from graft.cli.warning_filters import install_warning_filters
from graft.commands import TRAINER_DEFAULTS, saves
from graft.commands.correct import InvertedNoiseData
from graft.core.progress import disable_bar_in_log_files
from graft.errors import GraftError
from graft.io import yaml_files
from graft.module import GraftModule
from graft.pretrained.given import GivenModel, given_model
from graft.pretrained.model import model_below
from graft.pretrained.parsing import read_config, shorten_parser_error
from graft.reward import bind
from graft.rollouts import Rollouts
from graft.runs.architecture import missing_network

yaml_files.check_yaml_in_parser()  # before any parser reads a configuration or a value


def parse_and_build(command: str, args: "list[str] | dict[str, Any]") -> "tuple[Any, str]":
    """Return (command, configuration as YAML); the command is the result of `make_cli`."""
    install_warning_filters()  # again, because the import of Lightning sets levels
    if isinstance(args, list) and {"-h", "--help"} & set(args):
        _help(command, args)
        raise SystemExit(0)
    cli = make_cli(command, args)
    config = cli.config.clone()
    for name in ("ckpt_path", "run_dir"):  # a record of the settings, not of the place or the resumes
        if name in config:
            config[name] = None
    return cli, cli.parser.dump(config, skip_none=False, skip_check=True)  # the parser has checked the settings


def make_cli(command: str, args: "list[str] | dict[str, Any]") -> Any:
    """Return the parsed and built command: ``.model``, ``.datamodule``, ``.trainer``, ``.config``.

    Args:
        command: Name of the command.
        args: Arguments of the command line, or a configuration.

    Raises:
        GraftError: A setting is missing, unknown or out of range.
    """
    data = {"pretrain": LightningDataModule, "sample": None, "correct": InvertedNoiseData}.get(command, Rollouts)
    reloads = data in (Rollouts, InvertedNoiseData)

    class CLI(LightningCLI):
        """Lightning's command line with graft's settings; a run's folder is chosen before anything is built."""

        @override
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.add_argument("--run_dir", type=str | None, help="Folder of the run; runs/NAME/N if null.")
            parser.add_argument(
                "--ckpt_path",
                type=str | None,
                help="Resume an interrupted run: a checkpoint, 'last', or 'auto', the last if any.",
            )
            parser.add_argument(
                "--weights",
                type=str | None,
                help="Start from the tuned weights of a run: its folder or its weights file.",
            )
            parser.link_arguments("seed_everything", "model.init_args.seed", compute_fn=int)
            if reloads:
                parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

        @override
        def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
            try:
                super().parse_arguments(parser, args if below is None else [f"--config={below}", *args])
            except ArgumentError as error:
                if (sentence := explain_unknown_setting(shorten_parser_error(str(error)), parser)) is None:
                    raise
                raise GraftError(sentence) from error
            self.drawn_seed = choose_seed(self.config, args)

        @override
        def instantiate_trainer(self, **kwargs: Any) -> Any:
            if saves((self.config_init.get("trainer") or {}).get("callbacks")):
                kwargs["enable_checkpointing"] = True
            trainer: Trainer = super().instantiate_trainer(**kwargs)
            disable_bar_in_log_files(trainer)
            return trainer

        @override
        def before_instantiate_classes(self) -> None:
            if data is Rollouts:  # the parser accepts null for every setting
                _no_nulls("data", Rollouts, vars(self.config.data))

    flags = [arg.partition("=")[0] for arg in args]
    if isinstance(args, list) and not any(f in ("--config", "-c", "-h") or f.endswith("help") for f in flags):
        raise GraftError(f"give a configuration: graft {command} --config NAME; there are {', '.join(list_configs())}")
    given, below = GivenModel(), None
    if isinstance(args, list):
        args = resolve_config_paths(command, args)
        trust = command != "pretrain" and "--trust" in args
        args = [arg for arg in args if not trust or arg != "--trust"]
        given = given_model(args)
        if command != "pretrain" or given.weights is None:
            below = model_below(given, trust)
            if below is None and given.class_path is None and given.weights is not None:
                raise missing_network(given.weights)
    try:
        built = CLI(
            GraftModule,
            data,
            subclass_mode_model=True,
            subclass_mode_data=data is LightningDataModule,
            save_config_callback=None,
            trainer_defaults={**TRAINER_DEFAULTS, "reload_dataloaders_every_n_epochs": int(reloads)},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={
                "prog": f"graft {command}",
                "description": "A config's settings, each of which is also a flag.",
                "exit_on_error": False,
            },
            parser_class=SettingsParser,
            args=args,
            run=False,
        )
        for name in ("reward", "proxy_reward", "held_out_reward"):  # commands may call them without a trainer
            bind(getattr(built.datamodule, name, None), built.model)
        return built
    except ArgumentError as error:
        if re.search(r"arguments are required: .*\b(backbone|process)\b", str(error)):
            raise missing_network(given.weights) from error
        raise
    except ModuleNotFoundError as error:  # an optional library, such as TensorBoard
        raise GraftError(f"the configuration needs a package that is not installed ({error}): install it") from error
    except (ValueError, TypeError, OverflowError, ImportError) as error:  # raised by a constructor
        raise GraftError(shorten_parser_error(str(error))) from error


def _no_nulls(place: str, kind: type, given: dict[str, Any]) -> None:
    """Raise GraftError for a null where the class has another default and takes no null."""
    for name, parameter in inspect.signature(kind).parameters.items():
        allowed = parameter.default is None or "None" in str(parameter.annotation)
        if name in given and given[name] is None and not allowed:
            raise GraftError(f"{place}.{name} is null, but it needs a value, such as {parameter.default!r}")


def _help(command: str, args: list[str]) -> None:
    """Print every setting: the command's own, then those of the classes that the configuration names."""
    found = resolve_config_paths(command, [arg for arg in args if arg not in ("-h", "--help")])
    paths = [value for flag, value in itertools.pairwise(found) if flag in ("--config", "-c")]
    paths += [arg.partition("=")[2] for arg in found if arg.startswith(("--config=", "-c="))]
    classes: dict[str, str] = {}
    for path in paths:
        config = read_config(path)
        places = {"model": config.get("model"), "data": config.get("data")}
        places |= {f"data.{key}": value for key, value in (config.get("data") or {}).items()}
        for place, value in places.items():
            if isinstance(value, dict) and "class_path" in value:
                classes[place] = value["class_path"]
    # the settings of the level search have a help of their own
    levels = [] if command in ("pretrain", "correct") else [["--data.level_search.help"]]
    for extra in [["--help"], *([f"--{place}.help={name}"] for place, name in classes.items()), *levels]:
        try:
            make_cli(command, extra)
        except SystemExit:
            pass
