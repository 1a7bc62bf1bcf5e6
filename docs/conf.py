"""How the pages of this folder become a site: `make docs` builds it into site/, to be opened from disk."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import lago_skills

project = "lago-skills"
copyright = "the authors of lago-skills, Apache-2.0"
version = release = lago_skills.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "scripts.linked_sources",
]
exclude_patterns = ["_static", "Thumbs.db", ".DS_Store"]
linked_sources_root = str(ROOT)

myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
highlight_language = "none"  # of what says no language

default_role = "code"  # docstrings say `name` as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
OUTSIDE = r"(?!lago_skills\.).*"
"""Names of other packages, which cannot be looked up without a network."""
INSIDE = (
    r"(decoder|query|words|guide\.(retrieval|learned_policy))\.",
    r"rl\.(sac|ppo|policy|loop\.AgentT)",
    r"prior\..*Components",
    r"library\.storage\.(store\.SkillStore|transaction)",
    r"worlds\.(interface|gym\.env\.Adapted|grounding\.(AnchoredState|RelatedState|Variation))",
)
"""What signatures name and nobody imports: it has no entry in the reference."""
nitpick_ignore_regex = [("py:.*", OUTSIDE), *(("py:.*", rf"lago_skills\.{each}.*") for each in INSIDE)]
copybutton_exclude = ".linenos, .gp, .go"

smartquotes = False  # or `--option` has a dash

html_theme = "furo"
pygments_dark_style = "monokai"
html_title = "lago-skills"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_sourcelink = False
html_show_sphinx = False
