"""The foundational adapter: what is left to do, what is declined, and how a folder that lies there comes to serve."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

from studium.domains.answers import ABSTENTION
from studium.errors import BadRequest
from studium.manage import bootstrap
from studium.manage.bootstrap import NAME, ROLE, SHELF, settle, stand_of, told_for, write_declines
from studium.registry import Registry
from studium.store import open_store
from studium.train.bases import base_sha256
from studium.train.config import Lora
from studium.train.run_folder import State

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
        bootstrap.told_for(tmp_path_factory.mktemp("w")).recipe.optimiser,
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


def test_everything_is_left_in_an_empty_workspace_and_looking_changes_nothing(tmp_path: Path) -> None:
    stand = stand_of(tmp_path, None)
    assert stand.left() == ["declines", "train", "register", "compare", "promote"]
    assert stand.state is State.STOPPED and list(tmp_path.iterdir()) == []


def test_what_is_declined_is_the_same_every_time_and_the_recipe_reads_it(tmp_path: Path) -> None:
    first = write_declines(tmp_path).read_bytes()
    assert write_declines(tmp_path).read_bytes() == first
    rows = [json.loads(line) for line in first.splitlines()]
    assert {row["completion"] for row in rows} == {ABSTENTION}
    assert len({row["id"] for row in rows}) == len(rows) > 1000
    told = told_for(tmp_path)
    assert told.recipe.replay.data[-1].file == str(tmp_path / "datasets" / bootstrap.DECLINES)


def test_an_adapter_that_lies_there_is_registered_and_serves_at_start_up(
    tmp_path: Path, registry: Registry, adapter: Path
) -> None:
    lay(adapter, tmp_path)
    assert "serves the role implementer" in settle(tmp_path, registry)
    [registered] = registry.adapters(ROLE)
    assert registry.route(ROLE).champion == registered.id and registered.folder == f"adapters/{SHELF}/{NAME}"
    assert stand_of(tmp_path, registry).left() == []
    assert settle(tmp_path, registry) == "" and len(registry.history(ROLE)) == 2


def test_what_was_decided_about_the_role_stays_as_it_is(
    tmp_path: Path, registry: Registry, adapter: Path
) -> None:
    lay(adapter, tmp_path)
    settle(tmp_path, registry)
    with registry.lease("somebody") as token:
        registry.rollback(ROLE, actor="somebody", token=token)
    assert settle(tmp_path, registry) == "" and registry.route(ROLE).champion == ""


def test_an_adapter_that_the_gate_held_does_not_serve_because_it_lies_there(
    tmp_path: Path, registry: Registry, adapter: Path
) -> None:
    lay(adapter, tmp_path)
    held = bootstrap._found(tmp_path / "adapters" / SHELF / NAME, registry)  # pyright: ignore[reportPrivateUsage]
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "x.json").write_text(json.dumps({"challenger": held.id, "verdict": "hold"}))
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
