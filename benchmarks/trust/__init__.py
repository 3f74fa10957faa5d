"""Whether a sort can be trusted: the same answer whatever happens, and what happens when things break.

`python -m benchmarks.trust same|faults|fuzz`; `make bench-trust` runs all. Faults are injected for real: signals,
mounts, damaged files, clocks that jump. What was seen is written to `benchmarks/results/trust.md` and `docs/trust.md`.
"""
