"""Draws the figures of docs/ from their text, docs/figures/*.mmd (Mermaid) and *.json (WaveDrom):
`python -m scripts.figures`.

The drawings are committed, because GitHub does not show WaveDrom. A test fails if text and drawing differ.
Nothing is fetched: mermaidx contains mermaid.js and an interpreter for it.
"""

from __future__ import annotations

from pathlib import Path

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import write_text
from scripts.command import command

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "figures"

# Labels as SVG text: an <img> shows no HTML inside an SVG.
MERMAID = {
    "htmlLabels": False,
    "theme": "neutral",
    "flowchart": {
        "htmlLabels": False,
        "nodeSpacing": 40,
        "rankSpacing": 30,
        "wrappingWidth": 400,
        "subGraphTitleMargin": {"top": 5, "bottom": 15},
    },
}


def sources() -> list[Path]:
    """The texts of all figures."""
    return sorted([*FOLDER.glob("*.mmd"), *FOLDER.glob("*.json")])


def draw(source: Path) -> str:
    """The SVG of one figure, on white, so that it can be read on a dark page."""
    if source.suffix == ".mmd":
        import mermaidx

        svg = mermaidx.render(source.read_text(encoding="utf-8"), config=MERMAID).svg()
        svg = svg.replace("background-color: transparent", "background-color: white")
    else:
        import wavedrom

        svg = wavedrom.render(source.read_text(encoding="utf-8")).tostring()
        svg = svg.replace("<svg ", '<svg style="background-color: white" ', 1)
    return svg.strip() + "\n"


@command("docs")
def main() -> int:
    for source in sources():
        drawing = source.with_suffix(".svg")
        try:
            write_text(drawing, draw(source))
        except ModuleNotFoundError as error:
            raise TatamiError(
                f"this needs the package '{error.name}'; `make .venv/.docs` installs it"
            ) from None
        print(f"{drawing} written")
    return 0


if __name__ == "__main__":
    main.run()
