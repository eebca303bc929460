import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Place = tuple[int, int, int, int]

def rate_rows(
    latents: Floats,
    slopes: Floats,
    sums: npt.NDArray[np.float64],
    first: Floats,
    parent: Floats | None,
    bias: Floats,
    hidden: Floats,
    hidden_bias: Floats,
    out: Floats,
    masks: Floats,
    own: Place,
    parents: Place,
    rows: tuple[int, int, int],
    level: tuple[float, ...],
    factor: float,
    instructions: int,
    /,
) -> None: ...
def instructions() -> list[tuple[str, bool]]: ...
