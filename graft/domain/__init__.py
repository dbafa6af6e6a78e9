"""Domain: what graft has to know about a kind of object, and helpers for its implementation."""

from graft.domain.domain import Domain

__all__ = ["Domain"]
