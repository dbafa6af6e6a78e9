"""Layouts: unordered sets of elements, each a class and a box on a page."""

from domains.layouts.module import Layouts

__all__ = ["Layouts"]
