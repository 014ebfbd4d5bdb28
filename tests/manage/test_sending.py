"""A recipe that is sent names what the box has; rows are kept by their content and held to what rows are."""

import hashlib

import pytest

from studium.errors import BadRequest, ConfigurationError, OperatorError
from studium.manage.datasets import KEPT_FREE_BYTES, arriving, check_room, place_of, settle, take_file
from studium.manage.sending import check_same_model, for_box
from studium.train.recipe_file import read_told

ROW = b'{"prompt": "1 + 1", "completion": "2"}\n'


def test_a_recipe_for_elsewhere_names_rows_by_content_and_models_by_their_place(tmp_path) -> None:
    tree = {
        "model": str(tmp_path / "runs" / "first" / "checkpoint"),
        "teacher": "sprout",
        "data": [{"file": "/x/rows.jsonl", "rows": 3}, {"domain": "arithmetic"}],
        "replay": {"data": [{"file": "/x/old.jsonl"}]},
        "then": ["sprout", ""],
        "note": "/x/rows.jsonl",
    }
    kept: list[str] = []

    def keep(file: str) -> str:
        kept.append(file)
        return f"datasets/{len(kept)}.jsonl"

    assert for_box(tree, tmp_path, keep) == tree | {
        "model": "runs/first/checkpoint",
        "data": [{"file": "datasets/1.jsonl", "rows": 3}, {"domain": "arithmetic"}],
        "replay": {"data": [{"file": "datasets/2.jsonl"}]},
    }
    assert kept == ["/x/rows.jsonl", "/x/old.jsonl"]
    for away in ("/somewhere/model", str(tmp_path / "runs" / ".." / ".." / "model")):
        with pytest.raises(BadRequest, match="outside of the workspace"):
            for_box({"model": away}, tmp_path, keep)


def test_another_model_of_the_same_name_is_refused(tmp_path) -> None:
    (tmp_path / "recipe.yaml").write_text("model: sprout\n")
    told = read_told(tmp_path / "recipe.yaml", "sft")
    with pytest.raises(ConfigurationError, match="not the one here"):
        check_same_model(told, tmp_path, "0" * 64)
    check_same_model(told, tmp_path, "")


def test_rows_are_kept_once_under_their_hash(tmp_path) -> None:
    (tmp_path / "mine.jsonl").write_bytes(ROW * 3)
    first, again = (take_file(tmp_path / "mine.jsonl", tmp_path) for _ in range(2))
    assert first == again == place_of(tmp_path, hashlib.sha256(ROW * 3).hexdigest())
    assert first.read_bytes() == ROW * 3 and list(first.parent.iterdir()) == [first]


@pytest.mark.parametrize(
    ("content", "sha256", "says"),
    [
        (ROW + b"no row\n", "", "rows.jsonl:2: no JSON"),
        (ROW + b'{"completion": "2", "path": "/etc"}\n', "", "unknown key 'path'"),
        (b"\0" * (5 << 20), "", "no JSON object of at most"),
        (ROW, "0" * 64, "have the hash"),
    ],
)
def test_what_is_no_row_or_not_what_it_is_called_leaves_nothing(tmp_path, content, sha256, says) -> None:
    with pytest.raises(BadRequest, match=says), arriving(tmp_path) as rows:
        rows.write_bytes(content)
        settle(rows, tmp_path, sha256)
    assert list((tmp_path / "datasets").iterdir()) == []


def test_only_a_hash_is_a_place_and_the_disk_keeps_some_room(tmp_path) -> None:
    for name in ("..", "A" * 64, "a" * 63, f"{'a' * 63}/"):
        with pytest.raises(BadRequest, match="no name for rows"):
            place_of(tmp_path, name)
    check_room(5, KEPT_FREE_BYTES + 5)
    with pytest.raises(OperatorError, match="6 bytes of rows do not fit"):
        check_room(6, KEPT_FREE_BYTES + 5)
