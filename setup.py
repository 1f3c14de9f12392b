"""The one extension module; everything else is in pyproject.toml.

Built against the limited API of CPython 3.11, the first whose stable ABI has the buffer protocol, so one wheel
serves every later CPython. `optional`: without a compiler the install goes on and `kvip._arp_py` does the work.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "kvip._arp",
            ["kvip/_arp.pyx"],
            define_macros=[("Py_LIMITED_API", "0x030B0000"), ("CYTHON_LIMITED_API", "1")],
            py_limited_api=True,
            extra_compile_args=["-O2", "-g0"],
            extra_link_args=["-Wl,-s"],
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
