"""Errors that a user can cause and correct."""


class ContinuadError(Exception):
    """Wrong data, option or file. The message names it and says what to do; the CLI prints it bare."""


class Diverged(ContinuadError):
    """Learning broke down: a loss or weight is no longer a finite number."""
