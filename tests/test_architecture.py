"""The rules of the house, checked on the source itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import codec

REPOSITORY = Path(__file__).resolve().parents[1]
LAYERS = {"formats": 0, "codec": 1, "tools": 2, "tests": 3}


def modules(*packages: str) -> list[Path]:
    return [p for name in packages for p in sorted((REPOSITORY / name).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", modules("formats", "codec", "tools"), ids=str)
def test_dependencies_point_one_way(path: Path) -> None:
    layer = LAYERS[path.relative_to(REPOSITORY).parts[0]]
    for name in imports(path):
        assert LAYERS.get(name.split(".")[0], 0) <= layer, f"{path} imports {name}"


def test_formats_needs_only_the_standard_library_numpy_and_constriction() -> None:
    allowed = {"numpy", "constriction", "formats", *sys.stdlib_module_names}
    for path in modules("formats"):
        assert {name.split(".")[0] for name in imports(path)} <= allowed, path


def test_importing_formats_loads_no_torch() -> None:
    code = (
        "import sys, pkgutil, importlib, formats\n"
        "for m in pkgutil.iter_modules(formats.__path__):\n"
        "    importlib.import_module('formats.' + m.name)\n"
        "assert 'torch' not in sys.modules and 'codec' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_help_and_light_imports_do_not_wait_for_torch() -> None:
    code = (
        "import sys, codec, codec.cli\n"
        "codec.cli.build_parser().format_help()\n"
        "assert 'torch' not in sys.modules\n"
        "assert codec.CoordXError.__name__ == 'CoordXError'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


@pytest.mark.parametrize("path", modules("formats", "codec", "tools"), ids=str)
def test_nothing_unpickles_or_evaluates(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "shelve", "marshal", "dill"} & set(names), path
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in ("eval", "exec", "torch.load", "torch.save"), f"{path}: {name}"
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle":
                    assert ast.unparse(keyword.value) == "False", path


@pytest.mark.parametrize("path", modules("formats", "codec"), ids=str)
def test_only_the_command_line_prints(path: Path) -> None:
    if "cli" in path.parts:
        return
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    assert not any(ast.unparse(c.func) == "print" for c in calls), path


def test_every_exported_name_exists() -> None:
    for name in codec.__all__:
        assert getattr(codec, name) is not None
    assert sorted(codec.__all__) == codec.__all__ or set(codec.__all__) == set(dir(codec))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = codec.nothing  # type: ignore[attr-defined]


def test_a_foreign_formats_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats" / "__init__.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import codec"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "another installed package shadows it" in done.stderr
