"""The header chunk: what the file shows and the network that shows it.

Every field is an integer; every limit is checked while the header is read (formats/SPEC.md,
section 4), so that nothing downstream allocates for a size that was only claimed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from typing import TypeVar

from formats import limits
from formats.colour import SRGB, Colour
from formats.core import CoreConfig
from formats.cursor import Reader, Writer
from formats.errors import CorruptError, InputError, VersionError
from formats.network import (
    PARTITIONS,
    Activation,
    Encoding,
    Fusion,
    NetworkConfig,
    RankMode,
    TensorSpec,
)
from formats.priors import PRIORS

__all__ = ["SUBSAMPLINGS", "Header", "MediaKind", "NetworkFamily"]

E = TypeVar("E", bound=IntEnum)

SUBSAMPLINGS = ("444", "422", "420", "400")


class MediaKind(IntEnum):
    """What the file decodes to."""

    IMAGE = 0
    VIDEO = 1


class NetworkFamily(IntEnum):
    """Which network description follows in the header."""

    RANK = 0
    """Rank fusion: weights only (`NetworkConfig`)."""
    CORE = 1
    """Core fusion: weights and coded latent grids (`CoreConfig`); images only."""


TABLE_SETS = {NetworkFamily.RANK: 1, NetworkFamily.CORE: 5}
"""Number of the frequency tables and of the way in which symbols are coded. Before the first
release core fusion had another order (set 1), no levels coded in full (2), another fixed point and
priors for blocks (3), no colour grids (4)."""


@dataclass(frozen=True)
class Header:
    """Everything a decoder must know before the first unit.

    Attributes:
        kind: image or video.
        width, height: pixels, 1..65535.
        channels: 1 grey, 3 R'G'B', 4 R'G'B' and straight alpha.
        bit_depth: 8..16; decoded samples are in 0..2^bit_depth - 1.
        network: architecture of every unit.
        colour: colour description.
        subsampling: chroma subsampling of the source; what a Y'CbCr writer uses by default.
        rate: frames per second, exact (1/1 for images).
        frames: number of frames (1 for images).
    """

    kind: MediaKind
    width: int
    height: int
    channels: int
    bit_depth: int
    network: NetworkConfig | CoreConfig
    colour: Colour = SRGB
    subsampling: str = "444"
    rate: Fraction = field(default=Fraction(1))
    frames: int = 1

    def __post_init__(self) -> None:
        """Raise InputError or LimitError for what the format cannot hold."""
        for name, value, low, high in (
            ("width", self.width, 1, limits.MAX_SIDE),
            ("height", self.height, 1, limits.MAX_SIDE),
            ("bit depth", self.bit_depth, 8, 16),
            ("frames", self.frames, 1, limits.MAX_FRAMES),
            ("rate numerator", self.rate.numerator, 1, 2**31 - 1),
            ("rate denominator", self.rate.denominator, 1, 2**31 - 1),
        ):
            if value < low:
                raise InputError(f"header {name}: expected {low}..{high}, got {value}")
            limits.check_limit(f"header {name}", value, high)
        if self.channels not in (1, 3, 4):
            raise InputError(f"header channels: expected 1, 3 or 4, got {self.channels}")
        if self.subsampling not in SUBSAMPLINGS:
            raise InputError(f"header subsampling: expected one of {SUBSAMPLINGS}")
        if (self.kind == MediaKind.VIDEO) != ("t" in self.network.axes):
            what = "core fusion"
            if isinstance(self.network, NetworkConfig):
                what = f"the partition {self.network.partition}"
            raise InputError(f"header network: a {self.kind.name.lower()} cannot use {what}")
        if self.kind == MediaKind.IMAGE and self.frames != 1:
            raise InputError(f"header frames: an image has 1, got {self.frames}")
        limits.check_limit("pixels of a frame", self.width * self.height, limits.MAX_PIXELS)

    @property
    def family(self) -> NetworkFamily:
        """Which kind of network the units hold."""
        core = isinstance(self.network, CoreConfig)
        return NetworkFamily.CORE if core else NetworkFamily.RANK

    def lengths(self, frames: int) -> dict[str, int]:
        """Axis lengths of a unit of this many frames."""
        sizes = {"t": frames, "y": self.height, "x": self.width}
        return {axis: sizes[axis] for axis in self.network.axes}

    def tensors(self, frames: int) -> list[TensorSpec]:
        """Weight tensors of a unit of this many frames, limits checked.

        Raises:
            LimitError: the unit would need too many weights, latents, samples or operations.
        """
        lengths = self.lengths(frames)
        samples = frames * self.width * self.height * self.channels
        limits.check_limit("samples of a unit", samples, limits.MAX_UNIT_SAMPLES)
        if isinstance(self.network, CoreConfig):
            latents = self.network.latents(self.height, self.width)
            limits.check_limit("latents of a unit", latents, limits.MAX_LATENTS_PER_UNIT)
        # The count is a few products: nothing is allocated before it is known to be small.
        parameters = self.network.parameters(lengths, self.channels)
        limits.check_limit("weights of a unit", parameters, limits.MAX_PARAMETERS)
        macs = self.network.macs(lengths, self.channels)
        limits.check_limit("operations of a unit", macs, limits.MAX_MACS_PER_UNIT)
        return self.network.tensors(lengths, self.channels)

    # -- bytes -----------------------------------------------------------------------------

    def pack(self) -> bytes:
        """Payload of the header chunk."""
        out = Writer()
        out.u8(self.kind).varint(self.width).varint(self.height)
        out.u8(self.channels).u8(self.bit_depth)
        colour = self.colour
        out.u8(colour.primaries).u8(colour.transfer).u8(colour.matrix)
        out.u8(SUBSAMPLINGS.index(self.subsampling) << 1 | int(colour.full_range))
        if self.kind == MediaKind.VIDEO:
            out.varint(self.rate.numerator).varint(self.rate.denominator).varint(self.frames)
        out.u8(TABLE_SETS[self.family]).u8(self.family)
        if isinstance(self.network, CoreConfig):
            _write_core(out, self.network)
        else:
            _write_rank(out, self.network)
        return out.done()

    @classmethod
    def unpack(cls, payload: bytes, base: int = 0) -> Header:
        """Read the payload of a header chunk that starts at byte `base` of the file.

        Raises:
            CorruptError: a field holds what the specification forbids.
            VersionError: a table set or network family of a later version.
            LimitError: a size over the limits.
            TruncatedError: the payload ends too early.
        """
        read = Reader(payload, "header", base)
        kind = _enum(MediaKind, read.u8("media kind"), "media kind")
        width, height = read.varint("width"), read.varint("height")
        channels, bit_depth = read.u8("channels"), read.u8("bit depth")
        primaries, transfer = read.u8("primaries"), read.u8("transfer")
        matrix, packed = read.u8("matrix"), read.u8("range and subsampling")
        if packed >> 1 >= len(SUBSAMPLINGS):
            raise CorruptError(f"header: subsampling code {packed >> 1} is not known")
        rate, frames = Fraction(1), 1
        if kind == MediaKind.VIDEO:
            numerator, denominator = read.varint("rate"), read.varint("rate")
            if not numerator or not denominator:
                raise CorruptError(f"header: frame rate {numerator}/{denominator} is not positive")
            if math.gcd(numerator, denominator) != 1:
                raise CorruptError(f"header: frame rate {numerator}/{denominator} is not reduced")
            rate = Fraction(numerator, denominator)
            frames = read.varint("frames")
        table_set, family = read.u8("table set"), read.u8("network family")
        if family not in list(NetworkFamily):
            raise VersionError(
                f"header: network family {family}; this library knows 0 (rank fusion) and 1 "
                "(core fusion): a later version of the codec wrote this file"
            )
        if table_set != (known := TABLE_SETS[NetworkFamily(family)]):
            age = "an earlier version, before the first release, wrote this file: encode it again"
            if table_set > known:
                age = "a later version of the codec wrote this file"
            raise VersionError(
                f"header: table set {table_set} of network family {family}; this library knows "
                f"{known}: {age}"
            )
        network = _read_core(read) if family == NetworkFamily.CORE else _read_rank(read)
        read.finish()
        try:
            return cls(
                kind=kind,
                width=width,
                height=height,
                channels=channels,
                bit_depth=bit_depth,
                network=network,
                colour=Colour(primaries, transfer, matrix, bool(packed & 1)),
                subsampling=SUBSAMPLINGS[packed >> 1],
                rate=rate,
                frames=frames,
            )
        except InputError as error:
            raise CorruptError(str(error)) from error


def _enum(kind: type[E], value: int, what: str) -> E:
    try:
        return kind(value)
    except ValueError as error:
        raise CorruptError(f"header: {what} {value} is not known") from error


def _write_rank(out: Writer, net: NetworkConfig) -> None:
    out.u8(list(PARTITIONS).index(net.partition))
    out.u8(net.encoding << 4 | net.activation)
    out.u8(net.fusion << 4 | net.rank_mode << 1 | int(net.gain))
    out.u8(net.branch_layers << 4 | net.tail_layers)
    out.varint(net.width).varint(net.features).varint(net.rank)
    out.u8(net.bandwidth).varint(net.frequencies)


def _write_core(out: Writer, net: CoreConfig) -> None:
    out.u8(net.levels).u8(net.hidden).u8(net.residuals).u8(net.width)
    out.u8(net.block).u8(net.prior).u8(net.tile).u8(net.gain + 64)
    out.u8(net.colour_level << 4 | net.colour)


def _read_core(read: Reader) -> CoreConfig:
    levels, hidden = read.u8("levels"), read.u8("hidden units")
    residuals, width = read.u8("residual layers"), read.u8("context width")
    block, prior, tile = read.u8("block"), read.u8("prior"), read.u8("tile")
    gain, colour = read.u8("gain") - 64, read.u8("colour grids")
    if prior not in (0, *PRIORS):
        raise VersionError(
            f"header: prior {prior}; this library knows {(0, *PRIORS)}: a later version of the "
            "codec wrote this file"
        )
    try:
        return CoreConfig(
            levels=levels,
            hidden=hidden,
            residuals=residuals,
            width=width,
            block=block,
            prior=prior,
            tile=tile,
            gain=gain,
            colour=colour & 15,
            colour_level=colour >> 4,
        )
    except InputError as error:
        raise CorruptError(f"header: {error}") from error


def _read_rank(read: Reader) -> NetworkConfig:
    partition = read.u8("partition")
    if partition >= len(PARTITIONS):
        raise CorruptError(f"header: partition code {partition} is not known")
    functions, modes = read.u8("encoding and activation"), read.u8("fusion modes")
    if modes & 0b1100:
        raise CorruptError(f"header: reserved bits of the fusion modes are set ({modes:#04x})")
    depth = read.u8("layer counts")
    try:
        return NetworkConfig(
            partition=list(PARTITIONS)[partition],
            encoding=_enum(Encoding, functions >> 4, "encoding"),
            activation=_enum(Activation, functions & 15, "activation"),
            fusion=_enum(Fusion, modes >> 4, "fusion"),
            rank_mode=_enum(RankMode, modes >> 1 & 1, "rank mode"),
            gain=bool(modes & 1),
            branch_layers=depth >> 4,
            tail_layers=depth & 15,
            width=read.varint("width"),
            features=read.varint("features"),
            rank=read.varint("rank"),
            bandwidth=read.u8("bandwidth"),
            frequencies=read.varint("frequencies"),
        )
    except InputError as error:
        raise CorruptError(f"header: {error}") from error
