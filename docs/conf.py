"""Sphinx configuration: MyST pages, and a reference made from the code by docs/public_names.py."""

import sys
from pathlib import Path

import pyhbt

sys.path.insert(0, str(Path(__file__).parent))

project = "PyHBT"
author = "The PyHBT authors"
release = version = pyhbt.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "public_names",
]
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
html_theme = "furo"
html_title = f"PyHBT {release}"
exclude_patterns = ["_build"]
nitpicky = False
