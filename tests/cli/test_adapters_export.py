"""`studium adapters export` of what the registry keeps: the base is found by the name that the roster has for it."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

from tests.registry.weights import base_file
from tests.train.exporting.test_export import adapter_in

from studium.cli import main

pytestmark = pytest.mark.slow

CONFIG = """
workspace: state
models: [{name: house, engine: llamacpp, source: own.gguf}]
students: [{name: mason, model: house}]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A GGUF file of one's own that the roster calls `house`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studium.yaml").write_text(CONFIG)
    return Path(shutil.copyfile(base_file(), tmp_path / "own.gguf"))


def studium(*words: str) -> int:
    return main.run(["adapters", *words])


@pytest.mark.parametrize("form", ["--merged", "--adapter-only"])
def test_an_adapter_of_a_file_of_ones_own_is_exported_by_the_name_it_was_registered_with(
    own: Path, tmp_path: Path, form: str
) -> None:
    """Its card names the base as the roster does, which was taken for a file and "is not on this machine"."""
    adapter_in(tmp_path / "change", base=str(own))
    assert studium("register", "change", "--role", "mason") == 0
    card = json.loads((tmp_path / "state/adapters/mason/change/adapter_meta.json").read_text())
    assert card["base"] == "house"
    assert studium("export", "mason/change", "--to", "ollama", form, "--out", "out") == 0
    told = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (told["base"], told["base_sha256"]) == ("house", card["base_sha256"])
    assert "`house`" in (tmp_path / "out" / "README.md").read_text()
    if form == "--adapter-only":
        assert (tmp_path / "out" / "base.gguf").read_bytes() == own.read_bytes()


def test_a_file_of_ones_own_that_is_gone_or_another_is_told_by_its_path(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter_in(tmp_path / "change", base=str(own))
    assert studium("register", "change", "--role", "mason") == 0
    own.rename(tmp_path / "moved.gguf")
    assert studium("export", "mason/change", "--to", "hf") != 0
    assert "own.gguf, is not on this machine" in capsys.readouterr().err
    shutil.copyfile(base_file().with_name("clerk.gguf"), own)
    assert studium("export", "mason/change", "--to", "hf") != 0
    assert "is not the one change was trained on" in capsys.readouterr().err
