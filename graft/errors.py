"""Errors that the user can correct: one clear sentence, exit status 2."""


class GraftError(Exception):
    """An error that the user can correct; the message states what is wrong and what to do.

    The command line prints the message alone and exits with status 2 (the traceback with ``GRAFT_TRACEBACK=1``).
    """


class WriteError(GraftError):
    """A file could not be written: the disk is full or the folder is read-only.

    The run can be resumed once the user has corrected that.
    """


class InversionError(GraftError):
    """A step has no inverse, or its inverse was not found."""
