"""Errors meant for the person at the keyboard.

Each message is one paragraph: what is wrong, where (file, line, record), and the cure. The
command-line entry points print only the message and exit with code 2; a library caller sees an
ordinary exception.
"""


class LCFrameworkError(Exception):
    """Base of all errors that a user can mend without reading our code."""


class DataError(LCFrameworkError):
    """An input file is missing, malformed or not what it claims to be."""


class StoreError(DataError):
    """A token store on disk is incomplete, damaged or was built with other settings."""


class DownloadError(LCFrameworkError):
    """A declared source could not be fetched or did not match its checksum."""


class ConfigError(LCFrameworkError):
    """A configuration names something unknown, forbidden or contradictory."""


class CheckpointError(LCFrameworkError):
    """A checkpoint is damaged, missing or belongs to another model."""


class RunDirError(LCFrameworkError):
    """A run directory is in use by another process or belongs to another configuration."""


class NonFiniteLossError(LCFrameworkError):
    """The training loss became NaN or infinite."""


class RunInterrupted(LCFrameworkError):
    """A signal stopped the training, and its state was saved.

    Attributes:
        signum: the signal's number.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum


class CircuitError(LCFrameworkError):
    """A circuit cannot be built, or a model's computation cannot be bounded, as asked."""
