"""The pages of a Parquet file, measured before they are decoded: what a page unpacks to stands in its header.

The format: https://parquet.apache.org/docs/file-format/. Headers are Thrift structs in the compact protocol, of which
two numbers are read and the rest is skipped.
"""

from typing import IO

import pyarrow.parquet as pq

from service.errors import InvalidRequest

MAGIC = b"PAR1"
NOT_PARQUET = "a valid Parquet file is expected"
MOST_FOOTER_BYTES = 16 * 2**20
MOST_HEADER_BYTES = 2**16
UNCOMPRESSED_SIZE, COMPRESSED_SIZE = 2, 3
# Types of the compact protocol.
STOP, TRUE, FALSE, BYTE, BINARY, LIST, SET, MAP, STRUCT, UUID = 0, 1, 2, 3, 8, 9, 10, 11, 12, 13
INTEGERS = (4, 5, 6)
DOUBLE = 7
DEEPEST = 8


def check_footer(file: IO[bytes]) -> None:
    """Raise InvalidRequest unless `file` ends as Parquet does, with a footer of reasonable length."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    file.seek(0)
    if len(tail) < 8 or tail[4:] != MAGIC or int.from_bytes(tail[:4], "little") > min(size, MOST_FOOTER_BYTES):
        raise InvalidRequest("body", NOT_PARQUET)


def check_pages(
    file: IO[bytes], group: pq.RowGroupMetaData, fixed: set[str], text: set[str], *, max_bytes: int
) -> None:
    """Raise InvalidRequest if a page of these columns of a row group takes more than `max_bytes`.

    Of a column of text all pages together: its values have any length, and those of several pages are held at once.
    """
    for number in range(group.num_columns):
        chunk = group.column(number)
        if chunk.path_in_schema not in fixed and chunk.path_in_schema not in text:
            continue
        starts = [chunk.data_page_offset]
        if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
            starts.append(chunk.dictionary_page_offset)
        sizes = _page_sizes(file, min(starts), chunk.total_compressed_size)
        if (sum(sizes) if chunk.path_in_schema in text else max(sizes, default=0)) > max_bytes:
            raise InvalidRequest("body", f"Parquet pages of at most {max_bytes} bytes are accepted")


def _page_sizes(file: IO[bytes], start: int, length: int) -> list[int]:
    if start < 0 or length < 0:
        raise InvalidRequest("body", NOT_PARQUET)
    sizes, position = [], start
    while position < start + length:
        file.seek(position)
        header = _Struct(file.read(MOST_HEADER_BYTES))
        try:
            found = header.integers()
            unpacked, packed = found[UNCOMPRESSED_SIZE], found[COMPRESSED_SIZE]
        except (IndexError, KeyError) as error:
            raise InvalidRequest("body", NOT_PARQUET) from error
        if unpacked < 0 or packed < 0:
            raise InvalidRequest("body", NOT_PARQUET)
        sizes.append(unpacked)
        position += header.at + packed
    return sizes


class _Struct:
    """A Thrift struct in the compact protocol at the beginning of `data`; IndexError where `data` is too short."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def integers(self) -> dict[int, int]:
        """The struct's own integer fields, by number; `at` is then behind the struct."""
        found: dict[int, int] = {}
        number = 0
        while (head := self._byte()) != STOP:
            number = number + (head >> 4) if head >> 4 else self._signed()
            if head & 15 in INTEGERS:
                found[number] = self._signed()
            else:
                self._skip(head & 15, 0)
        return found

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _unsigned(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, kind: int, depth: int) -> None:
        if depth > DEEPEST:
            raise IndexError
        if kind in INTEGERS:
            self._unsigned()
        elif kind == BINARY:
            length = self._unsigned()
            self.at += length
        elif kind == STRUCT:
            while (head := self._byte()) != STOP:
                if not head >> 4:
                    self._unsigned()
                self._skip(head & 15, depth + 1)
        elif kind in (LIST, SET):
            head = self._byte()
            count = self._unsigned() if head >> 4 == 15 else head >> 4
            for _ in range(min(count, MOST_HEADER_BYTES)):
                self._skip_element(head & 15, depth + 1)
        elif kind not in (TRUE, FALSE):
            self.at += {BYTE: 1, DOUBLE: 8, UUID: 16}.get(kind, MOST_HEADER_BYTES)

    def _skip_element(self, kind: int, depth: int) -> None:
        if kind in (TRUE, FALSE):
            self.at += 1
        else:
            self._skip(kind, depth)
