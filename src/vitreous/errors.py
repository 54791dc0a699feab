"""Everything that can go wrong and is the user's to mend, as one tree.

    VitreousError           1
      UsageError            2   wrong option, unknown model, settings that contradict each other
      RunBusy               3   another process works in this run folder
      TrainingDiverged      4   the loss stopped being a number
      NoSpace               5   the disk is full
      DamagedFile           6   a saved file is not what was saved
      BadData               7   the pictures cannot be used
        UnreadableImage     7   one picture cannot be decoded
      Unreachable           8   no network, or the server at its other end failed
      UnusableWeights           weights that do not go into a network; one of these two
        Unfit               2   they are sound, and of something else: a UsageError too
        DamagedWeights      6   they are cut short, broken or not to be trusted: a DamagedFile too

Each message is one sentence that ends with the remedy; the number is the command line's exit code.
Errors that are not in this tree are our own mistakes and keep their traceback.
"""

from __future__ import annotations

from collections.abc import Iterable


class VitreousError(Exception):
    """Base of every error a user can act on."""

    exit_code = 1


class UsageError(VitreousError):
    """The call itself is wrong: an unknown name, a bad value, options that contradict each other."""

    exit_code = 2


class RunBusy(VitreousError):
    """Another process holds the run folder."""

    exit_code = 3


class TrainingDiverged(VitreousError):
    """The loss or the gradients stopped being finite and restoring did not help."""

    exit_code = 4


class NoSpace(VitreousError):
    """A file could not be written because the disk, or the quota, is full."""

    exit_code = 5


class DamagedFile(VitreousError):
    """A file we wrote does not have the contents we wrote."""

    exit_code = 6


class BadData(VitreousError):
    """The data set is missing, empty, contradictory, or too much of it is unreadable."""

    exit_code = 7


class UnreadableImage(BadData):
    """One picture cannot be decoded; the message is the reason, without the path."""


class Unreachable(VitreousError):
    """Something had to be fetched and could not be: no network, or the server at its other end failed."""

    exit_code = 8


class UnusableWeights(VitreousError):
    """Weights that a network cannot take; nothing of them was executed or loaded.

    Attributes:
        keys: of every tensor that is missing (our name), too many, broken or of another kind (the file's); the message
            names a few.
    """

    def __init__(self, message: str, keys: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.keys = tuple(keys)


class Unfit(UnusableWeights, UsageError):
    """Sound weights of something else than this network."""


class DamagedWeights(UnusableWeights, DamagedFile):
    """Weights that are cut short or broken, or a file that holds more than tensors and is not trusted."""
