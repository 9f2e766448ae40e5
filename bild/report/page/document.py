"""The page as one file: template, style, scripts, libraries and data put together, and shut off from the network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
VENDOR = ("d3.min.js", "plot.umd.min.js")
SCRIPTS = ("dom", "tree", "policy", "score", "prices", "replays", "tokens", "front", "explore", "examples", "main")
"""In the order they need each other."""
POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; "
    "connect-src 'none'; base-uri 'none'; form-action 'none'"
)
"""Nothing is fetched, and no script runs but those that were put in here, whose hashes it names."""
_SLOT = re.compile(r"\{\{(\w+)\}\}")


def vendored() -> dict[str, dict[str, str]]:
    """Of each bundled library: package, version, registry, file, licence and sha256."""
    found: dict[str, dict[str, str]] = json.loads((HERE / "vendor" / "vendored.json").read_text(encoding="utf-8"))
    return found


def document(title: str, data: Mapping[str, Any], figures: str = "") -> str:
    """The whole page. `title` and `data` are escaped here; `figures` must be safe markup."""
    sources = [(HERE / "vendor" / name).read_text(encoding="utf-8") for name in VENDOR]
    sources += [(HERE / "js" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    sources = [f"\n{source.strip()}\n" for source in sources]
    versions = vendored()
    return fill(
        (HERE / "template.html").read_text(encoding="utf-8"),
        {
            "title": html.escape(title),
            "policy": POLICY.format(scripts=" ".join(f"'sha256-{_digest(source)}'" for source in sources)),
            "style": (HERE / "style.css").read_text(encoding="utf-8").strip(),
            "figures": figures,
            "data": script_safe(json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))),
            "scripts": "\n".join(f"<script>{source}</script>" for source in sources),
            "d3": versions["d3.min.js"]["version"],
            "plot": versions["plot.umd.min.js"]["version"],
        },
    )


def script_safe(text: str) -> str:
    """JSON that can stand in a <script>: no tag, comment or line end of JavaScript's can begin in it."""
    return (
        text.replace("&", "\\u0026")
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with every {{name}} replaced, once: what is put in is not looked at again."""
    return _SLOT.sub(lambda slot: values[slot[1]], template)


def _digest(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode("utf-8")).digest()).decode("ascii")
