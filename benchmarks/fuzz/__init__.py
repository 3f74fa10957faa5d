"""Bad input by the thousand: files, structures and arguments that came to harm, handed to the package.

Of each kind there is good input that is hurt in some way Hypothesis chooses. What must hold: the package takes it, or
refuses it by an InputError that says something (on the command line: exit code 2); no file is touched but in the output
folder; and what was refused left nothing that opens as a finished sorting. `python -m benchmarks.fuzz` runs any number
of cases, tests/test_fuzz.py some.
"""
