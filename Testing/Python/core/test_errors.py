"""Errors say what was found, what was expected and what to do, and any exception becomes one."""

from __future__ import annotations

import pickle

import pytest

from Diff4MMLiTSLib.core.errors import CanceledError, InputError, MissingError, explain


def test_an_error_reads_as_sentences():
    error = InputError("Found 'x'", expected="a CT", remedy="Export it again")
    assert str(error) == "Found 'x'. Expected: a CT. Export it again."


@pytest.mark.parametrize("error", [InputError("a", expected="b", remedy="c"), CanceledError()])
def test_errors_travel_between_processes_with_all_their_parts(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (again.found, again.expected, again.remedy) == (error.found, error.expected, error.remedy)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (InputError("x"), 2),
        (ModuleNotFoundError("No module named 'monai.networks'", name="monai.networks"), 3),
        (MemoryError(), 4),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"), 4),
        (RuntimeError("ImageFileReader_Execute: Failed to allocate memory for image."), 4),
        (RuntimeError("something else"), 1),
        (ImportError("DLL load failed while importing _C: a file is missing", name="torch._C"), 3),
        (KeyboardInterrupt(), 5),
        (ZeroDivisionError("/home/somebody/secret"), 1),
    ],
)
def test_every_exception_has_its_exit_code(error, exit_code):
    assert explain(error).exit_code == exit_code


def test_a_missing_package_is_named_and_an_unexpected_text_is_not_repeated():
    assert "'monai'" in str(explain(ModuleNotFoundError("x", name="monai.networks")))
    assert isinstance(explain(ModuleNotFoundError("x", name="monai")), MissingError)
    assert "secret" not in str(explain(ZeroDivisionError("/home/somebody/secret")))
