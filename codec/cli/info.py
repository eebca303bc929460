"""`coordx info`: what a file shows, and what spends its bytes."""

from __future__ import annotations

import argparse
from enum import IntEnum
from typing import Any

from codec.cli.common import dump_json, read_input
from formats.container import METADATA, Container
from formats.core import CoreConfig
from formats.entropy import best_table, table_bits
from formats.header import Header, MediaKind
from formats.latents import grid_bits
from formats.tables import GAUSSIAN, ZERO

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "info",
        help="show what a .crdx file holds and what spends its bytes",
        description="Show the header of a .crdx file, its chunks, and the bits of every weight "
        "tensor of its units.",
    )
    parser.add_argument("input", metavar="FILE", help=".crdx file, or - for standard input")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(run=_run)


def describe(container: Container) -> dict[str, Any]:
    """Header, chunks and tensors as plain values."""
    header = container.header
    spans = container.verify()
    names = {code.decode(): name for name, code in METADATA.items()}
    names |= {"H": "header", "X": "index", "U": "unit", "E": "end"}
    tensors: dict[str, dict[str, Any]] = {}
    for number, frames in enumerate(container.unit_frames):
        for spec, coded in zip(header.tensors(frames), container.unit(number), strict=True):
            table, _ = best_table(coded.symbols)
            bits = 0.0 if table == ZERO else table_bits(coded.symbols, table)
            entry = tensors.setdefault(
                spec.name,
                {"shape": list(spec.shape), "weights": 0, "bits": 0.0, "steps": [], "zeros": 0},
            )
            entry["weights"] += spec.size
            entry["bits"] += bits
            entry["steps"].append(coded.step)
            entry["zeros"] += int((coded.symbols == 0).sum())
            entry["family"] = "zero" if table == ZERO else "laplace"
            if GAUSSIAN <= table < ZERO:
                entry["family"] = "gaussian"
    pixels = header.width * header.height * header.frames
    return {
        "bytes": container.size,
        "bpp": 8 * container.size / pixels,
        "kind": header.kind.name.lower(),
        "width": header.width,
        "height": header.height,
        "channels": header.channels,
        "bit_depth": header.bit_depth,
        "colour": vars(header.colour),
        "subsampling": header.subsampling,
        "rate": str(header.rate) if header.kind == MediaKind.VIDEO else None,
        "frames": header.frames,
        "units": [
            {"frames": f, "offset": offset, "bytes": size}
            for f, (offset, size) in zip(container.unit_frames, container.unit_spans, strict=True)
        ],
        "network": _network(header, container.unit_frames[0]),
        "latents": _latents(container) if isinstance(header.network, CoreConfig) else None,
        "chunks": [
            {
                "type": s.kind,
                "name": names.get(s.kind, "unknown"),
                "offset": s.offset,
                "bytes": s.total,
            }
            for s in spans
        ],
        "tensors": tensors,
    }


def _network(header: Header, frames: int) -> dict[str, Any]:
    """The architecture as plain values, and what it costs."""
    network, lengths = header.network, header.lengths(frames)
    values = {
        name: value.name.lower() if isinstance(value, IntEnum) else value
        for name, value in vars(network).items()
    }
    return {
        "family": header.family.name.lower(),
        **values,
        "weights": network.parameters(lengths, header.channels),
        "macs_per_pixel": network.macs(lengths, header.channels)
        / (header.width * header.height * frames),
    }


def _latents(container: Container) -> list[dict[str, Any]]:
    """Number, bits and zeros of the latents of each grid of an image."""
    unit = container.core_unit(0)
    config = unit.network.config
    found = [
        {
            "grid": grid,
            "level": level,
            "colour": grid >= config.levels,
            "latents": 0,
            "bits": 0.0,
            "zeros": 0,
        }
        for grid, level in enumerate(config.grid_levels)
    ]
    for _, grids, known in unit.decode():
        for number, bits in grid_bits(unit.network, grids, known).items():
            entry, grid = found[number], grids[number]
            entry["latents"] += grid.size
            entry["bits"] += bits
            entry["zeros"] += int((grid == 0).sum())
    return found


def _run(args: argparse.Namespace) -> int:
    with Container.open(read_input(args.input)) as container:
        found = describe(container)
    print(dump_json(found) if args.json else _text(args.input, found))
    return 0


def _text(name: str, found: dict[str, Any]) -> str:
    network, colour = found["network"], found["colour"]
    lines = [
        f"{name}: {found['kind']}, {found['width']}x{found['height']}, "
        f"{found['channels']} channels of {found['bit_depth']} bits, "
        f"{found['bytes']:,} bytes, {found['bpp']:.4f} bpp"
    ]
    if found["kind"] == "video":
        lines.append(
            f"  time     {found['frames']} frames at {found['rate']} per second, "
            f"{len(found['units'])} GOPs, {found['subsampling']} source"
        )
    lines += [
        f"  colour   primaries {colour['primaries']}, transfer {colour['transfer']}, "
        f"matrix {colour['matrix']}, {'full' if colour['full_range'] else 'video'} range",
        f"  network  {_shape(network)}, "
        f"{network['weights']:,} weights, {network['macs_per_pixel']:.0f} MAC/pixel",
        "  bytes",
    ]
    groups: dict[str, list[int]] = {}
    for chunk in found["chunks"]:
        groups.setdefault(chunk["name"], []).append(chunk["bytes"])
    for kind, sizes in groups.items():
        share = 100 * sum(sizes) / found["bytes"]
        count = f" in {len(sizes)} chunks" if len(sizes) > 1 else ""
        lines.append(f"    {kind:16} {sum(sizes):>10,}  {share:5.1f}%{count}")
    signature = found["bytes"] - sum(sum(sizes) for sizes in groups.values())
    lines.append(f"    {'signature':16} {signature:>10,}")
    lines.append("  weights             shape      count   bytes  bits/weight  zero  step")
    for tensor, entry in found["tensors"].items():
        shape = "x".join(map(str, entry["shape"]))
        steps = sorted(set(entry["steps"]))
        step = f"2^{steps[0]}" if len(steps) == 1 else f"2^{steps[0]}..{steps[-1]}"
        lines.append(
            f"    {tensor:16} {shape:>9} {entry['weights']:>9,} {entry['bits'] / 8:>8,.0f} "
            f"{entry['bits'] / entry['weights']:>10.2f} "
            f"{100 * entry['zeros'] / entry['weights']:>5.0f}%  {step}"
        )
    if found["latents"]:
        lines.append("  latents                       count   bytes  bits/latent  zero")
        lines += [
            f"    level {entry['level']:<2}{' colour' if entry['colour'] else '':<8} "
            f"{entry['latents']:>20,} {entry['bits'] / 8:>8,.0f} "
            f"{entry['bits'] / entry['latents']:>10.3f} "
            f"{100 * entry['zeros'] / entry['latents']:>6.0f}%"
            for entry in found["latents"]
        ]
    return "\n".join(lines)


def _shape(network: dict[str, Any]) -> str:
    """The architecture in a few words."""
    if network["family"] == "core":
        tile = f", tiles of {1 << network['tile']}" if network["tile"] else ""
        colour = f" + {network['colour']} colour grids" if network["colour"] else ""
        return (
            f"core fusion, {network['levels']} levels{colour}, context {network['width']} wide, "
            f"tail {network['hidden']} wide + {network['residuals']} residual layers, prior "
            f"{network['prior']}{tile}"
        )
    return (
        f"rank fusion, {network['partition']} {network['fusion']}, {network['encoding']} encoding, "
        f"{network['activation']}, M={network['features']} R={network['rank']}, "
        f"{network['branch_layers']}+{network['tail_layers']} layers"
    )
