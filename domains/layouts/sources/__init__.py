"""Layouts from files, one reader for each format, and pages that are made here."""

from domains.layouts.sources.collection import Collection, Element, collect, describe_invalid
from domains.layouts.sources.read import read

__all__ = ["Collection", "Element", "collect", "describe_invalid", "read"]
