"""Roll-outs as rows: what is forgotten is over for long, and whole."""

from pathlib import Path

from studium.records.rollouts import Exposure, Rollout
from studium.store import open_store


def test_only_roll_outs_that_ended_before_are_forgotten_with_what_they_saw(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state.db")
    try:
        for number, ended_at in ((1, 10.0), (2, 30.0), (3, None)):
            store.rollouts.begin(Rollout(number, "sprout", "", "a" * 64, began_at=1.0))
            store.rollouts.add([Exposure(number, 2.0, f"r{at}", "shadow", "") for at in range(number)])
            if ended_at is not None:
                store.rollouts.end(number, at=ended_at, outcome="withdrawn")
        assert store.rollouts.forget(20.0, dry_run=True) == 1
        assert store.rollouts.forget(20.0) == 1 and store.rollouts.forget(20.0) == 0
        assert [one.number for one in store.rollouts.rollouts()] == [2, 3]
        assert [len(list(store.rollouts.exposures(number))) for number in (1, 2, 3)] == [0, 2, 3]
    finally:
        store.close()
