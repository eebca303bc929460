"""CoordX networks: coordinates in, samples out, one evaluation per axis."""

from codec.network.coordx import CoordX
from codec.network.grid import AXES, AxisGrid

__all__ = ["AXES", "AxisGrid", "CoordX"]
