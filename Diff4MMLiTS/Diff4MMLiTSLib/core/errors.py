"""The exceptions of the engine; each knows its exit code and says what was found, what was expected, what to do."""

from __future__ import annotations

ALLOCATION_FAILURES = ("can't allocate memory", "not enough memory", "failed to allocate memory", "out of memory")
"""How torch and SimpleITK say in a RuntimeError that the host's memory is too small."""


class Diff4MMLiTSError(Exception):
    """An error that a user can act on.

    Args:
        found: What was found, naming the file or value (without its folder: paths may identify a patient).
        expected: What was expected instead.
        remedy: What to do about it.
    """

    exit_code = 1
    code = "unexpected"

    def __init__(self, found: str, *, expected: str = "", remedy: str = "") -> None:
        self.found = found
        self.expected = expected
        self.remedy = remedy
        sentences = [found, f"Expected: {expected}" if expected else "", remedy]
        super().__init__(" ".join(sentence.rstrip(".") + "." for sentence in sentences if sentence))

    def __reduce__(self) -> tuple[object, ...]:
        """Let the error travel between processes with all its parts."""
        return _rebuild, (type(self), self.found, self.expected, self.remedy)


def _rebuild(kind: type[Diff4MMLiTSError], found: str, expected: str, remedy: str) -> Diff4MMLiTSError:
    error = kind.__new__(kind)
    Diff4MMLiTSError.__init__(error, found, expected=expected, remedy=remedy)
    return error


class InputError(Diff4MMLiTSError):
    """Bad input or arguments: a file, a folder, a study, a configuration."""

    exit_code = 2
    code = "bad_input"


class MissingError(Diff4MMLiTSError):
    """A model or a dependency that is not there, or is of another kind."""

    exit_code = 3
    code = "missing"


class OutOfMemoryError(Diff4MMLiTSError):
    """The host or the GPU ran out of memory."""

    exit_code = 4
    code = "out_of_memory"


class CanceledError(Diff4MMLiTSError):
    """The user asked to stop; nothing half-written stays behind."""

    exit_code = 5
    code = "canceled"

    def __init__(self, found: str = "Canceled") -> None:
        super().__init__(found)


def explain(error: BaseException) -> Diff4MMLiTSError:
    """Return any exception as one of ours, with what to do about it."""
    if isinstance(error, Diff4MMLiTSError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return CanceledError()
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "?").split(".")[0]
        return MissingError(
            f"The Python package '{package}' is not installed",
            remedy=f'Install it ("pip install {package}", in Slicer: the Setup tab); "doctor" lists what is missing',
        )
    if isinstance(error, ImportError):
        return MissingError(
            f"The Python package '{(error.name or '?').split('.')[0]}' is installed but cannot be loaded",
            remedy='Install it again, in a version for this system; "doctor" shows the versions',
        )
    if is_out_of_memory(error):
        return OutOfMemoryError(
            "Out of memory",
            remedy='Close other programs, use "--device cpu", or set a smaller patch or a coarser spacing_mm',
        )
    return Diff4MMLiTSError(
        f"Something unexpected happened ({type(error).__name__})",
        remedy='Run the command again with "--debug" and report what it prints (check it for names first)',
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception, of Python, torch or SimpleITK, says that memory was too small."""
    said = isinstance(error, RuntimeError) and any(words in str(error).lower() for words in ALLOCATION_FAILURES)
    return said or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
