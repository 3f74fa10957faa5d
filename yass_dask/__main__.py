"""`python -m yass_dask` is `yass`."""

from yass_dask.cli import main

if __name__ == "__main__":
    main()
