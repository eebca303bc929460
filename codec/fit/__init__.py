"""Overfit a CoordX network to one signal, with the rate of its weights in the loss."""
