"""Which room may import what, and what a light command must not import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "mqf_tui"
HEAVY = (
    "mlx",
    "mlx_lm",
    "transformers",
    "datasets",
    "textual",
    "numpy",
    "scipy",
    "pydantic",
    "huggingface_hub",
)


def imports(path: Path, *, top_only: bool) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    nodes = ast.walk(tree)
    if top_only:
        in_functions = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for inner in ast.walk(node)
        }
        nodes = (node for node in nodes if id(node) not in in_functions)
    found: set[str] = set()
    for node in nodes:
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def modules(*rooms: str) -> list[Path]:
    return [path for room in rooms for path in sorted((PACKAGE / room).rglob("*.py"))]


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", modules("fidelity", "library", "reports"), ids=lambda p: p.stem)
def test_no_textual_below_the_app(path: Path) -> None:
    found = imports(path, top_only=False)
    assert "textual" not in roots(found)
    assert not {name for name in found if name.startswith(("mqf_tui.app", "mqf_tui.cli", "mqf_tui.console"))}


@pytest.mark.parametrize("path", modules("app", "library", "reports"), ids=lambda p: p.stem)
def test_no_mlx_above_the_engine(path: Path) -> None:
    assert not roots(imports(path, top_only=True)) & {"mlx", "mlx_lm", "transformers", "datasets"}


@pytest.mark.parametrize("path", modules("."), ids=lambda p: p.stem)
def test_module_sizes(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= (200 if path.name == "app.py" else 400)


@pytest.mark.parametrize(
    "words", [["--help"], ["kv", "--help"], ["demo", "--help"], ["runs", "--help"], ["--version"]]
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom mqf_tui.cli import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        f"print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_importing_the_package_imports_no_mlx() -> None:
    code = "import sys, mqf_tui; print('mlx.core' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["False", "False"]
