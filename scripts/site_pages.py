"""A hook of mkdocs. README.md and CONTRIBUTING.md are at the root for GitHub; this makes them pages of the
site too.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages. Their links into docs/ lead to pages of the site."""
    for name, page in PAGES.items():
        text = (
            (ROOT / name)
            .read_text(encoding="utf-8")
            .replace("](docs/", "](")
            .replace("](README.md", "](index.md")
        )
        files.append(File.generated(config, page, content=text))
    return files
