"""Matching of the tensors of a state dict with a network, where names differ by a prefix.

A wrapper puts a prefix before its network's names (``net.``), and so do a LightningModule (``model.``),
`torch.nn.parallel.DistributedDataParallel` (``module.``) and the dictionaries of training scripts. `torch.compile` puts
``_orig_mod.`` anywhere in a name.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from graft.core.distributed import rank_zero_print
from graft.errors import GraftError

SHOWN = 3
"""Number of names in a message."""

COMPILED = "_orig_mod"
"""Part that torch.compile puts into names."""


@dataclass(frozen=True)
class _Side:
    """The tensors of the file or of the network.

    Attributes:
        tensors: Tensors by name.
        names: Names in ``tensors`` by the names without torch.compile's part.
    """

    tensors: Mapping[str, Tensor]
    names: dict[str, str]

    def shape(self, name: str) -> "torch.Size | None":
        """Return the shape of the tensor of a plain name; None if there is none."""
        return self.tensors[self.names[name]].shape if name in self.names else None

    def listed(self) -> str:
        """Return the first names with their shapes, for messages."""
        return _listed(self.names.values(), self.tensors)


@dataclass(frozen=True)
class _Rewriting:
    """A replacement of the prefix ``old`` by ``new``; other names of the file are not used.

    Attributes:
        old: Prefix in the file.
        new: Prefix in the network.
        names: Names of the file by names of the network.
    """

    old: str
    new: str
    names: dict[str, str]


def match_names(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], prefix: "str | None", source: object, network: str
) -> dict[str, Tensor]:
    """Return the tensors of a state dict under the names that a network has for them.

    Without ``prefix`` the names must fit as they are, or after the replacement of one prefix by another in all of them,
    with no tensor unused on either side. With ``prefix``, the tensors below it are the network's, and the number of the
    other tensors is printed.

    Args:
        found: State dict, of any source.
        wanted: Parameters and buffers of the network; several names of one tensor count as one.
        prefix: Prefix of the names in the state dict to be used, such as ``model.``; None to find it.
        source: Origin of the state dict, for messages.
        network: Name of the network, for messages.

    Raises:
        GraftError: The tensors do not fit, or only a part of the state dict fits and ``prefix`` is None.
    """
    theirs, ours = _Side(found, _plain(found)), _Side(wanted, _plain(wanted))
    needed = _one_each(ours)
    if prefix is not None:
        start, given = f"{prefix}." if prefix and not prefix.endswith(".") else prefix, theirs.names
        chosen = {name: each for name, each in given.items() if name.startswith(start)}
        if not chosen:
            raise GraftError(
                f"`model.weights_prefix` is {prefix!r}; the names in {source} begin with "
                f"{_listed(_first(given), found)}, and it must be one of these. Change it"
            )
        if left := len(given) - len(chosen):
            rest = _listed([given[name] for name in given if name not in chosen], found)
            rank_zero_print(f"{source}: {len(chosen)} tensors below {start} are loaded, {left} others are not: {rest}")
        theirs = _Side(found, {name.removeprefix(start): each for name, each in chosen.items()})
    count = len(theirs.names)
    fitting = [
        each
        for each in _rewritings(theirs.names, ours.names, needed)
        if all(theirs.shape(there) == ours.shape(name) for name, there in each.names.items())
    ]
    for each in fitting:
        if len(each.names) == count:  # at most one replacement uses all names
            return {ours.names[name]: found[theirs.names[there]] for name, there in each.names.items()}
    if prefix is None:
        ways = [f"{each.old or '(none)'}, which leaves out {count - len(each.names)}" for each in fitting]
        if ways:
            raise GraftError(
                f"{source} has more tensors than the network {network}: {count}, of which {len(needed)} fit "
                f"({theirs.listed()}); the network's are {ours.listed()}. Choose a "
                f"prefix with model.weights_prefix: {'; '.join(ways[:SHOWN])}"
            )
    raise GraftError(_explained(theirs, ours, source, network))


def shape(size: "torch.Size | None") -> str:
    """Return a shape as text, for messages; "absent" for None."""
    return "absent" if size is None else "x".join(map(str, size)) or "a number"


def _plain(names: Iterable[str]) -> dict[str, str]:
    """Return names by the names without torch.compile's part; unchanged if two become equal."""
    names = list(names)
    plain = {".".join(part for part in name.split(".") if part != COMPILED): name for name in names}
    return plain if len(plain) == len(names) else {name: name for name in names}


def _one_each(ours: _Side) -> list[set[str]]:
    """Return the set of names of each tensor of the network; one of them is enough."""
    same: dict[object, set[str]] = {}
    for name, original in ours.names.items():
        tensor = ours.tensors[original]
        try:
            place = tensor.data_ptr()
        except RuntimeError:  # a sharded tensor has no address
            place = 0
        alone = not place or not tensor.numel()
        same.setdefault(name if alone else (place, tuple(tensor.shape), tensor.stride()), set()).add(name)
    return list(same.values())


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return ["", *(".".join(parts[:i]) + "." for i in range(1, len(parts)))]


def _rewritings(given: Collection[str], ours: Collection[str], needed: list[set[str]]) -> list[_Rewriting]:
    """Return every rewriting that gives each tensor of the network a name of the file, once."""
    counts = Counter(prefix for name in given for prefix in _prefixes(name))
    common = [prefix for prefix, count in Counter(p for name in ours for p in _prefixes(name)).items()
              if count == len(ours)]  # fmt: skip
    known, out = set(ours), list[_Rewriting]()
    for old, count in counts.items():
        if not len(needed) <= count <= len(ours):
            continue
        rest = [name for name in given if name.startswith(old)]
        for new in common:
            names = {new + name.removeprefix(old): name for name in rest}
            if names.keys() <= known and all(each & names.keys() for each in needed):
                if not any(each.names == names for each in out):
                    out.append(_Rewriting(old, new, names))
    return out


def _explained(theirs: _Side, ours: _Side, source: object, network: str) -> str:
    """Return a message about both sides, after the prefix replacement with the best fit."""
    olds, news = (
        [prefix for prefix, _ in Counter(p for name in side.names for p in _prefixes(name)).most_common(20)]
        for side in (theirs, ours)
    )

    def hits(old: str, new: str) -> int:
        return sum(name.startswith(old) and new + name.removeprefix(old) in ours.names for name in theirs.names)

    old, new = max(((a, b) for a in olds for b in news), key=lambda pair: hits(*pair), default=("", ""))
    names = {new + n.removeprefix(old) if n.startswith(old) else n: each for n, each in theirs.names.items()}
    moved = _Side(theirs.tensors, names)
    every = sorted(ours.names.keys() | names.keys())
    unlike = [name for name in every if moved.shape(name) != ours.shape(name)]
    differ = [
        f"{name} is {shape(moved.shape(name))} there and {shape(ours.shape(name))} in {network}" for name in unlike
    ]
    same = len(every) - len(differ)
    changed = f" once {old or 'nothing'} is replaced by {new or 'nothing'}" if old != new else ""
    more = f"; and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
    return (
        f"{source} does not fit the network {network}: it has {len(theirs.names)} tensors ({theirs.listed()}), "
        f"the network has {len(ours.names)} ({ours.listed()}), and {same} are the same{changed}: "
        f"{'; '.join(differ[:SHOWN])}{more}. Give the weights of this network; if their names have a prefix in the "
        "file, set model.weights_prefix"
    )


def _first(names: Iterable[str]) -> list[str]:
    """Return the first parts of names."""
    return list(dict.fromkeys(f"{name.split('.')[0]}." if "." in name else name for name in names))


def _listed(names: Iterable[str], tensors: Mapping[str, Tensor]) -> str:
    names = list(names)
    some = [f"{name} {shape(tensors[name].shape)}" if name in tensors else name for name in names[:SHOWN]]
    return ", ".join(some) + (", …" if len(names) > SHOWN else "")
