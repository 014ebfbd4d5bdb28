"""A recipe that came over HTTP reads nothing and calls nobody outside the workspace."""

import pytest

from studium.errors import BadRequest, ConfigurationError, StudiumError
from studium.manage.recipes import told_from

DATA = [{"domain": "arithmetic", "rows": 8}]


def test_a_recipe_is_read_as_an_object_and_as_text(tmp_path) -> None:
    rows = tmp_path / "datasets" / "rows.jsonl"
    rows.parent.mkdir()
    rows.write_text("")
    told = told_from("sft", {"model": "sprout", "data": [{"file": "rows.jsonl"}]}, tmp_path, "mine")
    assert (
        told.recipe.model == "sprout" and told.recipe.data[0].file == str(rows) and told.recipe.name == "mine"
    )
    text = "model: sprout\ndata: [{file: datasets/rows.jsonl}]\nname: mine\n"
    assert told_from("sft", text, tmp_path).recipe == told.recipe


@pytest.mark.parametrize(
    ("stage", "recipe", "says"),
    [
        ("sft", {"model": "/etc/passwd", "data": DATA}, "model '/etc/passwd'"),
        ("sft", {"model": "somebody/model", "data": DATA}, "model 'somebody/model'"),
        ("sft", {"model": "runs/../../elsewhere", "data": DATA}, "nothing that this workspace has"),
        ("sft", {"model": "runs", "data": DATA}, "nothing that this workspace has"),
        ("sft", {"model": "runs/link", "data": DATA}, "nothing that this workspace has"),
        ("sft", {"model": "sprout", "data": [{"file": "/etc/passwd"}]}, "file '/etc/passwd'"),
        ("sft", {"model": "sprout", "replay": {"data": [{"file": "../state.db"}]}}, "file '../state.db'"),
        ("distil", {"model": "sprout", "teacher": "http://127.0.0.1:1/v1#m", "data": DATA}, "teacher 'http"),
        ("distil", {"model": "sprout", "teacher": "sprout", "then": ["../x"], "data": DATA}, "then '../x'"),
        ("rlvr", {"model": "sprout", "data": DATA, "draws": {"url": "http://127.0.0.1:1"}}, "url is"),
        (
            "rlvr",
            {"model": "sprout", "data": DATA, "draws": {"server": {"api_key_env": "HOME"}}},
            "api_key_env is",
        ),
        ("sft", {"model": "sprout", "name": "../out", "data": DATA}, "'../out'"),
        ("sft", {"model": "sprout", "nmae": "x", "data": DATA}, "nmae"),
        ("sft", "model: [", "not YAML"),
        ("sft", "model: !!python/object/apply:os.system [ls]", "tag"),
        ("none", {"model": "sprout"}, "no stage 'none'"),
    ],
)
def test_what_leads_elsewhere_is_refused(tmp_path, stage: str, recipe: object, says: str) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to("/etc")
    (tmp_path / "state.db").write_text("")
    with pytest.raises(StudiumError, match=says) as refused:
        told_from(stage, recipe, tmp_path)  # type: ignore[arg-type]
    assert isinstance(refused.value, BadRequest | ConfigurationError)
    assert "/tmp" not in refused.value.try_next
