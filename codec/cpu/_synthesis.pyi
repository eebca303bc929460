import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

def error(
    features: Floats,
    first: Floats,
    output: Floats,
    kernels: Floats,
    biases: Floats,
    scratch: Floats,
    target: Floats,
    slopes: Floats,
    sums: npt.NDArray[np.float64],
    sizes: tuple[int, int, int, int],
    shape: tuple[int, int],
    instructions: int,
    /,
) -> float: ...
def samples(
    features: Floats,
    first: Floats,
    output: Floats,
    kernels: Floats,
    biases: Floats,
    scratch: Floats,
    out: Floats,
    sizes: tuple[int, int, int, int],
    shape: tuple[int, int],
    instructions: int,
    /,
) -> None: ...
def scratch_size(channels: int, height: int, width: int, pictures: int, /) -> int: ...
def instructions() -> list[tuple[str, bool]]: ...
