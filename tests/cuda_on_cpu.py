"""CuPy kernels without a GPU: NumPy in CuPy's place, and the CUDA sources compiled by a C++ compiler.

The stand-in is stricter than NumPy. As with CuPy, arrays of the host and of the device do not mix; and whatever would
bring a value to the host (`get`, `int(x)`, `if x`) raises, since kernels must not. Blocks that wait for each other run
in threads, all others one after the other.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

_barred: list[bool] = []

MULTIPROCESSORS = 3
THREADS_TOGETHER = 8

PRELUDE = r"""
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <pthread.h>
#include <sched.h>
#include <thread>
#include <vector>
using std::max;
using std::min;
struct Index { unsigned x; };
static thread_local Index threadIdx, blockIdx;
static Index blockDim, gridDim;
static std::vector<pthread_barrier_t> barriers;
static std::vector<std::vector<char>> pools;
#define __global__
#define __device__ static
static void sync_block() { pthread_barrier_wait(&barriers[blockIdx.x]); }
#define __syncthreads() sync_block()
#define __threadfence() std::atomic_thread_fence(std::memory_order_seq_cst)
template <class T> T atomicAdd(T* at, T value) { return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST); }
#define SHARED(type, name, length) type* name = (type*)&pools[blockIdx.x][__COUNTER__ * 8192]
#define PAUSE() sched_yield()
static void run(int grid, int block, bool together, std::function<void()> kernel) {
    gridDim = {(unsigned)grid};
    blockDim = {(unsigned)block};
    auto one = [&](unsigned b, unsigned t) { blockIdx = {b}; threadIdx = {t}; kernel(); };
    if (!together) {
        for (int b = 0; b < grid; b++) for (int t = 0; t < block; t++) one(b, t);
        return;
    }
    barriers = std::vector<pthread_barrier_t>(grid);
    pools = std::vector<std::vector<char>>(grid, std::vector<char>(65536));
    for (auto& barrier : barriers) pthread_barrier_init(&barrier, nullptr, block);
    std::vector<std::thread> threads;
    for (int b = 0; b < grid; b++) for (int t = 0; t < block; t++) threads.emplace_back(one, b, t);
    for (auto& thread : threads) thread.join();
}
"""


def compiler() -> str:
    """Path of a C++ compiler; without one a test is skipped."""
    found = shutil.which("g++") or shutil.which("clang++")
    return found or pytest.skip("no C++ compiler, which stands in for a GPU: install g++ or clang++")


@functools.cache
def library(source: str) -> ctypes.CDLL:
    """The kernels of a CUDA source as functions `launch_<name>(grid, block, together, ...)`."""
    kernels = re.findall(r'extern "C" __global__ void (\w+)\(\s*(.*?)\s*\)\s*\{', source, re.DOTALL)
    launchers = "".join(_launcher(name, parameters) for name, parameters in kernels)
    folder = Path(tempfile.gettempdir()) / "cuda_on_cpu"
    folder.mkdir(exist_ok=True)
    text = PRELUDE + source + launchers
    stem = folder / hashlib.sha256(text.encode()).hexdigest()[:20]
    made = stem.with_suffix(".so")
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=folder) as own:
            code, output = Path(own) / "kernel.cpp", Path(own) / "kernel.so"
            code.write_text(text)
            options = ["-O2", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=off", "-pthread", "-w"]
            subprocess.run([compiler(), *options, str(code), "-o", str(output)], check=True)
            output.replace(made)
    return ctypes.CDLL(str(made))


def _launcher(name: str, parameters: str) -> str:
    names = ", ".join(re.findall(r"(\w+)\s*(?:,|$)", parameters))
    return (
        f'extern "C" void launch_{name}(int grid, int block, bool together, {parameters}) {{\n'
        f"    run(grid, block, together, [=] {{ {name}({names}); }});\n}}\n"
    )


class RawKernel:
    """Takes what CuPy's takes: (grid, block, arguments)."""

    def __init__(self, code: str, name: str, *, enable_cooperative_groups: bool = False) -> None:
        self.together = enable_cooperative_groups
        self.launch = getattr(library(code), f"launch_{name}")

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
        n_threads = min(block[0], THREADS_TOGETHER) if self.together else block[0]
        self.launch(grid[0], n_threads, self.together, *map(_as_c, args))


def _as_c(value: Any) -> Any:
    if isinstance(value, DeviceArray):
        assert value.flags.c_contiguous
        return ctypes.c_void_p(value.ctypes.data)
    kinds = {np.int32: ctypes.c_int, np.int64: ctypes.c_longlong, np.float32: ctypes.c_float}
    return kinds[type(value)](value)  # a plain number has no size: an error in CuPy's kernels too


class DeviceArray(np.ndarray):
    """An array that stays where it is and does not mix with the host's."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        _refuse_host(inputs)
        plain = [x.view(np.ndarray) if isinstance(x, DeviceArray) else x for x in inputs]
        if options.get("out"):
            options["out"] = tuple(x.view(np.ndarray) for x in options["out"])
        return on_device(getattr(ufunc, method)(*plain, **options))

    def __getitem__(self, index: Any) -> Any:
        _refuse_host(index if isinstance(index, tuple) else (index,))
        return on_device(self.view(np.ndarray)[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        _refuse_host((*(index if isinstance(index, tuple) else (index,)), value))
        self.view(np.ndarray)[index] = value

    def _stays(self, *_: Any) -> Any:
        raise AssertionError("a kernel brought a value of the device to the host")

    item = tolist = __int__ = __float__ = __bool__ = __index__ = _stays

    def get(self) -> np.ndarray:
        """The array on the host."""
        if _barred:
            self._stays()
        return self.view(np.ndarray)


def _refuse_host(values: Any) -> None:
    for value in values:
        if isinstance(value, np.ndarray) and not isinstance(value, DeviceArray):
            raise TypeError("arrays of the host and of the device do not mix")


def on_device(value: Any) -> Any:
    """As an array of the device; tuples item by item."""
    if isinstance(value, tuple):
        return tuple(on_device(item) for item in value)
    return np.asarray(value).view(DeviceArray) if isinstance(value, np.ndarray | np.generic) else value


@contextlib.contextmanager
def barred() -> Iterator[None]:
    """Inside, nothing may be brought to the host."""
    _barred.append(True)
    try:
        yield
    finally:
        _barred.pop()


def _function(function: Any, *, takes_host: bool = False) -> Any:
    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        if not takes_host:
            _refuse_host(args)
        plain = [x.view(np.ndarray) if isinstance(x, DeviceArray) else x for x in args]
        return on_device(function(*plain, **options))

    return wrapped


@functools.cache
def module() -> ModuleType:
    """What stands for `cupy`."""
    cupy = ModuleType("cupy")
    moves = {"array", "asarray", "ascontiguousarray"}
    functions = {"zeros", "ones", "arange", "abs", "count_nonzero", "clip", "rint", "sort", "nonzero", "where", "conj",
                 "lexsort", "stack", "maximum"}  # fmt: skip
    for name in functions | moves:
        setattr(cupy, name, _function(getattr(np, name), takes_host=name in moves))
    for name in ("int8", "int16", "int32", "int64", "uint32", "float32", "complex64"):
        setattr(cupy, name, getattr(np, name))
    cupy.fft = SimpleNamespace(rfft=_function(np.fft.rfft), irfft=_function(np.fft.irfft))
    device = SimpleNamespace(attributes={"MultiProcessorCount": MULTIPROCESSORS})
    cupy.cuda = SimpleNamespace(Device=lambda: device)
    cupy.RawKernel = RawKernel
    return cupy


@contextlib.contextmanager
def in_place_of_cupy() -> Iterator[None]:
    """What is imported inside takes the stand-in for CuPy."""
    before = sys.modules.get("cupy")
    sys.modules["cupy"] = module()
    try:
        yield
    finally:
        del sys.modules["cupy"]
        if before is not None:
            sys.modules["cupy"] = before
