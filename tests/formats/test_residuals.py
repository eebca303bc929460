import numpy as np
import pytest

from formats.entropy import constriction_stream, model_weights
from formats.residuals import LatentDecoder, LatentEncoder, keys_of, latent_bits
from formats.tables import (
    FAR,
    LATENT_SCALES,
    excess_frequencies,
    latent_frequencies,
    latent_support,
)


def passes_of_latents(seed: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Keys and residuals of some passes, of all scales, to the ends of their reach."""
    rng = np.random.default_rng(seed)
    found = []
    for size in rng.integers(0, 60, count):
        scales = rng.integers(1, LATENT_SCALES, size)
        keys = keys_of(scales, rng.integers(-99, 99, size))
        spread = 2.0 ** ((scales - 22) / 5)
        reach = np.array([latent_support(int(s)) for s in scales], np.int64)
        residuals = np.clip(np.rint(rng.laplace(0, spread)), -reach, reach)
        residuals[::7] = reach[::7]
        found.append((keys.astype(np.intp), residuals.astype(np.int32)))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_residuals_of_latents_round_trip_pass_by_pass(seed: int) -> None:
    plan = passes_of_latents(seed, 12)
    encoder = LatentEncoder()
    for keys, residuals in plan:
        encoder.encode(keys, residuals)
    data = encoder.done()
    decoder = LatentDecoder(data, "test")
    for keys, residuals in plan:
        assert np.array_equal(decoder.decode(keys), residuals)
    decoder.finish()
    bits = sum(latent_bits(keys, residuals) for keys, residuals in plan)
    assert bits <= 8 * len(data) <= bits * 1.001 + 64


def test_a_pass_is_coded_as_its_symbols_one_by_one() -> None:
    """Rows of parameters in single precision mean exactly the integer tables."""
    stream = constriction_stream()
    for keys, residuals in passes_of_latents(9, 6):
        encoder, plain = LatentEncoder(), stream.queue.RangeEncoder()
        encoder.encode(keys, residuals)
        far = []
        for number, (key, residual) in enumerate(
            zip(keys.tolist(), residuals.tolist(), strict=True)
        ):
            scale, mean = divmod(key, 32)
            table = model_weights(latent_frequencies()[scale, abs(mean - 16)])
            near = max(-FAR, min(FAR, residual)) + FAR
            plain.encode(near, stream.model.Categorical(table, perfect=False))
            if abs(residual) >= FAR:
                far.append((scale, number, abs(residual) - FAR))
        for scale, _, excess in sorted(far):
            table = model_weights(excess_frequencies(scale))
            plain.encode(excess, stream.model.Categorical(table, perfect=False))
        assert encoder.done() == plain.get_compressed().astype("<u4").tobytes()
