"""The kernel that turns the bases of SOAP's preconditioners (codec/fit/soap.py).

Orthogonal columns by Gram and Schmidt, twice, where a CPU has Householder's. They take the
shifted preconditioner, whose eigenvectors are the same: no column of the product is zero then,
whatever directions have had no gradient.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["turn"]


@triton.jit
def _orthogonal(a, n, SIZE: tl.constexpr):
    """Orthonormal columns that span what those of `a` span, one after the other."""
    m = tl.arange(0, SIZE)
    j = 0
    while j < n:
        here = (m == j)[None, :]
        v = tl.sum(tl.where(here, a, 0.0), 1)
        v = v / tl.maximum(tl.sqrt(tl.sum(v * v, 0)), 1e-30)
        along = tl.where(m > j, tl.sum(v[:, None] * a, 0), 0.0)
        a = tl.where(here, v[:, None], a - v[:, None] * along[None, :])
        j += 1
    return a


@triton.jit
def turn(
    matrices,
    square,
    outer,
    basis,
    rows,
    columns,
    AXIS: tl.constexpr,
    SHIFT: tl.constexpr,
    SIZE: tl.constexpr,
    OTHER: tl.constexpr,
):
    """Turn the bases of one axis of all matrices, and the squares of gradients with them."""
    me = tl.program_id(0)
    length = tl.load(matrices + me * 3 + 1 + AXIS)
    side = rows if AXIS == 0 else columns
    n, m, k = tl.arange(0, SIZE), tl.arange(0, SIZE), tl.arange(0, OTHER)
    real = (n < length)[:, None] & (m < length)[None, :]
    eye = n[:, None] == m[None, :]
    place = me * side * side + n[:, None] * side + m[None, :]
    old = tl.load(basis + place, mask=real, other=0.0)
    o = tl.load(outer + place, mask=real, other=0.0)
    shift = SHIFT * tl.sum(tl.sum(tl.where(eye, o, 0.0), 1), 0) / length + 1e-30
    product = tl.dot(o, old, input_precision="tf32x3")
    size = tl.where(m < length, tl.sum(old * product, 0), float("-inf"))
    # The same numbers along the other axis of the tile, and each one's rank.
    across = tl.sum(tl.where(eye, size[None, :], 0.0), 1)
    across = tl.where(n < length, across, float("-inf"))
    before = (across[:, None] > size[None, :]) | (
        (across[:, None] == size[None, :]) & (n[:, None] < m[None, :])
    )
    rank = tl.sum(before.to(tl.int32), 0)
    down = tl.sum(tl.where(eye, rank[None, :], 0), 1)
    moves = (down[:, None] == m[None, :]).to(tl.float32)
    a = tl.dot(product + shift * old, moves, input_precision="tf32x3")
    scale = tl.sqrt(tl.sum(tl.sum(a * a, 1), 0) / length)
    a = tl.where(real, a / tl.maximum(scale, 1e-30), tl.where(eye, 1.0, 0.0))
    a = _orthogonal(a, length, SIZE)
    a = _orthogonal(a, length, SIZE)
    tl.store(basis + place, a, mask=real)
    if AXIS == 0:
        there = square + me * rows * columns + n[:, None] * columns + k[None, :]
        known = (n < rows)[:, None] & (k < columns)[None, :]
        v = tl.load(there, mask=known, other=0.0)
        v = tl.dot(tl.trans(moves), v, input_precision="tf32x3")
    else:
        there = square + me * rows * columns + k[:, None] * columns + n[None, :]
        known = (k < rows)[:, None] & (n < columns)[None, :]
        v = tl.load(there, mask=known, other=0.0)
        v = tl.dot(v, moves, input_precision="tf32x3")
    tl.debug_barrier()
    tl.store(there, v, mask=known)
