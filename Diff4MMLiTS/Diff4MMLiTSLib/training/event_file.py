"""Learning curves and sample pictures as TensorBoard reads them, without its package.

A file of events is a sequence of records: length, checksum of the length, content, checksum of the content. The content
is a protocol-buffer message ``Event`` with a ``Summary``; the few fields that are needed are encoded here.

Source: tensorflow/core/lib/io/record_writer.cc (records), tensorflow/core/util/event.proto and
tensorflow/core/framework/summary.proto (messages).
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VERSION = b"brain.Event:2"
CASTAGNOLI = 0x82F63B78
"""Reversed polynomial of CRC-32C."""
MASK = 0xA282EAD8

Picture = NDArray[np.uint8]
"""A gray picture (rows, columns)."""


@dataclass(frozen=True)
class EventFile:
    """A new file of events in a run folder; TensorBoard joins all files of a folder.

    Args:
        file: Its path.
    """

    file: Path

    @classmethod
    def create(cls, folder: Path) -> EventFile:
        """Begin a file in a folder, which is made when it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        events = cls(folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}")
        events.file.write_bytes(_record(_time() + _bytes(3, VERSION)))
        return events

    def add(self, step: int, *, numbers: Mapping[str, float], pictures: Mapping[str, Picture]) -> None:
        """Append the numbers and pictures of one step, each under its name."""
        values = [_bytes(1, name.encode()) + _float(2, value) for name, value in numbers.items()]
        values += [_bytes(1, name.encode()) + _bytes(4, _image(picture)) for name, picture in pictures.items()]
        summary = b"".join(_bytes(1, value) for value in values)
        with self.file.open("ab") as stream:
            stream.write(_record(_time() + _integer(2, step) + _bytes(5, summary)))


def png_of(picture: Picture) -> bytes:
    """Return a gray picture as PNG."""
    rows, columns = picture.shape
    lines = b"".join(b"\0" + line.tobytes() for line in np.ascontiguousarray(picture))  # 0: no filter

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def masked_crc32c(content: bytes) -> int:
    """Return the checksum that records carry."""
    value = 0xFFFFFFFF
    for byte in content:
        value = CRC_TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + MASK) & 0xFFFFFFFF


def _crc_of_byte(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (CASTAGNOLI if value & 1 else 0)
    return value


CRC_TABLE = tuple(_crc_of_byte(value) for value in range(256))


def _record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    checks = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
    return length + checks[0] + content + checks[1]


def _image(picture: Picture) -> bytes:
    rows, columns = picture.shape
    gray = 1
    return _integer(1, rows) + _integer(2, columns) + _integer(3, gray) + _bytes(4, png_of(picture))


def _time() -> bytes:
    return _varint(1 << 3 | 1) + struct.pack("<d", time.time())


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
