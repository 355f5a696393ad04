"""What comes from outside is data: no path, no code, no template."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import claude_batch_pandas as cbp
from claude_batch_pandas.calls import make_call, recipe_of, record_of
from claude_batch_pandas.exceptions import (
    APIError,
    InputError,
    MissingColumnError,
    RunNotFoundError,
)
from claude_batch_pandas.replies import check_batch_id, read_batch
from claude_batch_pandas.spool import Spool
from tests.hostile import batch_json

PACKAGE = Path(cbp.__file__).parent
EVIL = ["..", ".", "/etc/passwd", "../../x", "a/b", "a\\b", "C:\\x", "a\x00b", "a\n", "", " ", "~", "-rf", "con", "NUL.txt", "a:b", "%2e%2e", "\u202ea"]  # fmt: skip
names = (
    st.text() | st.sampled_from(EVIL) | st.from_regex(r"[./\\A-Za-z0-9_%~:-]{1,20}", fullmatch=True)
)


@given(names)
def test_no_name_leaves_the_folder_of_runs(name: str) -> None:
    """A run is one folder right inside it, whatever it and its output are called."""
    for options in ({"name": name}, {"output": name}):
        call = make_call("{text}", options)
        try:
            run_id = record_of(recipe_of(call), call, 1_800_000_000.0).id
        except InputError:
            continue
        root = Path("/ledger/runs")
        path = (root / run_id).resolve()
        assert path.parent == root
        assert path.name == run_id
        assert run_id[:8].isdigit()


@given(names)
def test_no_run_id_of_a_caller_becomes_a_path(tmp_path_factory: Any, name: str) -> None:
    """It is looked up in the ledger first; what is not there is not looked for on the disk."""
    with pytest.raises(RunNotFoundError, match="There is no run"):
        cbp.run(name)


@given(names | st.none() | st.integers() | st.lists(st.text()))
def test_no_batch_id_leaves_its_path(name: Any) -> None:
    """Of a caller or of a server: it is one segment of an address, or refused."""
    try:
        accepted = check_batch_id(name)
    except InputError:
        with pytest.raises(APIError, match="not a message batch"):
            read_batch(batch_json(id=name))
        return

    assert accepted == name == read_batch(batch_json(id=name)).id
    assert set(name).isdisjoint("/\\?#%:@&=;\"'<>{} \t\r\n\x00")
    assert name[0] != "."


@pytest.mark.parametrize("name", sorted(set(EVIL) - {"con", "NUL.txt"}))
def test_a_batch_that_is_attached_makes_no_path(name: str, tmp_path: Path) -> None:
    """Nothing is asked for it and nothing written."""
    with pytest.raises(InputError, match="is not a batch id"):
        cbp.attach(name)
    assert list(tmp_path.iterdir()) == []


def test_a_draft_is_never_a_run(tmp_path: Path) -> None:
    """No run can be named like what is swept away."""
    home = tmp_path / "ledger"
    spool = Spool(home)
    call = make_call("{text}", {"name": "draft"})
    run_id = record_of(recipe_of(call), call, 1_800_000_000.0).id

    assert spool.folder(run_id).parent == home / "runs"
    assert not run_id.startswith(".")


FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
FORBIDDEN_MODULES |= {"yaml", "jinja2", "subprocess", "pty", "xmlrpc", "telnetlib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "read_pickle", "to_pickle", "system", "popen", "format_map", "unsafe_load", "literal_eval"}  # fmt: skip
SUBPROCESS = {"demo"}  # starts itself, to be killed


def findings(path: Path) -> list[str]:
    """Return what a file does that could turn data into code."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            told = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            found += [str(name) for name in told if str(name).split(".")[0] in FORBIDDEN_MODULES]
        if isinstance(node, ast.Call):
            target = node.func
            is_module = isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)
            is_regex = is_module and ast.unparse(target) == "re.compile"
            name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
            if name in FORBIDDEN_CALLS and not is_regex:
                found.append(ast.unparse(target))
            for keyword in node.keywords:
                is_off = isinstance(keyword.value, ast.Constant) and not keyword.value.value
                if keyword.arg in {"allow_pickle", "shell"} and not is_off:
                    found.append(f"{keyword.arg}={ast.unparse(keyword.value)}")
                if keyword.arg == "verify" and is_off:
                    found.append("verify=False")
            if name == "load" and isinstance(target, ast.Attribute):
                is_numpy = ast.unparse(target.value) in {"np", "numpy"}
                keywords = {keyword.arg for keyword in node.keywords}
                found += ["np.load"] * (is_numpy and "allow_pickle" not in keywords)
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_data_is_run_as_code(path: Path) -> None:
    """No pickle, no eval, no YAML, no shell, no certificate that is not looked at."""
    found = [
        name for name in findings(path) if not (name == "subprocess" and path.stem in SUBPROCESS)
    ]

    assert found == []


def test_the_search_for_code_finds_it(tmp_path: Path) -> None:
    """It would see what it looks for."""
    path = tmp_path / "evil.py"
    path.write_text(
        "import pickle, yaml.cyaml\nfrom jinja2 import x\neval(a)\npd.read_pickle(a)\nos.system(b)\n"
        "np.load(a)\nnp.load(a, allow_pickle=True)\nrun(shell=True)\nget(verify=False)\nre.compile(a)\n"
    )

    assert findings(path) == [
        "pickle", "yaml.cyaml", "jinja2", "eval", "pd.read_pickle", "os.system", "np.load",
        "allow_pickle=True", "shell=True", "verify=False",
    ]  # fmt: skip


class Secret:
    """A cell with something to steal."""

    secret = "the-canary-prompt"  # noqa: S105 - of a test

    def __str__(self) -> str:
        return "shown"


@pytest.mark.parametrize(
    "template",
    [
        "{a.secret}", "{a[0]}", "{a.__class__}", "{a.__init__.__globals__}", "{a!r.secret}",
        "{0.__class__}", "{a:{b}}", "{a:{b.secret}}", "{{{a.secret}}}", "{}", "{0}",
    ],
)  # fmt: skip
def test_a_template_reaches_no_attribute(template: str, client: Any) -> None:
    """Nothing but a column is meant by a name: no attribute, no index, no format out of a cell."""
    df = pd.DataFrame({"a": [Secret()], "b": [">9"]})
    with pytest.raises(
        (InputError, MissingColumnError), match=r"column|field|format|brace"
    ) as caught:
        df.claude.preview(template, client=client)

    assert Secret.secret not in str(caught.value)


@pytest.mark.parametrize(
    "cell",
    [
        "{b}",
        "{{b}}",
        "{a}",
        "{{{{7*7}}}}",
        "{% raw %}",
        "${b}",
        "%(b)s",
        "{a.__class__}",
        "\\{b\\}",
        "}{",
    ],
)
def test_a_cell_is_never_a_template(cell: str) -> None:
    """What stands in a value goes out as it is, in text, messages and the system prompt alike."""
    df = pd.DataFrame({"a": [cell], "b": ["private"]})
    messages = [{"role": "user", "content": "ask {a}"}]
    for template, system in (
        ("ask {a}", "be {a}"),
        (messages, None),
        (lambda r: f"ask {r.a}", None),
    ):
        (params,) = df.claude.preview(template, system=system, n=1).requests

        assert params["messages"][0]["content"] == f"ask {cell}"
        assert params.get("system") == (f"be {cell}" if system else None)
