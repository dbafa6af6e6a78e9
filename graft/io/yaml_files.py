"""Read YAML as plain data, with limits on size and nesting, and without duplicate keys.

PyYAML keeps the last of two equal keys, and a few nested anchors expand to more values than a machine can hold
("billion laughs"). `check_yaml` rejects both before a value is built. `check_yaml_in_parser` adds the same check to
jsonargparse, the parser of the command line, so that configurations, overlays and inline values follow one rule.
"""

import ast
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from graft.errors import GraftError

MOST_CHARACTERS = 1 << 20
MOST_VALUES = 100_000  # every alias counts with all its values
MOST_ALIASES = 1_000
DEEPEST = 64
LONGEST_NUMBER = 1_000  # digits; Python reads long numbers in quadratic time

NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")

MERGE = "tag:yaml.org,2002:merge"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader of PyYAML."""


def parse_yaml(text: str, where: str) -> Any:
    """Return the value of a YAML document.

    Args:
        text: The document.
        where: Name of the document for messages, such as the path of a file.

    Raises:
        GraftError: The text is not YAML, repeats a key, or exceeds a limit of this module.
    """
    try:
        check_yaml(text, where)
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise GraftError(f"{where} is not YAML: {error}") from None


def read_yaml(path: Path) -> Any:
    """Return the value of a YAML file in UTF-8.

    Raises:
        GraftError: The file cannot be read, is not YAML, repeats a key, or exceeds a limit of this module.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(4 * MOST_CHARACTERS + 1)  # UTF-8 has at most 4 bytes per character
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise GraftError(f"{path} is not a YAML file: {error}") from None
    return parse_yaml(text, str(path))


def check_yaml(text: str, where: str) -> None:
    """Raise GraftError if a YAML document repeats a key or exceeds a limit of this module.

    Args:
        text: The document.
        where: Name of the document for messages.
    """
    if len(text) > MOST_CHARACTERS:
        raise GraftError(f"{where} has {len(text):,} characters; YAML may have {MOST_CHARACTERS:,}: split it")
    _check_events(text, where)
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is not None:
            _Walk(loader, where).size(root, "")
    except (ValueError, TypeError) as error:  # a key such as the date 2001-99-99
        raise yaml.YAMLError(str(error)) from None
    finally:
        loader.dispose()


def holds_collection(text: str) -> bool:
    """Return True if a text is YAML with a list, a mapping or an alias."""
    try:
        return any(isinstance(e, yaml.CollectionStartEvent | yaml.AliasEvent) for e in yaml.parse(text, _Loader))
    except yaml.YAMLError:
        return False


def _check_events(text: str, where: str) -> None:
    """Raise GraftError for too much nesting or too many aliases, without recursion."""
    depth = aliases = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise GraftError(f"{where} nests {depth} levels deep in line {_line(event)}; the limit is {DEEPEST}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
            if aliases > MOST_ALIASES:
                raise GraftError(f"{where} has more than {MOST_ALIASES:,} aliases: write the values out")


class _Walk:
    """A walk over the nodes of a document that visits each node once."""

    def __init__(self, loader: Any, where: str) -> None:
        self._loader, self._where = loader, where
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def size(self, node: Any, path: str) -> int:
        """Return the number of values of a node with all aliases expanded."""
        known = self._sizes.get(id(node))
        if known is not None:
            return known
        if id(node) in self._open:
            raise GraftError(f"{self._where} has an anchor that contains itself in line {_line(node)}: write it out")
        self._open.add(id(node))
        total = 1
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                total += self.size(key, path) + self.size(value, _join(path, key.value))
            self._check_keys(node, path)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(self.size(item, _join(path, number)) for number, item in enumerate(node.value))
        elif node.tag in NUMBERS and len(node.value) > LONGEST_NUMBER:
            raise GraftError(f"{self._where} has a number of {len(node.value):,} characters in line {_line(node)}")
        self._open.discard(id(node))
        self._sizes[id(node)] = total
        if total > MOST_VALUES:
            raise GraftError(
                f"{self._where} stands for more than {MOST_VALUES:,} values with its aliases replaced: write it "
                "without nested anchors"
            )
        return total

    def _check_keys(self, node: Any, path: str) -> None:
        """Raise GraftError for a key that occurs twice, nested or written with dots."""
        seen: dict[Any, Any] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # the loader rejects such a key later
            value = MERGE if key.tag == MERGE else self._loader.construct_object(key)
            if value in seen:
                raise self._twice(_join(path, key.value), seen[value], key)
            seen[value] = key
        if not any(isinstance(key, str) and "." in key for key in seen):
            return
        ends: dict[str, Any] = {}
        above: dict[str, Any] = {}
        for name, key in _ends(node):
            parts = name.split(".")
            parents = [".".join(parts[:count]) for count in range(1, len(parts))]
            for other, found in ((name, ends), (name, above), *((parent, ends) for parent in parents)):
                if other in found:
                    raise self._twice(_join(path, other), found[other], key)
            ends[name] = key
            above |= dict.fromkeys(parents, key)

    def _twice(self, name: str, first: Any, second: Any) -> GraftError:
        lines = sorted({_line(first), _line(second)})
        where = f"lines {lines[0]} and {lines[1]}" if len(lines) == 2 else f"line {lines[0]}"
        return GraftError(f"{self._where} has the key {name} twice, in {where}: keep one")


def _ends(node: Any, prefix: str = "") -> "Iterator[tuple[str, Any]]":
    """Yield (dotted name, key node) of the innermost values of nested mappings."""
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
            name = f"{prefix}{key.value}"
            if isinstance(value, yaml.MappingNode) and value.value:
                yield from _ends(value, f"{name}.")
            else:
                yield name, key


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def check_yaml_in_parser() -> None:
    """Make jsonargparse call `check_yaml` on YAML before it builds values."""
    import jsonargparse  # imported here, because readers of files need no command line

    inner = jsonargparse.get_loader("yaml")
    if getattr(inner, "checks", False):
        return

    def checked(stream: str) -> Any:
        check_yaml(stream, "a setting or configuration")
        if "None" in stream:  # jsonargparse passes a nested setting as the text of a Python value
            with contextlib.suppress(ValueError, SyntaxError):
                return ast.literal_eval(stream)
        return inner(stream)

    checked.checks = True  # type: ignore[attr-defined]
    jsonargparse.set_loader("yaml", checked, exceptions=(yaml.YAMLError,))
