"""Parsers that take the whole name of a flag, and explain a flag that they do not know."""

from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser
from typing_extensions import override

from graft.cli.suggestions import explain_unknown_setting
from graft.errors import GraftError
from graft.pretrained.parsing import shorten_parser_error


class SettingsParser(LightningArgumentParser):
    """Parser of settings; the parsers of nested classes are of the same class, so they take no abbreviations either."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})


class CommandParser(ArgumentParser):
    """Parser of the flags of a command."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "exit_on_error": False, **kwargs})

    @override
    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().parse_args(*args, **kwargs)
        except ArgumentError as error:
            if (sentence := explain_unknown_setting(shorten_parser_error(str(error)), self)) is None:
                raise
            raise GraftError(sentence) from error
