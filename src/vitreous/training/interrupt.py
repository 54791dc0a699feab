"""Stopping between two steps when asked to: a signal sets a flag and nothing else."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from vitreous.errors import VitreousError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(VitreousError):
    """Training was asked to stop, and everything is saved. ``exit_code`` is 128 + the signal: 143 or 130."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal.Signals(number)
        self.exit_code = 128 + number


class StopSwitch:
    """Inside the context, the first SIGTERM or SIGINT is remembered in ``number``; a second one acts at once.

    Handlers can be set in the main thread alone; elsewhere the switch is never thrown.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSwitch:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for each in _SIGNALS:  # even inside a long kernel the second one ends the process; checkpoints are atomic
            signal.signal(each, signal.SIG_DFL)
