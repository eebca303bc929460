import numpy as np
import numpy.typing as npt

DONE: int
INVALID: int
SHORT: int
NO_MEMORY: int

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]

def decode_grid(
    coder: npt.NDArray[np.uint64],
    words: npt.NDArray[np.uint32],
    grid: Integers,
    above: Integers | None,
    first: Floats,
    bias: Floats,
    hidden: Floats,
    hidden_bias: Floats,
    out: Floats,
    near: Integers,
    far: Integers,
    far_start: npt.NDArray[np.int64],
    shape: tuple[int, int, int],
    numbers: tuple[int, int, int, int],
    instructions: int,
    /,
) -> int: ...
def instructions() -> list[tuple[str, bool]]: ...
