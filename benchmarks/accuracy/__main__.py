"""`python -m benchmarks.accuracy`."""

from benchmarks.accuracy.cli import main

main()
