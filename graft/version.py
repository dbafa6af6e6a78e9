"""The version of graft."""

__version__ = "0.1.0"
