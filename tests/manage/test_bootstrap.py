"""The foundational adapter: one improvement, gone on with, and how a folder that lies there comes to serve."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

from studium.errors import BadRequest
from studium.manage.bootstrap import NAME, ROLE, SHELF, improvement, settle, wanted
from studium.manage.improve.ending import Ending
from studium.registry import Registry
from studium.store import open_store
from studium.train.bases import base_sha256
from studium.train.config import Lora, Optimiser

pytestmark = pytest.mark.slow


@pytest.fixture
def registry(tmp_path: Path) -> Any:
    store = open_store(tmp_path / "state.db")
    yield Registry(store, tmp_path)
    store.close()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, if untrained, adapter of the student, as a run leaves it."""
    from studium.train.given import _keep_adapter  # pyright: ignore[reportPrivateUsage]
    from studium.train.learner import Learner
    from studium.train.models import load

    learner = Learner(
        load("sprout"),
        Optimiser(),
        Lora(rank=2),
        steps=1,
        seed=0,
    )
    folder = tmp_path_factory.mktemp("run") / "adapter"
    _keep_adapter(learner, folder)
    return folder


def lay(adapter: Path, workspace: Path, **other: str) -> Path:
    folder = workspace / "adapters" / SHELF / NAME
    folder.mkdir(parents=True)
    for one in adapter.iterdir():
        (folder / one.name).write_bytes(one.read_bytes())
    card = {
        "kind": "adapter",
        "name": NAME,
        "base": "sprout",
        "base_sha256": base_sha256("sprout"),
        "lineage": {},
    }
    (folder / "adapter_meta.json").write_text(json.dumps(card | other))
    return folder


def test_it_is_begun_once_and_gone_on_with_and_trained_again_where_there_was_no_time(tmp_path: Path) -> None:
    one = improvement(tmp_path, 5.0)
    assert (one.name, one.wanted) == (NAME, wanted(5.0))
    one.steps = {"measure": {"figures": []}, "pace": {"steps": 0}}
    one.ending, one.spent_s = Ending.STOPPED, 20.0
    one.keep()
    assert improvement(tmp_path, 9.0) == one
    one.ending = Ending.NOT_TRAINED
    one.keep()
    again = improvement(tmp_path, 9.0)
    assert (list(again.steps), again.wanted.minutes, again.spent_s, again.ending) == (
        ["measure"],
        9.0,
        0.0,
        None,
    )
    one.steps, one.ending = {"pace": {"steps": 300}, "train": {}, "compare": {}}, Ending.NOT_MEASURED
    one.keep()
    assert list(improvement(tmp_path, 9.0).steps) == ["pace", "train"]
    for ending in (Ending.PROMOTED, Ending.HELD, Ending.ROLLED_BACK):
        one.ending = ending
        one.keep()
        assert improvement(tmp_path, 9.0) == one


def test_an_adapter_that_lies_there_is_registered_and_serves_at_start_up(
    tmp_path: Path, registry: Registry, adapter: Path
) -> None:
    lay(adapter, tmp_path)
    assert "serves the role implementer" in settle(tmp_path, registry)
    [registered] = registry.adapters(ROLE)
    assert registry.route(ROLE).champion == registered.id and registered.folder == f"adapters/{SHELF}/{NAME}"
    assert settle(tmp_path, registry) == "" and len(registry.history(ROLE)) == 2


def test_what_was_decided_about_the_role_stays_as_it_is(
    tmp_path: Path, registry: Registry, adapter: Path
) -> None:
    lay(adapter, tmp_path)
    settle(tmp_path, registry)
    with registry.lease("somebody") as token:
        registry.rollback(ROLE, actor="somebody", token=token)
    assert settle(tmp_path, registry) == "" and registry.route(ROLE).champion == ""


@pytest.mark.parametrize("ending", [None, Ending.HELD])
def test_an_adapter_that_was_made_here_serves_by_the_gates_word_and_not_because_it_lies_there(
    tmp_path: Path, registry: Registry, adapter: Path, ending: Ending | None
) -> None:
    """What compares it opens the workspace too: it was put to serve before the gate had seen it."""
    lay(adapter, tmp_path)
    one = improvement(tmp_path, 5.0)
    one.ending = ending
    one.keep()
    assert settle(tmp_path, registry) == "" and registry.route(ROLE).champion == ""


def test_a_folder_of_another_base_or_without_a_card_is_refused(
    tmp_path: Path, registry: Registry, adapter: Path
) -> None:
    assert settle(tmp_path, registry) == ""
    folder = lay(adapter, tmp_path, base_sha256="0" * 64)
    with pytest.raises(BadRequest, match="not the one this was trained on"):
        settle(tmp_path, registry)
    (folder / "adapter_meta.json").write_text("{}")
    with pytest.raises(BadRequest, match="cannot be read"):
        settle(tmp_path, registry)
    assert registry.adapters(ROLE) == []
