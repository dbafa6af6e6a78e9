"""A file for each command, whose ``run(args)`` is called with the arguments after its name."""
