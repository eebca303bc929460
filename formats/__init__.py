"""The `.crdx` file format: integers only, no torch, the one place that reads untrusted bytes."""

__coordx_codec__ = True
"""Marks this package as ours: `formats` is a common name, see `codec/__init__.py`."""
