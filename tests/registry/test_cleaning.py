"""What goes from the disk and what stays: never who serves, who may be gone back to, or what these were made from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.registry.weights import adapter_folder, base_file

from studium.errors import BadRequest
from studium.records.adapters import STANDS_ON, Action, Adapter, AdapterKind, Phase
from studium.registry import Registry, cleaning
from studium.registry.files import sha256_of_file
from studium.store import open_store


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    store = open_store(tmp_path / "ws" / "state.db")
    yield Registry(store, tmp_path / "ws")
    store.close()


def take_in(registry: Registry, tmp_path: Path, name: str, **lineage: str) -> Adapter:
    folder = tmp_path / "runs" / name
    return registry.register(
        folder if folder.exists() else adapter_folder(folder, name),
        "sprout",
        name=name,
        base="sprout",
        base_sha256=sha256_of_file(base_file()),
        kind=AdapterKind.ADAPTER,
        lineage=lineage,
    )


def serve(registry: Registry, adapter: Adapter) -> None:
    with registry.lease("me") as token:
        registry.force("sprout", adapter.id, reason="it is a test", actor="me", token=token)


def clean(registry: Registry, keep: int = 0, *, dry_run: bool = False) -> list[str]:
    with registry.lease("me") as token:
        found = registry.clean(keep, actor="me", token=None if dry_run else token)
    assert all(one.size_bytes > 0 for one in found)
    return [one.adapter.name for one in found]


def on_disk(tmp_path: Path) -> list[str]:
    return sorted(one.name for one in (tmp_path / "ws" / "adapters" / "sprout").iterdir())


def test_what_serves_challenges_or_may_be_gone_back_to_stays_and_what_these_were_made_from(
    registry: Registry, tmp_path: Path
) -> None:
    origin = take_in(registry, tmp_path, "origin")
    first = take_in(registry, tmp_path, "first", **{STANDS_ON: origin.id})
    held, second, third, challenger = (
        take_in(registry, tmp_path, name) for name in ("held", "second", "third", "challenger")
    )
    newest = take_in(registry, tmp_path, "newest")
    for one in (second, first, third):
        serve(registry, one)
    with registry.lease("me") as token:
        registry.challenge("sprout", challenger.id, Phase.SHADOW, 0.0, actor="me", token=token)
    assert clean(registry, keep=2, dry_run=True) == clean(registry, keep=2) == [held.name]
    assert clean(registry, keep=2) == []
    assert clean(registry, keep=1) == [second.name]
    assert on_disk(tmp_path) == sorted(one.name for one in (origin, first, third, challenger, newest))
    assert clean(registry) == ["origin", "first"]


def test_after_a_rollback_who_the_next_one_leads_to_stays_and_who_was_rolled_back_goes(
    registry: Registry, tmp_path: Path
) -> None:
    """Kept was who had served last, so the adapter that was rolled back stayed and the way back was removed."""
    first, second, third = (take_in(registry, tmp_path, name) for name in ("first", "second", "third"))
    take_in(registry, tmp_path, "newest")
    for one in (first, second, third):
        serve(registry, one)
    with registry.lease("me") as token:
        registry.rollback("sprout", actor="me", token=token)
    assert registry.predecessors("sprout") == [first.id, ""]
    assert clean(registry, keep=1) == ["third"]
    assert on_disk(tmp_path) == ["first", "newest", "second"]
    with registry.lease("me") as token:
        assert registry.rollback("sprout", actor="me", token=token).after["champion"] == first.id


def test_who_served_several_times_counts_once_among_those_that_are_kept(
    registry: Registry, tmp_path: Path
) -> None:
    first, second, third = (take_in(registry, tmp_path, name) for name in ("first", "second", "third"))
    take_in(registry, tmp_path, "newest")
    for one in (first, second, third, second, third):
        serve(registry, one)
    assert clean(registry, keep=2) == [] and clean(registry, keep=1) == ["first"]


def test_rows_stay_the_registry_is_sound_and_the_way_back_to_it_is_refused(
    registry: Registry, tmp_path: Path
) -> None:
    first, second = (take_in(registry, tmp_path, name) for name in ("first", "second"))
    serve(registry, first)
    serve(registry, second)
    assert clean(registry) == ["first"]
    assert registry.removed() == {first.id} and len(registry.adapters()) == 2 and registry.verify() == []
    assert registry.history()[-1].action is Action.REMOVE
    assert registry.state({"sprout": "sprout"})[0].back == ()
    with registry.lease("me") as token:
        with pytest.raises(BadRequest, match="first, which served before, was removed"):
            registry.rollback("sprout", actor="me", token=token)
        with pytest.raises(BadRequest, match="files of first were removed"):
            registry.force("sprout", first.id, reason="back", actor="me", token=token)
        registry.rollback("sprout", actor="me", token=token, emergency=True)
    assert registry.route("sprout").champion == "" and registry.verify() == []


def test_taking_the_same_in_again_brings_it_back(registry: Registry, tmp_path: Path) -> None:
    first, _ = (take_in(registry, tmp_path, name) for name in ("first", "second"))
    assert clean(registry) == ["first"]
    assert take_in(registry, tmp_path, "first").id == first.id
    assert registry.removed() == set() and registry.verify() == []
    serve(registry, first)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", ["rename", "rmtree"])
def test_killed_in_between_it_is_sound_and_the_next_one_ends_it(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    for name in ("first", "second"):
        take_in(registry, tmp_path, name)

    def killed(*_told: Any, **_named: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(*((Path, "rename") if step == "rename" else (cleaning.shutil, "rmtree")), killed)
        with pytest.raises(Killed):
            clean(registry)
    assert registry.verify() == [] and len(registry.removed()) == 1
    assert clean(registry) == []
    assert on_disk(tmp_path) == ["second"]
    assert not (tmp_path / "ws" / "adapters" / ".outgoing").exists()
