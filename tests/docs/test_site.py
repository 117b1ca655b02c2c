"""The site of `make docs`: it builds, a broken link ends it, nothing in it is fetched, and its figures are
what their texts say.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import figures

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("mkdocs", reason="mkdocs is not installed (the group `docs` of pyproject.toml)")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return spoilable(tmp_path)


def spoilable(folder: Path) -> Path:
    """What the site is made from, to be spoilt."""
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "scripts/site_pages.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "docs", folder / "docs")
    return folder


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=folder,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_site_builds_and_fetches_nothing(copy: Path) -> None:
    done = build(copy)
    assert done.returncode == 0, done.stderr
    pages = list((copy / "build" / "site").rglob("*.html"))
    assert {
        "index.html",
        "CONTRIBUTING.html",
        "machine.html",
        "registers.html",
        "results.html",
        "testplan.html",
    } <= {page.name for page in pages}
    fetched = re.compile(
        r"""<(?:script|img|iframe|source)[^>]*\ssrc="?(?:https?:)?//|<link[^>]*\shref="?(?:https?:)?//"""
    )
    for page in pages:
        assert not fetched.search(page.read_text()), page.name
    machine = (copy / "build" / "site" / "machine.html").read_text()
    for figure in ("figures/blocks.svg", "figures/timing.svg"):
        assert f'src="{figure}"' in machine
        assert (copy / "build" / "site" / figure).is_file()


# What is written at the end of a page, and the words of a warning of its own: any warning ends the build.
BROKEN = [
    ("docs/machine.md", "[gone](gone_from_machine.md)", "gone_from_machine.md"),
    ("docs/machine.md", "[gone](formats.md#gone_from_formats)", "#gone_from_formats"),
    ("docs/machine.md", "![gone](figures/gone.svg)", "figures/gone.svg"),
    ("docs/how-to/add-a-test.md", "[outside](../../tb/testplan.yaml)", "testplan.yaml"),
    ("README.md", "[gone](docs/gone_from_readme.md)", "gone_from_readme.md"),
    ("CONTRIBUTING.md", "[gone](docs/machine.md#gone_from_contributing)", "#gone_from_contributing"),
    ("docs/orphan.md", "# A page that the menu does not have", "orphan.md"),
]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """The build with all of them at once."""
    folder = spoilable(tmp_path_factory.mktemp("broken"))
    for page, text, _ in BROKEN:
        with (folder / page).open("a") as file:
            file.write(f"\n{text}\n")
    return build(folder)


@pytest.mark.parametrize(("page", "text", "named"), BROKEN)
def test_a_broken_link_ends_the_build(
    broken: subprocess.CompletedProcess[str], page: str, text: str, named: str
) -> None:
    assert broken.returncode != 0
    warnings = broken.stderr.split("WARNING -")[1:]
    assert len(warnings) == len(BROKEN)
    assert sum(named in warning for warning in warnings) == 1, f"{page}: {text}"


@pytest.mark.parametrize("source", figures.sources(), ids=lambda path: path.name)
def test_a_figure_is_what_its_text_says(source: Path) -> None:
    assert source.with_suffix(".svg").read_text() == figures.draw(source), "run make docs"
