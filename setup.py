"""The modules in machine code; all else is in pyproject.toml.

They are optional: without a compiler the package is complete, and slower.
"""

import sysconfig
from pathlib import Path

from setuptools import Extension, setup

# Arithmetic as loops need it to become vectors; NaNs and infinities stay what they are.
FLAGS = [
    "-O3",
    "-std=gnu11",
    "-fno-wrapv",
    "-ffp-contract=fast",
    "-fno-signed-zeros",
    "-fno-trapping-math",
]
# A free-threaded Python has no stable interface yet.
STABLE = not sysconfig.get_config_var("Py_GIL_DISABLED")


def extension(name: str, headers: str) -> Extension:
    """A module of one C file, which includes `headers`."""
    return Extension(
        name,
        [f"{name.replace('.', '/')}.c"],
        depends=[*map(str, Path().glob(headers)), "formats/_sets.h"],
        extra_compile_args=FLAGS,
        py_limited_api=STABLE,
        optional=True,
    )


setup(
    ext_modules=[
        extension("formats._native", "formats/*.h"),
        extension("codec.cpu._rate", "codec/cpu/*.h"),
        extension("codec.cpu._synthesis", "codec/cpu/*.h"),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE else {},
)
