"""The rate of latents: the context network of formats/context.py as a differentiable loss."""

from codec.rate.context import ContextRate
from codec.rate.laplace import laplace_rate

__all__ = ["ContextRate", "laplace_rate"]
