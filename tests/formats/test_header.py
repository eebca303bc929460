from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.colour import BT709, Colour
from formats.errors import (
    CoordXError,
    CorruptError,
    InputError,
    LimitError,
    TruncatedError,
    VersionError,
)
from formats.header import SUBSAMPLINGS, Header
from formats.network import Activation, Encoding, Fusion, NetworkConfig, RankMode
from tests.formats.factory import image_header, video_header


def test_image_header_round_trips() -> None:
    header = image_header(colour=BT709, bit_depth=12, channels=4, subsampling="422")
    assert Header.unpack(header.pack()) == header


def test_video_header_keeps_the_exact_rate() -> None:
    header = video_header()
    back = Header.unpack(header.pack())
    assert back == header
    assert back.rate == Fraction(30000, 1001)


@given(
    partition=st.sampled_from(["xy", "x+y"]),
    encoding=st.sampled_from(Encoding),
    activation=st.sampled_from(Activation),
    fusion=st.sampled_from(Fusion),
    mode=st.sampled_from(RankMode),
    branch=st.integers(1, 15),
    tail=st.integers(0, 15),
    width=st.integers(1, 4096),
    features=st.integers(1, 64),
    rank=st.integers(1, 64),
    bandwidth=st.integers(1, 64),
    gain=st.booleans(),
)
def test_every_network_round_trips(
    partition: str,
    encoding: Encoding,
    activation: Activation,
    fusion: Fusion,
    mode: RankMode,
    branch: int,
    tail: int,
    width: int,
    features: int,
    rank: int,
    bandwidth: int,
    gain: bool,
) -> None:
    network = NetworkConfig(
        partition=partition,
        encoding=encoding,
        activation=activation,
        fusion=fusion,
        rank_mode=mode,
        branch_layers=branch,
        tail_layers=tail,
        width=features * rank if mode == RankMode.FULL else width,
        features=features,
        rank=rank,
        bandwidth=bandwidth,
        frequencies=9 if encoding == Encoding.FOURIER else 0,
        gain=gain,
    )
    header = image_header(network=network)
    assert Header.unpack(header.pack()) == header


def test_every_prefix_is_truncated() -> None:
    payload = video_header().pack()
    for length in range(len(payload)):
        with pytest.raises(TruncatedError):
            Header.unpack(payload[:length])


@given(st.binary(max_size=60))
def test_random_bytes_never_escape_the_error_tree(payload: bytes) -> None:
    try:
        header = Header.unpack(payload)
    except CoordXError:
        return
    assert header.pack() == payload


def test_every_single_byte_change_is_refused_or_a_valid_header() -> None:
    payload = video_header().pack()
    for position in range(len(payload)):
        for value in range(256):
            changed = payload[:position] + bytes([value]) + payload[position + 1 :]
            try:
                Header.unpack(changed)
            except CoordXError:
                continue


@pytest.mark.parametrize(
    ("position", "value", "error", "words"),
    [
        (0, 7, CorruptError, "media kind 7"),
        (1, 0, CorruptError, "width"),
        (3, 2, CorruptError, "channels"),
        (4, 7, CorruptError, "bit depth"),
        (4, 17, LimitError, "bit depth"),
        (8, 0xFE, CorruptError, "subsampling"),
        (9, 9, VersionError, "table set 9"),
        (9, 2, VersionError, "table set 2 of network family 0"),
        (10, 2, VersionError, "network family 2"),
        (11, 99, CorruptError, "partition code 99"),
        (11, 2, CorruptError, "partition"),
        (12, 0xF0, CorruptError, "encoding 15"),
        (12, 0x0F, CorruptError, "activation 15"),
        (13, 0x0C, CorruptError, "reserved bits"),
        (13, 0x70, CorruptError, "fusion 7"),
        (14, 0x02, CorruptError, "branch_layers"),
        (15, 0, CorruptError, "width"),
        (18, 65, CorruptError, "bandwidth"),
        (19, 5, CorruptError, "frequencies"),
    ],
)
def test_forbidden_fields_name_themselves(
    position: int, value: int, error: type[Exception], words: str
) -> None:
    payload = bytearray(image_header().pack())
    payload[position] = value
    with pytest.raises(error, match=words):
        Header.unpack(bytes(payload))


def test_absurd_dimensions_are_limit_errors() -> None:
    with pytest.raises(LimitError, match="width"):
        image_header(width=65536)
    with pytest.raises(LimitError, match="pixels"):
        image_header(width=65535, height=65535)
    with pytest.raises(LimitError, match="frames"):
        video_header(frames=2**24 + 1)
    with pytest.raises(LimitError, match="weights"):
        big = NetworkConfig(width=4096, features=1024, rank=1024)
        image_header(network=big).tensors(1)
    with pytest.raises(LimitError, match="operations"):
        wide = NetworkConfig(width=8, features=1024, rank=1024, tail_layers=3)
        image_header(network=wide, width=16384, height=16384).tensors(1)
    with pytest.raises(LimitError, match="samples"):
        video_header(width=16384, height=16384, frames=2**20).tensors(2**20)


def test_frame_rates_must_be_positive_and_reduced() -> None:
    header = video_header(rate=Fraction(25), frames=3)
    payload = header.pack()
    position = payload.index(bytes([25, 1, 3]))
    for rate, words in ((bytes([0, 1]), "not positive"), (bytes([50, 2]), "not reduced")):
        changed = payload[:position] + rate + payload[position + 2 :]
        with pytest.raises(CorruptError, match=words):
            Header.unpack(changed)


def test_inconsistent_headers_cannot_be_made() -> None:
    with pytest.raises(InputError, match="partition"):
        image_header(network=NetworkConfig(partition="x+y+t"))
    with pytest.raises(InputError, match="an image has 1"):
        image_header(frames=2)
    with pytest.raises(InputError, match="subsampling"):
        image_header(subsampling="411")
    with pytest.raises(InputError, match="colour matrix"):
        Colour(matrix=256)
    assert set(SUBSAMPLINGS) == {"444", "422", "420", "400"}


@pytest.mark.parametrize(
    "changes",
    [
        {"partition": "y+x"},
        {"branch_layers": 0},
        {"tail_layers": 16},
        {"rank": 0},
        {"frequencies": 3},
        {"encoding": Encoding.FOURIER},
        {"rank_mode": RankMode.FULL},
    ],
)
def test_impossible_networks_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match="network"):
        NetworkConfig(**changes)  # type: ignore[arg-type]
