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


def extension(name: str) -> Extension:
    """A module of one C file; all of them share headers."""
    headers = [*Path().glob("formats/*.h"), *Path().glob("codec/cpu/*.h")]
    return Extension(
        name,
        [f"{name.replace('.', '/')}.c"],
        depends=[str(header) for header in headers],
        extra_compile_args=FLAGS,
        py_limited_api=STABLE,
        optional=True,
    )


setup(
    ext_modules=[
        extension("formats._native"),
        extension("codec.cpu._interpolation"),
        extension("codec.cpu._rate"),
        extension("codec.cpu._synthesis"),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE else {},
)
