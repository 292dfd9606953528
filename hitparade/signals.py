"""Ctrl-C and SIGTERM: what is in hand is finished first; at a second Ctrl-C, nothing more is."""

import signal
import threading
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
"""The exit code that shells give to what Ctrl-C has ended."""
_interrupted = threading.Event()


class Stop(threading.Event):
    """Whether to end. Nothing is in hand while nobody has asked that yet."""

    is_asked = False

    def is_set(self) -> bool:
        """Whether it has come."""
        self.is_asked = True
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it; whether it has come."""
        self.is_asked = True
        return super().wait(timeout)


def stop_on_signals() -> Stop:
    """An event that SIGTERM and Ctrl-C set: finish what is in hand, then end.

    A second Ctrl-C interrupts, as does the first one while there is nothing in hand: nobody waits for a server then.
    """
    stop = Stop()

    def told(number: int, frame: FrameType | None) -> None:
        has_work = stop.is_asked
        stop.set()
        if number == signal.SIGINT:
            _interrupted.set()
            signal.signal(number, signal.default_int_handler)
            if not has_work:
                raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    return stop


def was_interrupted() -> bool:
    """Whether Ctrl-C has ended a command that listened to it; asked once, forgotten."""
    came = _interrupted.is_set()
    _interrupted.clear()
    return came
