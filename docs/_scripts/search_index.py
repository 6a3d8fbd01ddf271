"""Lets the site's search work without a server: browsers read no JSON from files, but they do run scripts.

MkDocs calls `on_post_build`, after the search plugin has written its index.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_post_build(config: Any) -> None:
    """Write search/search_index.js, which Material loads for pages at file:// addresses."""
    index = Path(config.site_dir) / "search" / "search_index.json"
    index.with_suffix(".js").write_text(f"var __index = {index.read_text(encoding='utf-8')}", encoding="utf-8")
