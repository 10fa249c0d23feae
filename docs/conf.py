"""Sphinx: the documentation site. `make docs` stages its pages (stage.py) and builds it; warnings are errors."""

project = "nacre"
author = "The nacre authors"
extensions = ["myst_parser"]
myst_heading_anchors = 4
highlight_language = "none"  # of code blocks that name no language
html_theme = "furo"
html_title = "nacre"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
