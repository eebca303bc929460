import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

def expand(
    latents: Floats,
    kernel: Floats,
    out: Floats,
    shape: tuple[int, int],
    kernel_at: tuple[int, int],
    part: tuple[int, int, int, int],
    instructions: int,
    /,
) -> None: ...
def contract(
    latents: Floats,
    kernel: Floats,
    slopes: Floats,
    grad: Floats,
    by_kernel: npt.NDArray[np.float64],
    shape: tuple[int, int],
    kernel_at: tuple[int, int],
    size: tuple[int, int],
    instructions: int,
    /,
) -> None: ...
def instructions() -> list[tuple[str, bool]]: ...
