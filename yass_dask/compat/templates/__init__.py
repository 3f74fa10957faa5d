"""Step 4: units to templates."""

from yass_dask.compat.templates.run import run
from yass_dask.templatesprocessor import TemplatesProcessor

__all__ = ["TemplatesProcessor", "run"]
