"""A file for each command; ``run(args)`` takes the arguments after the command's name."""
