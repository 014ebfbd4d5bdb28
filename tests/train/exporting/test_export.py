"""Exports of a real adapter and a real model, loaded again by transformers and llama.cpp."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

from studium.errors import BadRequest, ConfigurationError, ModelBroken
from studium.records.adapters import AdapterKind
from studium.train import models
from studium.train.bases import base_files, base_sha256
from studium.train.config import Lora
from studium.train.exporting.carry_out import check_place, export
from studium.train.exporting.parity import Parity, Reference, frozen_prompts, served_replies
from studium.train.exporting.trained import Trained, check_base, trained_in, trained_model
from studium.train.exporting.writing import BASE_GGUF, Form, Target, base_gguf
from studium.train.learner import with_lora
from studium.train.models import load, save

pytestmark = pytest.mark.slow


def adapter_in(folder: Path, *, spread: float = 0.05, base: str = "sprout") -> Path:
    """Make an adapter of a student that says other things than it does, as the registry keeps one."""
    import torch

    torch.set_num_threads(1)
    loaded = load(base)
    adapted: Any = with_lora(loaded.model, Lora(rank=4, alpha=8.0))
    torch.manual_seed(3)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=spread)
    adapted.save_pretrained(folder)
    note(folder, kind="adapter", base=base, base_sha256=base_sha256(base))
    return folder


def note(folder: Path, *, kind: str, **other: str) -> None:
    meta = {
        "name": "change",
        "kind": kind,
        "base": "sprout",
        "base_sha256": base_sha256("sprout"),
        "lineage": {},
    }
    (folder / "adapter_meta.json").write_text(json.dumps(meta | other))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained_in(adapter_in(tmp_path_factory.mktemp("made") / "change"))


@pytest.mark.parametrize(
    ("target", "merged", "files"),
    [
        (Target.GGUF, False, {"adapter.gguf"}),
        (Target.OLLAMA, True, {"Modelfile", "model.gguf"}),
        (Target.OLLAMA, False, {"Modelfile", "base.gguf", "adapter.gguf"}),
        (Target.VLLM, False, {"adapter/adapter_model.safetensors", "base/model.safetensors"}),
        (Target.HF, True, {"model.safetensors", "tokenizer.json", "chat_template.jinja"}),
    ],
)
def test_an_export_answers_as_what_was_trained(
    adapter: Trained, tmp_path: Path, target: Target, merged: bool, files: set[str]
) -> None:
    done = export(adapter, Form(target, merged), tmp_path / "out")
    assert files | {"README.md", "export.json"} <= set(done.files)
    assert {
        str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()
    } == set(done.files)
    assert all(one.equal and one.tokens > 50 for one in done.parities) and done.parities
    told = json.loads((tmp_path / "out" / "export.json").read_text())
    assert told["base_sha256"] == base_sha256("sprout")
    if target is Target.OLLAMA:
        assert any(line.startswith("not checked: the Modelfile") for line in done.checked)


def test_a_whole_model_is_exported_and_has_no_adapter(tmp_path: Path) -> None:
    save(load("sprout"), tmp_path / "model")
    note(tmp_path / "model", kind="model")
    model = trained_in(tmp_path / "model")
    assert model.kind is AdapterKind.MODEL
    done = export(model, Form(Target.GGUF, True, "F32"), tmp_path / "out")
    assert all(one.equal for one in done.parities)
    with pytest.raises(BadRequest, match="has no adapter"):
        export(model, Form(Target.GGUF, False), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_file_that_answers_otherwise_is_noticed(adapter: Trained, tmp_path: Path) -> None:
    """The base without its adapter stands for any mistake in writing."""
    loaded = trained_model(adapter)
    reference = Reference(loaded, frozen_prompts(["arithmetic"], 3))
    base_gguf(adapter, tmp_path / BASE_GGUF)
    said = served_replies(tmp_path / BASE_GGUF, [], reference.texts(), context_tokens=512)
    compared = reference.compare("llama.cpp", said, reference.bound_half(load("sprout")))
    assert not compared.equal
    assert reference.compare("itself", reference.said, 0.0) == Parity(
        "itself", 3, sum(len(one.tokens) for one in reference.said), 0, 0, 0.0, 0.0, 0.0
    )


def test_an_export_that_answers_otherwise_leaves_nothing(adapter: Trained, tmp_path: Path) -> None:
    """An adapter scaled by the root of its rank, which PEFT knows and GGUF adapters cannot say."""
    folder = adapter_in(tmp_path / "other")
    other = trained_in(folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["use_rslora"] = True
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelBroken, match="answers differently"):
        export(other, Form(Target.GGUF, False), tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["other"]


def test_an_adapter_is_refused_on_a_base_that_changed_or_is_missing(tmp_path: Path) -> None:
    folder = adapter_in(tmp_path / "change")
    note(folder, kind="adapter", base_sha256="0" * 64)
    with pytest.raises(ConfigurationError, match="is not the one change was trained on"):
        export(trained_in(folder), Form(Target.HF, True), tmp_path / "out")
    note(folder, kind="adapter", base=str(tmp_path / "gone.gguf"))
    with pytest.raises(ConfigurationError, match="is not on this machine"):
        export(trained_in(folder), Form(Target.HF, True), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that a hub has and no folder here: its name is what is asked for."""
    save(load("sprout"), tmp_path / "hub")
    fetched = models.pretrained
    at = {"someone/sprout-instruct": str(tmp_path / "hub")}
    monkeypatch.setattr(
        models, "pretrained", lambda name: fetched(at.get(name, name))._replace(reference=name)
    )
    return "someone/sprout-instruct"


@pytest.mark.parametrize("merged", [True, False])
def test_an_adapter_of_a_hubs_model_is_exported(hub: str, tmp_path: Path, merged: bool) -> None:
    """It was refused: the base "is not on this machine", as no file here has its name."""
    change = trained_in(adapter_in(tmp_path / "change", base=hub))
    assert change.base_sha256 == ""
    done = export(change, Form(Target.HF, merged), tmp_path / "out")
    assert all(one.equal and one.tokens > 50 for one in done.parities) and done.parities
    assert f"base_model: {json.dumps(hub)}" in (tmp_path / "out" / "README.md").read_text()
    if not merged:
        assert f'from_pretrained("{hub}")' in done.written.use[0]
        assert (
            json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"]
            == hub
        )


def test_a_base_without_files_here_is_refused_where_it_had_some_or_names_some(tmp_path: Path) -> None:
    def change(base: str, noted: str = "") -> Trained:
        return Trained("change", AdapterKind.ADAPTER, tmp_path, base, noted)

    for name in ("own.gguf", "models/own.gguf", "/models/own", "./own", "../own", "~/own"):
        with pytest.raises(ConfigurationError, match="is not on this machine"):
            check_base(change(name))
    with pytest.raises(ConfigurationError, match="is not on this machine"):
        check_base(change("someone/tiny", "0" * 64))
    check_base(change("someone/tiny"))
    with pytest.raises(ConfigurationError, match="there is no model 'spruot'"):
        trained_model(change("spruot"))


def test_a_base_that_a_card_names_as_the_roster_does_is_found_where_that_lies(tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(base_files("sprout")[0].read_bytes())
    folder = adapter_in(tmp_path / "change", base=str(own))
    note(folder, kind="adapter", base="own")
    change = trained_in(folder, {"own": str(own), "sprout": str(base_files("sprout")[0])})
    assert (change.base, change.base_reference) == ("own", str(own))
    note(folder, kind="adapter")
    assert trained_in(folder, {"sprout": str(base_files("sprout")[0])}).base_reference == "sprout"


def test_an_export_is_replaced_only_by_force_and_anything_else_never(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(BadRequest, match="holds no export of ours"):
            check_place(tmp_path / "home", force=force)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "export.json").write_text("{}")
    with pytest.raises(BadRequest, match="--force"):
        check_place(tmp_path / "old", force=False)
    check_place(tmp_path / "old", force=True)
    check_place(tmp_path / "new", force=False)


def test_a_folder_without_anything_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="nothing trained"):
        trained_in(tmp_path)
    note(tmp_path, kind="adapter")
    with pytest.raises(BadRequest, match="only what its engine serves"):
        trained_in(tmp_path)
    (tmp_path / "adapter_meta.json").write_text('{"kind": "pickle"}')
    with pytest.raises(BadRequest, match="cannot be read"):
        trained_in(tmp_path)
