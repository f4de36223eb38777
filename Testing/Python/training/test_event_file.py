"""What is written reads back as TensorBoard would read it: records with checksums, numbers, pictures."""

from __future__ import annotations

import io
import struct

import matplotlib.image
import numpy as np
import pytest

from Diff4MMLiTSLib.training.event_file import MASK, EventFile, masked_crc32c, png_of

PICTURE = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9) * 4


def records(content):
    """Yield the contents of a file's records, each with correct checksums."""
    at = 0
    while at < len(content):
        length, check = content[at : at + 8], content[at + 8 : at + 12]
        size = struct.unpack("<Q", length)[0]
        body, body_check = content[at + 12 : at + 12 + size], content[at + 12 + size : at + 16 + size]
        assert struct.unpack("<I", check)[0] == masked_crc32c(length)
        assert struct.unpack("<I", body_check)[0] == masked_crc32c(body)
        yield body
        at += 16 + size


def varint(content, at):
    value, shift = 0, 0
    while True:
        value |= (content[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not content[at - 1] & 0x80:
            return value, at


def fields(content):
    """Return the fields of a protocol-buffer message: number -> values."""
    found, at = {}, 0
    while at < len(content):
        key, at = varint(content, at)
        match key & 7:
            case 0:
                value, at = varint(content, at)
            case 1:
                value, at = struct.unpack_from("<d", content, at)[0], at + 8
            case 5:
                value, at = struct.unpack_from("<f", content, at)[0], at + 4
            case 2:
                size, at = varint(content, at)
                value, at = content[at : at + size], at + size
        found.setdefault(key >> 3, []).append(value)
    return found


def test_the_checksum_is_crc_32c():
    expected = 0xE3069283  # the published check value of "123456789"
    assert masked_crc32c(b"123456789") == ((expected >> 15 | expected << 17) + MASK) & 0xFFFFFFFF


def test_a_picture_is_a_png_with_the_same_gray_values():
    read = matplotlib.image.imread(io.BytesIO(png_of(PICTURE)))
    assert np.array_equal(np.rint(read * 255), PICTURE)


def test_numbers_and_pictures_of_a_step_read_back(tmp_path):
    events = EventFile.create(tmp_path / "run")
    events.add(300, numbers={"loss": 0.25, "score": -7.5}, pictures={"fill": PICTURE})
    assert "tfevents" in events.file.name
    first, second = (fields(record) for record in records(events.file.read_bytes()))
    assert first[3] == [b"brain.Event:2"]
    assert second[2] == [300]
    values = {entry[1][0].decode(): entry for entry in map(fields, fields(second[5][0])[1])}
    assert values["loss"][2] == [pytest.approx(0.25)]
    assert values["score"][2] == [pytest.approx(-7.5)]
    image = fields(values["fill"][4][0])
    assert (image[1], image[2], image[4]) == ([6], [9], [png_of(PICTURE)])
