from dataclasses import dataclass
from formats.network import TensorSpec
@dataclass(frozen=True)
class CoreConfig:
    levels: int = 7
    hidden: int = 16
    residuals: int = 2
    width: int = 16
    octaves: int = 3
    magnitudes: bool = False
    prior: int = 0
    tile: int = 0
    @property
    def axes(self): return ("y", "x")
    def level_shapes(self, h, w): return [(-(-h // (1 << l)), -(-w // (1 << l))) for l in range(self.levels)]
    def tensors(self, lengths, channels):
        C, L, w, m, K = channels, self.levels, self.width, 1 + self.magnitudes, self.octaves
        S = [("context.first", (w, 40 * m))] + ([("context.parent", (w, 9))] if L > 1 else [])
        S += [("context.bias", (w, 3 * K + 1)), ("context.hidden", (w, w)), ("context.hidden_bias", (w,)), ("context.out", (2, w)), ("context.level", (2, L))]
        if L > 1: S += [("kernel", (L - 1, 4))]
        S += [("filter", (L, 4)), ("tail.weight", (self.hidden, L)), ("tail.bias", (self.hidden,)), ("output.weight", (C, self.hidden)), ("output.bias", (C,)), ("skip", (C, L))]
        for i in range(self.residuals): S += [(f"residual{i}.weight", (C, C, 3, 3)), (f"residual{i}.bias", (C,))]
        return [TensorSpec(*s) for s in S]
    def parameters(self, lengths, channels): return sum(s.size for s in self.tensors(lengths, channels))
