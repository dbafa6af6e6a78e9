"""Copy decoded objects, so that edits in place by one caller do not reach another."""

import copy
import pickle
import sys
from collections.abc import Iterable
from typing import Any

from torch import Tensor

_SHARED: set[type] = set()  # types with a printed message that they cannot be copied


def copied(item: Any) -> Any:
    """Return a copy of an object that shares no mutable part with the original.

    The copy is made by ``copy.deepcopy``, which a class can define with ``__deepcopy__``. PIL images and tensors are
    copied in a faster way. If Python cannot copy an object whole, each attribute is copied separately. An object that
    cannot be copied at all is returned itself, with one printed message per type.
    """
    return _copied(item, {})


def copies(items: Iterable[Any]) -> list[Any]:
    """Return a copy of each object; an object that occurs twice gives two copies."""
    return [copied(item) for item in items]


def _copied(item: Any, known: dict[int, Any]) -> Any:
    """Return a copy of an object.

    Args:
        item: The object.
        known: Copies by the ``id`` of the original, since objects that are copied by parts may refer to each other.
    """
    kind = type(item)
    if kind in (str, int, float, bool, bytes, type(None)):
        return item
    if id(item) in known:
        return known[id(item)]
    try:
        if isinstance(item, Tensor):
            return item.detach().clone()
        pil = sys.modules.get("PIL.Image")
        if pil is not None and kind is pil.Image:
            return _image(item)
        return copy.deepcopy(item)
    except Exception:  # the object may hold a lock, an open file or a tensor with a gradient
        return _in_parts(item, known)


def _image(image: Any) -> Any:
    """Return a copy of a PIL image with its ``info`` and further attributes."""
    out = image.copy()
    out.info = copy.deepcopy(image.info)
    for name, value in vars(image).items():
        if name not in vars(out):
            setattr(out, name, copied(value))
    return out


def _in_parts(item: Any, known: dict[int, Any]) -> Any:
    """Return a copy by parts of an object that ``copy.deepcopy`` cannot copy."""
    if isinstance(item, list):
        found: list[Any] = []
        known[id(item)] = found
        found += [_copied(each, known) for each in item]
        return found
    if isinstance(item, tuple) and type(item) is tuple:
        return tuple(_copied(each, known) for each in item)
    if type(item) is dict:
        filled: dict[Any, Any] = {}
        known[id(item)] = filled
        filled.update({key: _copied(value, known) for key, value in item.items()})
        return filled
    attributes = getattr(item, "__dict__", None)
    if attributes and not isinstance(item, type):
        try:
            out = copy.copy(item)
            if out is not item:
                known[id(item)] = out
                out.__dict__.update({name: _copied(value, known) for name, value in attributes.items()})
                return out
        except Exception:  # a class without a shallow copy
            known.pop(id(item), None)
    try:
        return pickle.loads(pickle.dumps(item))
    except Exception:
        pass
    if type(item) not in _SHARED:
        _SHARED.add(type(item))
        from graft.core.distributed import rank_zero_print  # imported here, because Lightning takes seconds to import

        rank_zero_print(
            f"objects of the type {type(item).__qualname__} cannot be copied: a reward that edits one in place changes "
            "the sample; give the class a __deepcopy__"
        )
    return item
