"""A Qt timer around what must be polled, so that Slicer goes on while the engine works."""

from __future__ import annotations

from collections.abc import Callable

import qt

from .task import Task

INTERVAL_MS = 100


class TaskTimer:
    """Polls a started task from the event loop until its state is final.

    Args:
        task: A job or the reply of a worker.
        on_change: Called after each look at the task.
        on_end: Called once, when the state is final.
    """

    def __init__(self, task: Task, *, on_change: Callable[[Task], None], on_end: Callable[[Task], None]) -> None:
        self.task = task
        self._on_change = on_change
        self._on_end = on_end
        self._is_stopped = False
        self._timer = qt.QTimer()
        self._timer.setInterval(INTERVAL_MS)
        self._timer.timeout.connect(self._look)
        self._timer.start()

    def stop(self) -> None:
        """Look no more; the task itself goes on."""
        self._is_stopped = True
        self._timer.stop()

    def _look(self) -> None:
        state = self.task.poll()
        self._on_change(self.task)
        if state.is_final and not self._is_stopped:
            self.stop()
            self._on_end(self.task)


def later(milliseconds: int, action: Callable[[], None]) -> qt.QTimer:
    """Return a timer that, each time it is started, calls ``action`` once after the last start."""
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(action)
    return timer
