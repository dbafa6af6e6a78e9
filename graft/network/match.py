"""Matching of the tensors of a state dict with a network, where names differ by a prefix.

A wrapper puts a prefix before its network's names (``net.``), and so do a LightningModule (``model.``),
`torch.nn.parallel.DistributedDataParallel` (``module.``) and the dictionaries of training scripts. `torch.compile` puts
``_orig_mod.`` anywhere in a name.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from graft.core.distributed import rank_zero_print
from graft.errors import GraftError

SHOWN = 3
"""Number of names in a message."""

COMPILED = "_orig_mod"
"""Part that torch.compile puts into names."""


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


def matched(
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
    given, ours = _plain(found), _plain(wanted)
    needed = _one_each(wanted, ours)
    if prefix is not None:
        start = f"{prefix}." if prefix and not prefix.endswith(".") else prefix
        chosen = {name: each for name, each in given.items() if name.startswith(start)}
        if not chosen:
            raise GraftError(
                f"`model.weights_prefix` is {prefix!r}; the names in {source} begin with "
                f"{_listed(_first(given), found)}, and it must be one of these. Change it"
            )
        if left := len(given) - len(chosen):
            rest = _listed([given[name] for name in given if name not in chosen], found)
            rank_zero_print(f"{source}: {len(chosen)} tensors below {start} are loaded, {left} others are not: {rest}")
        given = {name.removeprefix(start): each for name, each in chosen.items()}
    fitting = [each for each in _rewritings(given, ours, needed) if _same_shapes(each, found, given, wanted, ours)]
    for each in fitting:
        if len(each.names) == len(given):  # at most one replacement uses all names
            return {ours[name]: found[given[theirs]] for name, theirs in each.names.items()}
    if prefix is None:
        ways = [f"{each.old or '(none)'}, which leaves out {len(given) - len(each.names)}" for each in fitting]
        if ways:
            raise GraftError(
                f"{source} has more tensors than the network {network}: {len(given)}, of which {len(needed)} fit "
                f"({_listed(given.values(), found)}); the network's are {_listed(ours.values(), wanted)}. Choose a "
                f"prefix with model.weights_prefix: {'; '.join(ways[:SHOWN])}"
            )
    raise GraftError(_explained(found, given, wanted, ours, source, network))


def shape(tensor: "Tensor | None") -> str:
    """Return a shape as text, for messages."""
    return "absent" if tensor is None else "x".join(map(str, tensor.shape)) or "a number"


def _plain(names: Iterable[str]) -> dict[str, str]:
    """Return names by the names without torch.compile's part; unchanged if two become equal."""
    names = list(names)
    plain = {".".join(part for part in name.split(".") if part != COMPILED): name for name in names}
    return plain if len(plain) == len(names) else {name: name for name in names}


def _one_each(wanted: Mapping[str, Tensor], ours: Mapping[str, str]) -> list[set[str]]:
    """Return the set of names of each tensor of the network; one of them is enough."""
    same: dict[object, set[str]] = {}
    for name, original in ours.items():
        tensor = wanted[original]
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


def _same_shapes(
    each: _Rewriting,
    found: Mapping[str, Tensor],
    given: Mapping[str, str],
    wanted: Mapping[str, Tensor],
    ours: Mapping[str, str],
) -> bool:
    return all(found[given[theirs]].shape == wanted[ours[name]].shape for name, theirs in each.names.items())


def _explained(
    found: Mapping[str, Tensor],
    given: Mapping[str, str],
    wanted: Mapping[str, Tensor],
    ours: Mapping[str, str],
    source: object,
    network: str,
) -> str:
    """Return a message about both sides, after the prefix replacement with the best fit."""
    olds = [prefix for prefix, _ in Counter(p for name in given for p in _prefixes(name)).most_common(20)]
    news = [prefix for prefix, _ in Counter(p for name in ours for p in _prefixes(name)).most_common(20)]
    known = set(ours)

    def hits(old: str, new: str) -> int:
        return sum(name.startswith(old) and new + name.removeprefix(old) in known for name in given)

    old, new = max(((a, b) for a in olds for b in news), key=lambda pair: hits(*pair), default=("", ""))
    theirs = {new + n.removeprefix(old) if n.startswith(old) else n: given[n] for n in given}
    differ = []
    for name in sorted(known | theirs.keys()):
        there = found[theirs[name]] if name in theirs else None
        here = wanted[ours[name]] if name in ours else None
        if shape(there) != shape(here):
            differ.append(f"{name} is {shape(there)} there and {shape(here)} in {network}")
    same = len(known | theirs.keys()) - len(differ)
    changed = f" once {old or 'nothing'} is replaced by {new or 'nothing'}" if old != new else ""
    more = f"; and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
    return (
        f"{source} does not fit the network {network}: it has {len(given)} tensors ({_listed(given.values(), found)}), "
        f"the network has {len(ours)} ({_listed(ours.values(), wanted)}), and {same} are the same{changed}: "
        f"{'; '.join(differ[:SHOWN])}{more}. Give the weights of this network; if their names have a prefix in the "
        "file, set model.weights_prefix"
    )


def _first(names: Iterable[str]) -> list[str]:
    """Return the first parts of names."""
    return list(dict.fromkeys(f"{name.split('.')[0]}." if "." in name else name for name in names))


def _listed(names: Iterable[str], tensors: Mapping[str, Tensor]) -> str:
    names = list(names)
    some = [f"{name} {shape(tensors[name])}" if name in tensors else name for name in names[:SHOWN]]
    return ", ".join(some) + (", …" if len(names) > SHOWN else "")
