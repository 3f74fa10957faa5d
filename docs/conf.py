"""Settings of the documentation: `make docs` builds it, warnings are errors."""

import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "_ext")]

import yass_dask  # noqa: E402

# Public names that are a module's name too (simulate) mean the function from here on.
for name in yass_dask.__all__:
    getattr(yass_dask, name)

about = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
project = about["name"]
author = "the authors of yass-dask"
copyright = author
version = release = about["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx_copybutton", "models", "outside"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# The page of another part of the documentation appears when its file does.
suppress_warnings = ["toc.empty_glob"]

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"yass_dask {release}"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
html_copy_source = False
html_show_sphinx = False
