"""The decoder of latents in machine code; all else is in pyproject.toml.

It is optional: without a compiler the package is complete, and decodes more slowly.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "formats._native",
            ["formats/_native.c"],
            depends=["formats/_network.h"],
            extra_compile_args=[
                "-O3",
                "-std=gnu11",
                "-ffp-contract=fast",
                "-fno-signed-zeros",
                "-ffinite-math-only",
                "-fno-trapping-math",
            ],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
