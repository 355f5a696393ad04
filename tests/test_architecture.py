"""The house: arrows point down, each foreign library has one file, the door is small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import claude_batch_pandas as cbp

PACKAGE = Path(cbp.__file__).parent
NAME = "claude_batch_pandas"

# From the bottom up; a module imports only from lower layers or, beside it, from the same one.
LAYERS = [
    {"exceptions", "records", "settings", "clock", "words", "lines"},
    {
        "pools",
        "templates",
        "tracebacks",
        "requests",
        "sharding",
        "results",
        "models",
        "rendering",
        "sources",
        "replies",
        "tables",
        "seen",
        "texts",
        "schemas",
        "loops",
        "abilities",
        "caching",
        "outputs",
        "slots",
        "rendered",
        "pictures",
        "blocks",
        "refusals",
        "asking",
        "votes",
        "markup",
        "shapes",
    },
    {"rows", "functions", "requestfiles", "causes", "decoders", "ids"},
    {"folders", "stretches"},
    {
        "database",
        "addresses",
        "exchange",
        "polling",
        "deadlines",
        "reconcile",
        "money",
        "spool",
        "locks",
    },
    {"weights", "columns"},
    {"estimates", "caps", "copies"},
    {"asides"},
    {"client", "memory", "reservations", "store", "catalog", "holding", "progress"},
    {"cards"},
    {"widgets", "report"},
    {"displays", "consent"},
    {"answers", "exports", "frames", "indexes", "collecting", "resending", "attaching"},
    {"reading", "shots", "plots", "gathering"},
    {"engine", "patience", "planning", "retrying", "accounts", "verifying", "histories", "raws"},
    {"calls", "scopes", "waits", "knowledge"},
    {"uploads"},
    {"preparing"},
    {"matching"},
    {"recovery", "purging", "inquiry", "joining", "reserving"},
    {"sending", "reconciling", "live"},
    {"twins"},
    {"steps", "workers", "acts", "following", "inspecting", "looks", "handles"},
    {"session", "verbs"},
    {"building", "datafiles"},
    {"chunked"},
    {"listing", "finding", "estimating", "spending"},
    {"labelling"},
    {"accessor"},
    {"magics", "terminal"},
    {"commands"},
    {"asks"},
    {"demo", "cli", "__main__", "__init__"},
]

# Where each foreign library may be imported; beside them, numpy carries arrays between files.
HOMES = {
    "pydantic": {"schemas"},
    "typing_extensions": {"schemas"},
    "jsonschema": {"schemas"},
    "anthropic": {
        "schemas",
        "client",
        "exchange",
        "accessor",
        "calls",
        "finding",
        "listing",
        "session",
    },
    "httpx2": {"client", "exchange"},
    "pyarrow": {"datafiles", "exports", "texts"},
    "pandas": {
        "building",
        "chunked",
        "exports",
        "datafiles",
        "frames",
        "indexes",
        "accessor",
        "demo",
        "finding",
        "listing",
        "terminal",
        "session",
        "handles",
        "spending",
        "joining",
        "labelling",
        "looks",
        "plots",
        "reading",
    },
    "ipywidgets": {"widgets"},
    "IPython": {"magics", "widgets"},
    "tqdm": {"progress"},
    "orjson": {
        "estimates",
        "estimating",
        "weights",
        "histories",
        "replies",
        "requestfiles",
        "requests",
        "session",
        "shots",
        "terminal",
    },
    "PIL": {"pictures"},
    "matplotlib": {"plots"},
    "msgspec": {"copies", "decoders", "results"},
    "sqlite3": {"database"},
    "genai_prices": {"models"},
    "platformdirs": {"session", "verbs"},
    "numpy": {
        "catalog",
        "columns",
        "copies",
        "datafiles",
        "frames",
        "gathering",
        "ids",
        "indexes",
        "lines",
        "raws",
        "requestfiles",
        "seen",
        "stretches",
        "texts",
    },
    "typer": {"asks", "cli", "commands", "terminal"},
    "rich": {"demo", "terminal"},
    "fcntl": {"locks", "spool"},
}
ONLY_TYPES = {
    ("anthropic", "accessor"),
    ("anthropic", "calls"),
    ("anthropic", "finding"),
    ("anthropic", "listing"),
    ("anthropic", "session"),
    ("pandas", "building"),
    ("pandas", "chunked"),
    ("pandas", "spending"),
    ("pandas", "finding"),
    ("pandas", "listing"),
    ("pandas", "session"),
    ("pandas", "handles"),
    ("pandas", "joining"),
    ("pandas", "looks"),
    ("pandas", "plots"),
    ("pandas", "reading"),
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield the name and syntax tree of every module outside the emulator."""
    for path in sorted(PACKAGE.glob("*.py")):
        yield path.stem, ast.parse(path.read_text())


def imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield what a module imports, and whether it is for the type checker only."""
    guarded = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in guarded
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == NAME else []
            for name in names or [node.module]:
                yield name, id(node) in guarded


def test_every_module_has_a_layer() -> None:
    """A new file gets its place in the house."""
    assert {name for name, _ in modules()} == set().union(*LAYERS)


def test_arrows_point_down() -> None:
    """No module imports from a layer above its own."""
    level = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    wrong = [
        (name, imported)
        for name, tree in modules()
        for imported, is_type in imports(tree)
        if imported.startswith(f"{NAME}.") and not is_type
        if (target := imported.split(".")[1]) in level and level[target] > level[name]
    ]

    assert wrong == []


def test_no_module_imports_itself_in_a_circle() -> None:
    """Within a layer, too, imports form no cycle."""
    graph = {
        name: {
            imported.split(".")[1]
            for imported, is_type in imports(tree)
            if imported.startswith(f"{NAME}.") and not is_type
        }
        for name, tree in modules()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"import cycle: {' -> '.join([*path, name])}"
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    assert done >= set(graph)


def test_each_foreign_library_has_its_file() -> None:
    """A library is imported where its job is, and nowhere else."""
    standard = sys.stdlib_module_names - {"sqlite3", "fcntl"}
    wrong = [
        (name, library)
        for name, tree in modules()
        for imported, is_type in imports(tree)
        if (library := imported.split(".")[0]) not in standard | {NAME}
        if name not in HOMES.get(library, set()) or ((library, name) in ONLY_TYPES and not is_type)
    ]

    assert wrong == []


def test_the_emulator_knows_nothing_of_the_package() -> None:
    """Its modules import each other and the exceptions, so that it can stand alone."""
    wrong = [
        (path.stem, imported)
        for path in sorted((PACKAGE / "emulator").glob("*.py"))
        for imported, _ in imports(ast.parse(path.read_text()))
        if imported.startswith(NAME)
        and not imported.startswith((f"{NAME}.emulator", f"{NAME}.exceptions"))
    ]

    assert wrong == []


def test_the_emulators_imports_form_no_circle() -> None:
    """Its endpoints stand on its nouns, and never the other way round."""
    folder = PACKAGE / "emulator"
    graph = {
        path.stem: {
            imported.rpartition(".")[2]
            for imported, _ in imports(ast.parse(path.read_text()))
            if imported.startswith(f"{NAME}.emulator.")
        }
        for path in folder.glob("*.py")
    }
    order = list(TopologicalSorter(graph).static_order())

    assert set(order) == set(graph)


def test_public_names_are_few_and_all_there() -> None:
    """``__all__`` is what exists, sorted, and at most 18 names."""
    assert cbp.__all__ == sorted(cbp.__all__)
    assert len(cbp.__all__) <= 18
    for name in cbp.__all__:
        found = getattr(cbp, name)
        assert found is not None
        assert name == "options" or found.__doc__
    assert set(dir(cbp)) >= set(cbp.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        cbp.nonsense  # type: ignore[attr-defined]  # noqa: B018 - reading it is the test


def test_import_is_light() -> None:
    """It loads nothing foreign beyond pandas, of ours only what has to be there, and registers."""
    code = (
        "import sys, pandas as pd\n"
        "before = set(sys.modules)\n"
        "import claude_batch_pandas\n"
        "print(*(set(sys.modules) - before))\n"
        "print(hasattr(pd.DataFrame, 'claude'), hasattr(pd.Series, 'claude'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, registered = done.stdout.splitlines()
    added = {name.partition(".")[0] for name in loaded.split()}
    own = {name.partition(".")[2] for name in loaded.split() if name.partition(".")[0] == NAME}

    assert added - sys.stdlib_module_names == {NAME}
    assert not added & {"asyncio", "sqlite3"}
    assert own == {"", "accessor", "exceptions", "labelling", "settings", "tracebacks"}
    assert registered == "True True"


def test_registering_twice_changes_nothing() -> None:
    """A reload warns of nothing."""
    from claude_batch_pandas import accessor

    accessor.register()
