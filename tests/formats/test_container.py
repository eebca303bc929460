import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from formats.container import SIGNATURE, Container, write_container
from formats.errors import (
    ChecksumError,
    CoordXError,
    CorruptError,
    FormatError,
    InputError,
    LimitError,
    MediaError,
    NotCrdxError,
    TruncatedError,
    VersionError,
)
from tests.formats.factory import (
    image_file,
    image_header,
    random_unit,
    video_file,
    video_header,
)


def chunk(kind: bytes, payload: bytes) -> bytes:
    length = b""
    value = len(payload)
    while value >= 0x80:
        length += bytes([value & 0x7F | 0x80])
        value >>= 7
    framed = kind + length + bytes([value]) + payload
    return framed + struct.pack("<I", zlib.crc32(framed))


START = SIGNATURE + b"\x01"


def read_all(data: bytes) -> list[np.ndarray]:
    box = Container.open(data)
    box.verify()
    return [t.symbols for n in range(len(box.unit_spans)) for t in box.unit(n)]


def test_image_round_trips_within_the_overhead_promised() -> None:
    header = image_header(width=768, height=512)
    unit = random_unit(header, 0, 1)
    data = write_container(header, [unit], [1])
    assert len(data) - len(unit) <= 64
    box = Container.open(data)
    assert box.header == header
    assert [s.kind for s in box.verify()] == ["H", "U", "E"]


def test_video_units_are_found_through_the_index() -> None:
    data = video_file({"audio": b"sound", "icc": b"profile"})
    box = Container.open(data)
    assert box.unit_frames == [3, 3, 1]
    assert box.metadata == {"icc": b"profile"}
    assert box.audio() == b"sound"
    header = video_header()
    for number, frames in enumerate(box.unit_frames):
        offset, size = box.unit_spans[number]
        assert data[offset : offset + 1] == b"U"
        payload = random_unit(header, number, frames)
        assert size == len(chunk(b"U", payload))
        shapes = [t.symbols.shape for t in box.unit(number)]
        assert shapes == [s.shape for s in header.tensors(frames)]


def test_a_damaged_unit_leaves_the_others_readable() -> None:
    data = bytearray(video_file())
    box = Container.open(bytes(data))
    data[box.unit_spans[1][0] + 10] ^= 1
    box = Container.open(bytes(data))
    box.unit(0)
    box.unit(2)
    with pytest.raises(ChecksumError, match="CRC-32"):
        box.unit(1)


def test_only_the_front_and_the_unit_asked_for_are_read() -> None:
    class Spy(io.BytesIO):
        touched = 0

        def read(self, size: int | None = -1) -> bytes:
            got = super().read(size)
            Spy.touched = max(Spy.touched, self.tell())
            return got

    data = video_file({"audio": b"x" * 100_000})
    box = Container.open(Spy(data))
    box.unit(0)
    assert Spy.touched <= sum(box.unit_spans[0]) + 16


@pytest.mark.parametrize("make", [image_file, lambda: video_file({"icc": b"p", "audio": b"a"})])
def test_every_prefix_is_truncated(make) -> None:  # type: ignore[no-untyped-def]
    data = make()
    for length in range(len(data)):
        with pytest.raises(TruncatedError):
            read_all(data[:length])


@pytest.mark.parametrize("make", [image_file, video_file])
def test_every_flipped_bit_is_a_typed_error(make) -> None:  # type: ignore[no-untyped-def]
    data = make()
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises(FormatError):
                read_all(bytes(changed))


def test_mutations_with_repaired_checksums_give_typed_errors_or_bounded_output() -> None:
    """The checksum would hide every parser bug: repair it after each mutation."""
    rng = np.random.default_rng(5)
    header, unit = image_header().pack(), random_unit(image_header(), 0, 1)
    survived = 0
    for _ in range(4000):
        parts = [bytearray(header), bytearray(unit)]
        part = parts[int(rng.integers(2))]
        for _ in range(int(rng.integers(1, 4))):
            part[int(rng.integers(len(part)))] = int(rng.integers(256))
        data = (
            START + chunk(b"H", bytes(parts[0])) + chunk(b"U", bytes(parts[1])) + chunk(b"E", b"")
        )
        try:
            symbols = read_all(data)
        except CoordXError:
            continue
        survived += 1
        assert all(int(np.abs(s).max()) <= 65535 for s in symbols)
    assert survived > 0


def test_other_files_are_recognised_as_such() -> None:
    with pytest.raises(NotCrdxError, match=r"got 89 50 4e 47 0d"):
        Container.open(b"\x89PNG\r\n\x1a\n....")
    with pytest.raises(TruncatedError, match="empty"):
        Container.open(b"")
    with pytest.raises(VersionError, match="version 2"):
        Container.open(SIGNATURE + b"\x02rest")


def test_paths_are_named_in_the_message(tmp_path: Path) -> None:
    path = tmp_path / "cut.crdx"
    path.write_bytes(image_file()[:-3])
    with pytest.raises(TruncatedError, match=r"cut\.crdx"), Container.open(path) as box:
        box.verify()
    path.write_bytes(b"no")
    with pytest.raises(NotCrdxError, match=r"cut\.crdx"):
        Container.open(path)
    with pytest.raises(MediaError, match="No such file"):
        Container.open(tmp_path / "missing.crdx")


def unknown(kind: bytes) -> bytes:
    head, unit = image_header().pack(), random_unit(image_header(), 0, 1)
    return START + chunk(b"H", head) + chunk(kind, b"?") + chunk(b"U", unit) + chunk(b"E", b"")


def test_unknown_optional_chunks_are_skipped_and_critical_ones_refused() -> None:
    assert read_all(unknown(b"q"))
    with pytest.raises(CorruptError, match="critical chunk 'Q'"):
        read_all(unknown(b"Q"))
    with pytest.raises(CorruptError, match="chunk type"):
        read_all(unknown(b"\xe9"))


def assemble(*chunks: bytes) -> bytes:
    return START + b"".join(chunks)


IMAGE_HEAD = chunk(b"H", image_header().pack())
VIDEO_HEAD = chunk(b"H", video_header().pack())
UNIT = chunk(b"U", random_unit(image_header(), 0, 1))
END = chunk(b"E", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (assemble(UNIT, IMAGE_HEAD, END), "header chunk first"),
        (assemble(IMAGE_HEAD, UNIT, UNIT, END), "critical chunk 'U'"),
        (assemble(IMAGE_HEAD, chunk(b"X", b"\x01\x01\x05"), UNIT, END), "a unit"),
        (assemble(VIDEO_HEAD, UNIT, END), "an index"),
        (assemble(VIDEO_HEAD, chunk(b"X", b"\x00"), END), "at least one unit"),
        (assemble(VIDEO_HEAD, chunk(b"X", b"\x01\x00\x05"), END), "unit 0 has 0 frames"),
        (assemble(VIDEO_HEAD, chunk(b"X", b"\x01\x06\x05"), END), "declares 7"),
        (assemble(VIDEO_HEAD, chunk(b"X", b"\x01\x07\x05!"), END), "left over"),
        (assemble(IMAGE_HEAD, UNIT, END, b"trailing"), "expected the file to end"),
        (assemble(IMAGE_HEAD, UNIT, chunk(b"E", b"?")), "expected the file to end"),
        (assemble(IMAGE_HEAD, chunk(b"i", b"1"), chunk(b"i", b"2"), UNIT, END), "twice"),
        (assemble(IMAGE_HEAD, chunk(b"a", b"1"), UNIT, END), "after the units"),
        (assemble(IMAGE_HEAD, UNIT, chunk(b"e", b"1"), END), "before the units"),
        (assemble(IMAGE_HEAD, UNIT, chunk(b"a", b"1"), END), "an image has no sound"),
        (assemble(IMAGE_HEAD, chunk(b"U", b"\x01" + b"\xff" * 40), END), "expected its number"),
        (assemble(IMAGE_HEAD, chunk(b"U", b"\x00" + b"\xf0" * 40), END), "unknown table"),
        (assemble(IMAGE_HEAD, chunk(b"U", b"\x00" + b"\x05\x60" * 40), END), "at most 2"),
    ],
)
def test_structural_faults_are_named(data: bytes, words: str) -> None:
    with pytest.raises(CorruptError, match=words):
        read_all(data)


def test_an_index_that_points_elsewhere_is_refused() -> None:
    header = video_header(frames=1)
    unit = chunk(b"U", random_unit(header, 0, 1))
    index = chunk(b"X", b"\x01\x01" + bytes([len(unit) - 1 | 0x80, 0x01])[:1] + b"\x00")
    with pytest.raises(FormatError):
        read_all(assemble(chunk(b"H", header.pack()), index, unit, END))
    short = chunk(b"X", bytes([1, 1, 9]))
    with pytest.raises(CorruptError, match="the index points to a unit of 9 bytes"):
        read_all(assemble(chunk(b"H", header.pack()), short, unit, END))


def test_bombs_are_refused_before_allocation() -> None:
    many = b"\xff\xff\xff\xff\x0f"
    with pytest.raises(LimitError, match="units"):
        read_all(assemble(VIDEO_HEAD, chunk(b"X", many), END))
    with pytest.raises(LimitError, match="chunk"):
        read_all(START + b"H" + b"\xff\xff\xff\xff\x7f")
    # All tensors zero: the weights cost nothing, the payload must still pay for them.
    from formats.network import NetworkConfig

    big = image_header(network=NetworkConfig(width=512, features=256, rank=64))
    silent = b"\x00" + b"\xff" * len(big.tensors(1))
    with pytest.raises(LimitError, match="weights of unit 0"):
        read_all(assemble(chunk(b"H", big.pack()), chunk(b"U", silent), END))


def test_the_writer_refuses_what_does_not_add_up() -> None:
    header, unit = video_header(), b"?"
    with pytest.raises(InputError, match="frames"):
        write_container(header, [unit], [3])
    with pytest.raises(InputError, match="metadata"):
        write_container(image_header(), [unit], [1], {"thumbnail": b""})
    with pytest.raises(InputError, match="an image has no sound"):
        write_container(image_header(), [unit], [1], {"audio": b"sound"})


def test_two_sounds_are_refused() -> None:
    data = video_file({"audio": b"one"})
    twice = data[: -len(END)] + chunk(b"a", b"two") + END
    with pytest.raises(CorruptError, match="twice"):
        read_all(twice)


def test_many_unknown_chunks_take_time_in_proportion() -> None:
    data = video_file({"audio": b"sound"})
    hostile = data[: -len(END)] + 40_000 * chunk(b"q", b"") + END
    box = Container.open(hostile)
    started = time.process_time()
    assert box.audio() == b"sound"
    assert time.process_time() - started < 5  # 0.4; a list rebuilt for every chunk took 10


def test_a_file_that_shrinks_while_it_is_open_is_truncated() -> None:
    stream = io.BytesIO(video_file())
    box = Container.open(stream)
    stream.truncate(box.unit_spans[1][0] + 30)
    with pytest.raises(TruncatedError):
        box.unit(1)


def test_units_shared_by_many_readers_agree() -> None:
    data = video_file()
    first = read_all(data)
    assert all(np.array_equal(a, b) for a, b in zip(first, read_all(data), strict=True))
