"""Errors that are the user's to mend: one clear sentence, exit status 2."""


class GraftError(Exception):
    """Something the user can put right; the message is one sentence that says what is wrong and what to do.

    The command line prints the message alone and exits with status 2 (the traceback with ``GRAFT_TRACEBACK=1``).
    """


class WriteError(GraftError):
    """A file could not be written: the disk is full or the folder is closed. The run goes on once that is mended."""
