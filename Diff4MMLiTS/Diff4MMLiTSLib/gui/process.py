"""A child process in a session of its own: its lines are read as they come, and its whole tree can be ended."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO

GRACE_S = 5.0
"""Between asking a tree to stop and killing it; the engine looks for a request at least once a second on a CPU."""
READERS_END_S = 1.0
"""How long to wait for the last lines after the end; a process that left the tree may keep the pipes open forever."""
LONGEST_LINE = 1 << 20
"""Bytes; what goes beyond is cut off."""
LOG_LINES, LOG_LINE = 500, 2000
"""Lines of the log that are kept, and characters of each."""
CHUNK = 1 << 16
WINDOWS = sys.platform == "win32"
NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)
"""Exists on Windows, where a console would open for every child."""

_living: set[ChildProcess] = set()
"""Held until they have ended: a child whose job nobody looks at any more must still be killed at the exit."""


class ChildProcess:
    """A running child and the reading of what it prints.

    Args:
        arguments: The command.
        environment: All of its environment variables; a few are added or taken away, see ``child_environment``.
        on_line: Called for each line of standard output, on a thread of its own; returns whether the line was
            understood. What was not goes to the log, as does standard error.
        has_input: Whether lines can be sent to it.

    Raises:
        OSError: The command could not be started.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_line: Callable[[str], bool],
        has_input: bool = False,
    ) -> None:
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._stopping = threading.Lock()
        self._is_tree_ended = False
        self._process = subprocess.Popen(
            list(arguments),
            stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(environment),
            start_new_session=True,
            creationflags=NO_WINDOW,
        )
        self._readers = [
            threading.Thread(target=_read_lines, args=(self._process.stdout, on_line, self._log), daemon=True),
            threading.Thread(
                target=_read_lines, args=(self._process.stderr, lambda _line: False, self._log), daemon=True
            ),
        ]
        for reader in self._readers:
            reader.start()
        _living.add(self)

    @property
    def pid(self) -> int:
        """Number of the child; on POSIX also of its session and process group."""
        return self._process.pid

    @property
    def log(self) -> str:
        """The last lines that were no part of the protocol."""
        return "\n".join(self._log)

    @property
    def exit_code(self) -> int | None:
        """Exit code once the child and its whole tree have ended and every line was read; None before.

        Negative for a signal. What the child left running is killed as soon as the child is gone.
        """
        code = self._process.poll()
        if code is None:
            return None
        if not self._is_tree_ended and not self._stopping.locked():
            self._is_tree_ended = True
            self._kill_group()
            self._join_readers()
            _living.discard(self)
        return code if self._is_tree_ended else None

    def send(self, line: str) -> None:
        """Write one line to the child.

        Raises:
            OSError: The child does not listen any more.
        """
        if self._process.stdin is None:
            raise BrokenPipeError("The child was started without input")
        self._process.stdin.write(line.encode("utf-8") + b"\n")
        self._process.stdin.flush()

    def close_input(self) -> None:
        """Tell the child that no more lines will come."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def stop(self) -> None:
        """Ask the tree to stop, and kill what is left of it after ``GRACE_S``; returns at once."""
        if self._process.poll() is None and self._stopping.acquire(blocking=False):
            threading.Thread(target=self._stop, daemon=True).start()

    def kill(self) -> None:
        """Kill the whole tree at once."""
        self._kill_group()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:  # a process in an uninterruptible call of the system ends after it
            return
        _living.discard(self)  # its number may be another's from now on

    def _stop(self) -> None:
        try:
            self.close_input()
            if not WINDOWS:  # Windows has no signal that a process of another console could handle
                _signal_group(self.pid, signal.SIGTERM)
                self._wait_for_group()
            self.kill()
        finally:
            self._stopping.release()

    def _wait_for_group(self) -> None:
        """Wait until nobody of the tree is left: a launcher may end before the process that it launched."""
        end = time.monotonic() + GRACE_S
        while time.monotonic() < end:
            is_gone = self._process.poll() is not None
            if is_gone and not _signal_group(self.pid, 0):
                return
            time.sleep(0.02)

    def _kill_group(self) -> None:
        if not WINDOWS:
            _signal_group(self.pid, signal.SIGKILL)
        elif self._process.poll() is None:
            command = ["taskkill", "/PID", str(self.pid), "/T", "/F"]
            subprocess.run(command, capture_output=True, check=False)

    def _join_readers(self) -> None:
        end = time.monotonic() + READERS_END_S
        for reader in self._readers:
            reader.join(max(0.0, end - time.monotonic()))


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a Python child can load SimpleITK and speaks UTF-8 without delay.

    A file ``numpy.py`` in the current folder is not taken for numpy.
    """
    result = {key: value for key, value in environment.items() if key != "ITK_AUTOLOAD_PATH"}
    return result | {"PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}


def kill_all() -> None:
    """Kill every child that still runs: the application ends, or the module is reloaded."""
    for child in list(_living):
        child.kill()


atexit.register(kill_all)


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; return whether there is such a group."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says so of a group of zombies
        return False
    return True


def _read_lines(stream: IO[bytes], on_line: Callable[[str], bool], log: deque[str]) -> None:
    """Read to the end, line by line; a flood without line ends cannot fill the memory."""
    rest = b""
    while chunk := os.read(stream.fileno(), CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            _take(line, on_line, log)
        rest = rest[:LONGEST_LINE]
    if rest:
        _take(rest, on_line, log)
    stream.close()


def _take(line: bytes, on_line: Callable[[str], bool], log: deque[str]) -> None:
    text = line.decode("utf-8", errors="replace").rstrip("\r")
    if text and not on_line(text):
        log.append(text[:LOG_LINE])
