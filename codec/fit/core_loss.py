"""What a core fit minimises: D + lambda R of latents and networks, with its gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from codec.areas import grids_of
from codec.fit.core_config import CoreFitConfig
from codec.fit.core_distortion import CoreDistortion, DistortionResult
from codec.fit.firm_weights import FirmWeights
from codec.fit.lanes import Lanes
from codec.fit.weight_price import WeightPrice
from codec.network.coded import prior_weights
from codec.network.core import CoreCoordX
from codec.rate import ContextRate
from codec.rate.context import RateResult

__all__ = ["CoreLoss", "Terms"]


@dataclass
class Terms:
    """The loss of a step and its gradients.

    Attributes:
        bits: of the latents, a scalar tensor.
        mse: a scalar tensor.
        latents: gradient by the softened latents, one vector.
        weights: gradient by network tensor, the price of its own bits included.
    """

    bits: Tensor
    mse: Tensor
    latents: Tensor
    weights: dict[str, Tensor]


class CoreLoss:
    """Distortion, rate and price of the weights of one picture.

    Args:
        net: the network, on its device; the loss sees its weights as they are at each call.
        target: (channels, height, width) float32 samples in [0, 1], on the same device.
        config: see `CoreFitConfig`.

    Attributes:
        distortion, rate: of latents, see the classes.
        price: bits of the networks' weights.
        firm: the context's weights as the loss sees them.
        lanes: the threads; two of them share an evaluation.
    """

    def __init__(self, net: CoreCoordX, target: Tensor, config: CoreFitConfig) -> None:
        self.net, self.config = net, config
        self.price = WeightPrice(net.by_name(), prior_weights(net))
        self.firm = FirmWeights(net.by_name(), self.price)
        self.distortion = CoreDistortion(net.config, target)
        self.rate = ContextRate(net.config, net.height, net.width, target.device)
        self.lanes = Lanes(target.device)
        self._shapes = [(q.shape[0], q.shape[1]) for q in net.latents]
        # Sums of two portions differ in the last bits, so the number of threads matters.
        self._portions = self.rate.divided(self._share() if self.lanes.parallel else 1.0)

    def split(self, flat: Tensor) -> list[Tensor]:
        """One vector of all latents as grids by number."""
        return grids_of(flat, self._shapes)

    def evaluate(
        self,
        latents: Tensor,
        exact: bool,
        gradient: bool = True,
        weights: Mapping[str, Tensor] | None = None,
    ) -> tuple[DistortionResult, RateResult]:
        """Distortion and rate of a vector of latents, with gradients of D + lambda R.

        Args:
            latents: all grids as one vector.
            exact: the rate is what the integer context network says.
            gradient: also the gradients of the rate.
            weights: of the networks, by name, instead of their own.

        Returns:
            The error of the picture and the bits of the latents; gradients where asked for.
        """
        weights = self.net.by_name() if weights is None else weights
        grids = self.split(latents)
        context = {k: v for k, v in weights.items() if k.startswith("context.")}
        synthesis = {k: v for k, v in weights.items() if not k.startswith("context.")}
        scale = self.config.lam / self.net.pixels
        here, aside = (
            partial(portion, context, latents, scale, gradient=gradient, exact=exact)
            for portion in self._portions
        )
        if not self.lanes.parallel:
            return self.distortion(synthesis, grids), here()
        (found, first), second = self.lanes.both(
            lambda: (self.distortion(synthesis, grids), here()), aside
        )
        return found, first + second

    def terms(self, softened: Tensor, firmed: Tensor, slopes: Tensor) -> Terms:
        """The loss and the gradients of all that is fitted.

        Args:
            softened: latents as the loss sees them.
            firmed, slopes: weights of the context, and the slopes of these by the real ones.
        """
        own = self.net.by_name()
        seen = own | self.firm.split(firmed)
        found, rate = self.evaluate(softened, exact=False, weights=seen)
        latents = torch.cat([d.flatten() for d in found.latents]).add_(rate.latents)
        weights = found.weights | rate.weights
        for name, slope in self.firm.split(slopes).items():
            weights[name].mul_(slope)
        if self.config.weight_price:
            price = self.config.weight_price * self.config.lam / self.net.pixels
            for name, slope in self.price.gradient(own).items():
                weights[name].add_(slope, alpha=price)
        return Terms(rate.bits, found.mse, latents, weights)

    def close(self) -> None:
        """End the second thread; nothing can be evaluated any more where there are two."""
        self.lanes.close()

    def _share(self) -> float:
        """The share of the rate that is evaluated on the side of the distortion."""
        config, lengths = self.net.config, self.net.lengths
        latents = config.latents(lengths["y"], lengths["x"])
        context = config.context_macs * latents
        if self.rate.fused is not None:
            # In multiplications of the rate that take as long, by timing both.
            distortion = self.net.pixels * (1250 + 10 * config.hidden)
            return max(0.0, 0.5 - 0.5 * distortion / context)
        others = config.macs(lengths, self.net.channels) - context
        # A multiplication of the distortion takes about twice the time.
        return max(0.0, 0.5 - others / context)
