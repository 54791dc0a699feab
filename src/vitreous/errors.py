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

Each message is one sentence that ends with the remedy; the number is the command line's exit code.
Errors that are not in this tree are our own mistakes and keep their traceback.
"""

from __future__ import annotations


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
