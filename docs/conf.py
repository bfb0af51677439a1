"""Sphinx configuration: MyST pages, API from docstrings."""

import pyhbt

project = "PyHBT"
author = "The PyHBT authors"
release = version = pyhbt.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
html_theme = "furo"
html_title = f"PyHBT {release}"
exclude_patterns = ["_build"]
nitpicky = False
