"""The documents name only files, folders, Python names and targets of make that exist."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in chain((ROOT / "README.md", ROOT / "CONTRIBUTING.md"), (ROOT / "docs").rglob("*.md"))
)
# What a how-to has its reader make. None of it may be there, or its example would not run.
MADE = {
    "docs/how-to/add-a-block.md": ("rtl/psa_max.v", "tb/psa_max/__init__.py", "tb/psa_max/test_max.py"),
    "docs/how-to/add-a-scheme.md": ("pymodel/schemes/half.py",),
    "docs/tutorial.md": ("mycnn.py", "mobilenet.py"),
}
# What the commands write below build/.
WRITTEN = ("runs.jsonl", "summary.md")

CODE = re.compile(r"^```.*?^```|^(?: {4}|\t).*?$|(`+)(?!`).+?\1", re.MULTILINE | re.DOTALL)
ROOMS = r"(?:rtl|pymodel|tb|tests|scripts|docs|\.ci|\.github)"
FILE = re.compile(rf"(?<![\w/.<-]){ROOMS}/[\w./{{}},*<>-]*")
BARE = re.compile(r"`([\w-]+\.(?:py|v|vlt|f|yaml|yml|toml|j2|sh|md|jsonl))`")
DOTTED = re.compile(r"(?<![\w./])(?:pymodel|tb|scripts)(?:\.[a-z_]\w*)+(?:\.\w+)*", re.IGNORECASE)
MAKE = re.compile(r"(?<![\w-])make ([a-z][a-z-]*)")


@cache
def tracked() -> frozenset[str]:
    """Every file of the repository, and every folder, as paths from its root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    files = [Path(name) for name in listed if (ROOT / name).exists()]
    return frozenset(str(path) for file in files for path in (file, *file.parents))


def spread(path: str) -> list[str]:
    """`a/{b,c}.py` as two."""
    found = re.search(r"\{([^{}]*)\}", path)
    if not found:
        return [path]
    return [
        name
        for part in found[1].split(",")
        for name in spread(path[: found.start()] + part + path[found.end() :])
    ]


def there(path: str) -> bool:
    """Whether a file or folder answers `path`; `*` and `<name>` stand for any name."""
    path = path.rstrip("/.,")
    pattern = "".join(
        "[^/]*" if part == "*" or part.startswith("<") else re.escape(part)
        for part in re.split(r"(\*|<[^>]*>)", path)
    )
    return any(re.fullmatch(pattern, name) for name in tracked())


def defines(dotted: str) -> bool:
    """Whether a module or package of this name is there, or one that says the rest of it."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        base = "/".join(parts[:end])
        for file in (f"{base}.py", f"{base}/__init__.py"):
            if file in tracked():
                text = (ROOT / file).read_text()
                return end == len(parts) or bool(re.search(rf"\b{re.escape(parts[end])}\b", text))
    return False


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def missing(page: str, text: str) -> list[str]:
    """What the code in `text`, a page, names and is not there."""
    made = MADE.get(page, ())
    wrong = []
    for code in (found[0] for found in CODE.finditer(text)):
        for name in chain.from_iterable(spread(path) for path in FILE.findall(code)):
            if name.rstrip("/.,") not in made and not there(name):
                wrong.append(name)
        wrong += [name for name in DOTTED.findall(code) if not defines(name)]
        wrong += [f"make {target}" for target in MAKE.findall(code) if target not in targets()]
        for name in BARE.findall(code):
            if not any(path == name or path.endswith(f"/{name}") for path in (*tracked(), *made, *WRITTEN)):
                wrong.append(name)
    return wrong


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_what_there_is(page: str) -> None:
    assert missing(page, (ROOT / page).read_text()) == []


@pytest.mark.parametrize("page", MADE)
def test_an_example_is_not_in_the_tree(page: str) -> None:
    text = (ROOT / page).read_text()
    for name in MADE[page]:
        assert name in text
        assert not there(name)


@pytest.mark.parametrize(
    "text",
    [
        "`pymodel/gone.py`",
        "`tb/{plain,gone}/`",
        "`rtl/psa_gone*.v`",
        "`gone.py`",
        "`pymodel.machine.gone`",
        "`pymodel.machine.config.Gone`",
        "`.venv/bin/python -m scripts.gone`",
        "`make gone`",
        "```\nmake gone TEST=digits\n```",
        "    tb/gone/",
    ],
)
def test_what_is_not_there_is_named(text: str) -> None:
    assert missing("README.md", f"Prose.\n\n{text}\n") != []
