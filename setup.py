"""The modules in machine code; all else is in pyproject.toml.

They are optional: without a compiler the package is complete, and slower.
"""

from pathlib import Path

from setuptools import Extension, setup

# Flags for arithmetic that the loops need to become vectors. Neither infinities nor NaNs arise in
# integers; a fit that diverges finds its NaNs in Python (codec/fit/core_loop.py).
FLAGS = [
    "-O3",
    "-std=gnu11",
    "-fno-wrapv",
    "-ffp-contract=fast",
    "-fno-signed-zeros",
    "-ffinite-math-only",
    "-fno-trapping-math",
]


def extension(name: str, headers: str) -> Extension:
    """A module of one C file, which includes `headers`."""
    return Extension(
        name,
        [f"{name.replace('.', '/')}.c"],
        depends=[*map(str, Path().glob(headers)), "formats/_sets.h"],
        extra_compile_args=FLAGS,
        py_limited_api=True,
        optional=True,
    )


setup(
    ext_modules=[
        extension("formats._native", "formats/*.h"),
        extension("codec.cpu._rate", "codec/cpu/*.h"),
        extension("codec.cpu._synthesis", "codec/cpu/*.h"),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
