"""Puts the pages that are made from the code into the site and its navigation (MkDocs hooks)."""

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

import generated


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The headings that stand for generated pages have these below them."""
    nav: list[dict[str, Any]] = config["nav"]
    made = generated.navigation()
    for entry in nav:
        entry.update({heading: made[heading] for heading in entry if heading in made})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The generated pages, beside those that are written by hand."""
    for path, text in generated.pages().items():
        files.append(File.generated(config, path, content=text))
    return files
