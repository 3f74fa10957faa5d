"""Kernels: plain arrays in, plain arrays out. One kernel, one file: `<kernel>_<backend>.py`.

The NumPy file is the specification (dtype, edges, ties in words); the others agree with it within the tolerance
that `tests/test_kernels.py` states. `ls` of this folder is the coverage table.
"""
