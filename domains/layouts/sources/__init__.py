"""Layouts from files, one reader for each format, and pages that are made here."""

from domains.layouts.sources.pages import Element, Pages, collect
from domains.layouts.sources.read import read

__all__ = ["Element", "Pages", "collect", "read"]
