"""Unsloth: refused in words where it cannot be had, imported first where it can, and held to transformers' loss.

No card is here. With Unsloth installed (requirements/unsloth.txt) the last tests run its backend for processors.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import orjson
import pytest

from studium.errors import ConfigurationError
from studium.train.config import Lora
from studium.train.stages import distil, sft
from studium.train.trl_bridge import Compute
from studium.train.unsloth_bridge import begin

torch = pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")
installed = pytest.mark.skipif(not find_spec("unsloth"), reason="needs Unsloth: requirements/unsloth.txt")

FAST = sft.Options(model="base", lora=Lora(rank=4), compute=Compute(unsloth=True))
RECIPE = """
model: {base}
data: [{{domain: sorting, rows: 16, levels: [1]}}]
batch: 4
steps: 2
max_tokens: 128
lora: {{rank: 4}}
compute: {{unsloth: yes}}
validation: {{every_steps: 2, problems: 2}}
allowed_licences: [generated, Apache-2.0]
"""


@pytest.fixture
def found(tmp_path, monkeypatch) -> Path:
    """A folder named unsloth that says, if it is imported, what was imported before it; it does nothing else."""
    (tmp_path / "unsloth").mkdir()
    says = "'after transformers' if 'transformers' in sys.modules else 'before transformers'"
    (tmp_path / "unsloth" / "__init__.py").write_text(f"import sys\nraise ImportError({says})\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        (sft.Options(model="m", compute=Compute(unsloth=True)), "lora.rank: 0"),
        (
            sft.Options(
                model="m", lora=Lora(rank=4), compute=Compute(unsloth=True, packing=True, liger=True)
            ),
            "packing: yes, compute.liger",
        ),
        (
            distil.Options(model="m", lora=Lora(rank=4), compute=Compute(unsloth=True), learn="logprobs"),
            "logprobs",
        ),
    ],
)
def test_what_does_not_go_with_unsloth_is_refused_by_name(recipe, named):
    with pytest.raises(ConfigurationError, match=named):
        begin(recipe)


@pytest.mark.skipif(find_spec("unsloth") is not None, reason="Unsloth is installed")
def test_without_unsloth_the_way_to_its_environment_is_told():
    with pytest.raises(ConfigurationError, match="not installed") as told:
        begin(FAST)
    assert "requirements/unsloth.txt" in told.value.try_next
    begin(sft.Options(model="base"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_cuda_device_it_is_refused(found, monkeypatch):
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    monkeypatch.delenv("UNSLOTH_FORCE_CPU", raising=False)
    with pytest.raises(ConfigurationError, match="needs a CUDA device"):
        begin(FAST)


def test_after_transformers_it_is_too_late(found, monkeypatch):
    monkeypatch.delitem(sys.modules, "unsloth", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", sys)
    with pytest.raises(ConfigurationError, match="too late"):
        begin(FAST)


def run(folder: Path, base: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the training process as `studium train sft` does."""
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE.format(base=base))
    command = [sys.executable, "-m", "studium.train", "sft", str(folder)]
    with_cpu = {**os.environ, "UNSLOTH_FORCE_CPU": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=with_cpu)


@pytest.mark.slow
def test_a_run_imports_unsloth_before_transformers(found, tmp_path):
    path = os.pathsep.join([str(found), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = run(tmp_path / "run", "nobody/nothing", PYTHONPATH=path)
    assert ended.returncode == ConfigurationError.exit_code
    assert "Unsloth cannot be imported: ImportError: before transformers" in ended.stderr


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    from studium.train.models import load, save

    folder = tmp_path_factory.mktemp("models") / "base"
    save(load("sprout"), folder)
    (folder / "README.md").write_text("---\nlicense: Apache-2.0\n---\n")
    return folder


@installed
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_model_that_unsloth_loads_trains_validates_and_is_merged(tmp_path, base):
    ended = run(tmp_path / "run", str(base))
    assert ended.returncode == 0, ended.stderr
    findings = orjson.loads((tmp_path / "run" / "preflight.json").read_bytes())["findings"]
    assert [one["ok"] for one in findings if one["name"] in ("unsloth", "resume", "accumulation")] == [
        True
    ] * 3
    told = orjson.loads((tmp_path / "run" / "recipe.json").read_bytes())
    assert told["recipe"]["compute"]["unsloth"]
    assert told["versions"]["unsloth"]
    assert (tmp_path / "run" / "checkpoint" / "model.gguf").exists()


@installed
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_another_loss_than_transformers_is_found_before_the_first_step(tmp_path, base):
    """The plain model is spoilt, so that the two differ by what a wrong kernel might do."""
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(base=base))
    check = (
        "import sys; from pathlib import Path; from studium.train.preflight.checking import inputs_of; "
        "from studium.train.preflight.compute_checks import same_by_unsloth; "
        "from studium.train.recipe_file import read_told; "
        "inputs = inputs_of(read_told(Path(sys.argv[1]), 'sft')); "
        "inputs.model.model.layers[1].mlp.down_proj.weight.data.mul_(1.1); "
        "print(same_by_unsloth(inputs))"
    )
    command = [sys.executable, "-c", check, str(tmp_path / "recipe.yaml")]
    with_cpu = {**os.environ, "UNSLOTH_FORCE_CPU": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=with_cpu)
    assert "ok=False" in ended.stdout, ended.stderr
    assert "by transformers" in ended.stdout
