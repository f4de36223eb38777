"""No identifier, date or path of a DICOM import reaches anything that is written, printed, logged or raised."""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_factory import (
    IDENTITY,
    SeriesSpec,
    enhanced_dataset,
    other_dataset,
    slice_dataset,
    write_dataset,
    write_series,
)
from Diff4MMLiTSLib.core.config import ImportConfig
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.importers import ImportReport, ImportSource, import_studies
from Diff4MMLiTSLib.core.progress import Progress

UIDS = {"study_uid": "1.2.826.0.1.3680043.8.498.77777777777", "series_uid": "1.2.826.0.1.3680043.8.498.55555555555"}
USER = "prof.quux-home"
SECRETS = (
    *(part for value in IDENTITY.values() for part in value.split("^")),
    *UIDS.values(),
    "Zzyzxmann",
    "20190807",
    "2019-08-07",
    "101112",
    "10:11:12",
    USER,
)


@pytest.fixture
def a_folder(tmp_path: Path) -> Path:
    """A DICOM folder below a user's name, with identifiers in the headers, the description and the file names."""
    folder = tmp_path / USER / "Zzyzxmann 20190807"
    write_series(folder, SeriesSpec(description="arterial Zzyzxmann", **UIDS), prefix="Zzyzxmann_PAT-7719304_")
    enhanced = SeriesSpec(description="portal Zzyzxmann", time="101150", number=2, study_uid=UIDS["study_uid"])
    write_dataset(folder / "Zzyzxmann", enhanced_dataset(enhanced))
    write_dataset(folder / "Zzyzxmann_report", other_dataset("SR", "1.2.840.10008.5.1.4.1.1.88.11"))
    return folder


def watch(messages: list[str]) -> Progress:
    return Progress(lambda _fraction, stage, message: messages.append(f"{stage} {message}"), lambda: False)


def import_folder(folder: Path, out: Path, messages: list[str]) -> ImportReport:
    options = ImportConfig()
    return import_studies(folder, out, source=ImportSource.DICOM, options=options, progress=watch(messages))


def everything_written(out: Path) -> Iterator[bytes]:
    """Yield the name and the bytes of every file, and what compressed data inside expand to."""
    for path in out.rglob("*"):
        yield str(path.relative_to(out)).encode()
        if path.is_file():
            data = path.read_bytes()
            yield data
            header, _, body = data.partition(b"\n\n")
            if header.startswith(b"NRRD") and b"gzip" in header:
                yield gzip.decompress(body)
            elif b"zlib" in header:
                yield zlib.decompress(body)


def assert_silent(text: str | bytes, *, also: tuple[str, ...] = ()) -> None:
    data = (text if isinstance(text, bytes) else text.encode()).lower()
    for secret in (*SECRETS, *also):
        assert secret.lower().encode() not in data, secret
        assert secret.lower().encode("utf-16-le") not in data, secret


def test_no_identifier_reaches_a_file_a_log_or_the_screen(a_folder, tmp_path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    messages: list[str] = []

    report = import_folder(a_folder, tmp_path / "out", messages)

    assert len(report.written) == 1 and len(messages) > 5
    for data in everything_written(tmp_path / "out"):
        assert_silent(data, also=(str(tmp_path),))
    captured = capfd.readouterr()
    shown = "\n".join([*messages, repr(report), caplog.text, captured.out, captured.err])
    assert_silent(shown, also=(str(tmp_path),))


def spoil_pixels(folder: Path) -> None:
    for index in range(8):
        dataset = slice_dataset(SeriesSpec(description="portal", **UIDS), index)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"  # says JPEG 2000 and is not
        dataset.PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x08\x00\x00\x00" + b"notajpeg"
        dataset["PixelData"].is_undefined_length = True
        write_dataset(folder / f"Zzyzxmann{index}", dataset)


def spoil_header(folder: Path) -> None:
    for file in write_series(folder, SeriesSpec(description="portal", **UIDS), prefix="Zzyzxmann"):
        file.write_bytes(file.read_bytes().replace(b"101112", b"Zzyzxm").replace(b"-40.0", b"Zzyzx"))


def spoil_encoding(folder: Path) -> None:
    tags = {"SpecificCharacterSet": "ISO_IR 192"}
    for file in write_series(folder, SeriesSpec(description="Zzyzxmänn", tags=tags, **UIDS), prefix="Zzyzxmann"):
        file.write_bytes(file.read_bytes().replace(b"ISO_IR 192", b"Zzyzxmann "))


def leave_phase_open(folder: Path) -> None:
    write_series(folder, SeriesSpec(description="Zzyzxmann", protocol="Zzyzxmann 20190807", **UIDS), prefix="Zzyzxmann")


def leave_slice_out(folder: Path) -> None:
    write_series(folder, SeriesSpec(description="Zzyzxmann portal", **UIDS), prefix="Zzyzxmann", skip=(4,))


def tilt(folder: Path) -> None:
    write_series(
        folder, SeriesSpec(description="Zzyzxmann portal", step_mm=(0.0, 1.0, 3.0), **UIDS), prefix="Zzyzxmann"
    )


def leave_nothing(folder: Path) -> None:
    folder.mkdir(parents=True)


@pytest.mark.parametrize(
    "spoil", [spoil_pixels, spoil_header, spoil_encoding, leave_phase_open, leave_slice_out, tilt, leave_nothing]
)
def test_no_identifier_reaches_an_error(tmp_path, capfd, caplog, recwarn, spoil):
    folder = tmp_path / USER / "Zzyzxmann 20190807"
    spoil(folder)
    messages: list[str] = []

    with pytest.raises(InputError) as caught:
        import_folder(folder, tmp_path / "out", messages)

    error = caught.value
    hidden = None if error.__suppress_context__ else error.__context__
    chain = [error, error.__cause__ or "", hidden or ""]
    captured = capfd.readouterr()
    warned = [str(warning.message) for warning in recwarn]
    assert_silent("\n".join(map(str, [*chain, *messages, caplog.text, captured.out, captured.err, *warned])))


def test_the_search_would_find_a_planted_identifier(a_folder, tmp_path):
    import_folder(a_folder, tmp_path / "out", [])
    image = next((tmp_path / "out").rglob("*.nrrd"))
    header, _, body = image.read_bytes().partition(b"\n\n")
    image.write_bytes(header + b"\n\n" + gzip.compress(gzip.decompress(body) + b"zzyzxmann"))
    with pytest.raises(AssertionError, match="Zzyzxmann"):
        for data in everything_written(tmp_path / "out"):
            assert_silent(data)
