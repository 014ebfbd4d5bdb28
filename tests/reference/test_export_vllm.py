"""An export for vLLM answers in a real vLLM as what was trained does, token by token."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

import torch
from tests.fixtures.vllm_server import real_vllm
from tests.train.exporting.test_export import adapter_in

from studium.errors import EngineDied
from studium.train.exporting.carry_out import export
from studium.train.exporting.modelfile import Manner
from studium.train.exporting.parity import Reference, frozen_prompts
from studium.train.exporting.trained import Trained, trained_in, trained_model
from studium.train.exporting.vllm_check import vllm_replies
from studium.train.exporting.writing import Form, Target, write_form

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained_in(adapter_in(tmp_path_factory.mktemp("made") / "change", spread=0.3, base="clerk"))


@pytest.mark.parametrize("merged", [True, False])
def test_vllm_answers_as_what_was_trained(adapter: Trained, tmp_path: Path, merged: bool) -> None:
    with real_vllm(tmp_path / "program"):
        done = export(adapter, Form(Target.VLLM, merged), tmp_path / "out")
    by_vllm = [one for one in done.parities if one.by == "vLLM"]
    assert len(by_vllm) == 1 and by_vllm[0].equal and by_vllm[0].tokens > 50
    assert not any(line.startswith("not checked") for line in done.checked)


def test_an_adapter_that_is_left_out_is_noticed(adapter: Trained, tmp_path: Path) -> None:
    loaded = trained_model(adapter)
    written = write_form(adapter, Form(Target.VLLM, False), loaded, Manner(), tmp_path)
    reference = Reference(loaded, frozen_prompts(["arithmetic"], 4))
    with real_vllm(tmp_path / "program"):
        replies = vllm_replies(written.vllm, tmp_path, "base", reference)
    assert not reference.compare("vLLM", replies, 0.15).equal


def test_a_folder_that_vllm_cannot_read_is_told_in_its_words(adapter: Trained, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no such thing"}')
    reference = Reference(trained_model(adapter), frozen_prompts(["arithmetic"], 1))
    with real_vllm(tmp_path / "program"), pytest.raises(EngineDied, match="no such thing"):
        vllm_replies(["serve", "."], tmp_path, "x", reference)


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU vLLM has attention for small heads")
def test_what_vllm_cannot_run_here_is_exported_and_told_in_its_words(tmp_path: Path) -> None:
    """sprout's heads have 16 dimensions, for which vLLM has no attention on a processor."""
    with real_vllm(tmp_path / "program"):
        done = export(trained_in(adapter_in(tmp_path / "change")), Form(Target.VLLM, True), tmp_path / "out")
    assert [one.by for one in done.parities] == ["transformers"]
    assert any("not checked: vLLM" in line and "head_dim=16" in line for line in done.checked)
