"""The one error a user's own input can cause."""


class InputError(ValueError):
    """Bad input: the message names what is wrong, where, and what to do (exit code 2 on the command line)."""
