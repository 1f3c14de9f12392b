"""The extension modules; everything else is in pyproject.toml.

Built against the limited API of CPython 3.11, the first whose stable ABI has the buffer protocol, so one wheel
serves every later CPython. `optional`: without a compiler the install goes on and the twins (`kvip._arp_py`, `kvip._rtnl_py`) do the work.
"""

from setuptools import Extension, setup


def extension(name: str) -> Extension:
    return Extension(
        f"kvip.{name}",
        [f"kvip/{name}.pyx"],
        define_macros=[("Py_LIMITED_API", "0x030B0000"), ("CYTHON_LIMITED_API", "1")],
        py_limited_api=True,
        extra_compile_args=["-O2", "-g0"],
        extra_link_args=["-Wl,-s"],
        optional=True,
    )


setup(
    ext_modules=[extension("_arp"), extension("_rtnl")],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
