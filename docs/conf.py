"""Sphinx: the Markdown guides and the API reference from docstrings, built by `make docs`."""

from importlib.metadata import version as installed_version

project = "ovpn_dco"
author = "The ovpn_dco maintainers"
version = release = installed_version("ovpn-dco")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
root_doc = "index"
html_theme = "alabaster"
html_theme_options = {"page_width": "1100px", "description": "OpenVPN data channel in user space"}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}

myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
# Docstrings are plain text with a little markup of either kind; README links lead out of docs/.
suppress_warnings = ["myst.xref_missing", "docutils", "ref"]
