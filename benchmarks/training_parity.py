"""How far training here is from slow, obvious code and from plain TRL: one table, the largest difference per row.

Losses, advantages and estimates against code that loops over tokens; GRPO's gradient against TRL's on the same fixed
rollouts; SFT and DPO step by step against plain TRL; and settings that ought to be equal against one another. The
model is the embedded student sprout, on one thread. `--quick` leaves DPO and what is resumed out.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import Aim, Report, run, say
from studium.train.surroundings import quiet


class Case(NamedTuple):
    """What is compared with what, how near it has to be, and what measures it in a folder of its own."""

    what: str
    against: str
    bound: float
    measure: Callable[[Path], float]
    slow: bool = False


def cases() -> list[Case]:
    """Return every comparison; imports torch."""
    from benchmarks import parity_mathematics as mathematics
    from benchmarks import parity_trainers as trainers
    from studium.train.stages import dpo, rlvr, sft

    code, trl = "slow, obvious code", "plain TRL"
    plain: list[tuple[str, Callable[[], float]]] = [
        ("clipped surrogate", mathematics.surrogate),
        ("KL estimate k3", mathematics.k3),
        ("loss by sequence", partial(mathematics.weights, "sequence")),
        ("loss by token", partial(mathematics.weights, "token")),
        ("loss by a constant", partial(mathematics.weights, "constant")),
        ("advantages within groups", mathematics.advantages_within_groups),
        ("GAE, advantages and returns", mathematics.estimated_advantages),
        ("value loss", mathematics.value_losses),
        ("truncated importance correction", mathematics.truncated_correction),
    ]
    found = [Case(name, code, 1e-5, lambda _, one=one: one()) for name, one in plain]
    found += [
        Case("log-probabilities, padded batch", "row by row", 1e-5, lambda _: mathematics.padded_rows()),
        Case("GRPO gradient, three passes", "one pass", 1e-5, lambda _: mathematics.gradients_in_parts()),
    ]
    for kl in (0.0, 0.04):
        both = _both("GRPO", f"loss, KL {kl:g}", f"gradient, KL {kl:g}")
        found += _cases(both, trl, (1e-5, 1e-5), partial(trainers.grpo_and_trl, kl=kl))
    steps = _both("SFT", "loss of 6 steps", "weights after them")
    found += _cases(steps, trl, (1e-5, 1e-5), trainers.sft_and_trl)
    found += _cases(steps, "8 rows = 8 times 1", (1e-5, 1e-4), trainers.accumulated)
    found += _cases(steps, "packed = padded", (1e-5, 1e-4), trainers.packed)
    for share in (0.0, 0.2):
        names = _both("DPO" + (" with an SFT term" if share else ""), "loss of 3 steps", "weights after them")
        found += _cases(names, trl, (1e-5, 1e-5), partial(trainers.dpo_and_trl, sft_share=share), slow=True)
    for name, stage in (("SFT", sft), ("DPO", dpo), ("GRPO", rlvr)):
        names = _both(name, "loss of 4 steps", "weights after them")
        measure = partial(trainers.resumed, stage=stage)
        found += _cases(names, "resumed = uninterrupted", (0.0, 0.0), measure, slow=True)
    return found


def _both(stage: str, *what: str) -> list[str]:
    return [f"{stage}: {one}" for one in what]


def _cases(
    names: list[str],
    against: str,
    bounds: tuple[float, float],
    measure: Callable[[Path], Sequence[float]],
    *,
    slow: bool = False,
) -> list[Case]:
    """Return the two cases of one comparison, which is made once."""
    made: dict[str, Sequence[float]] = {}

    def part(number: int, folder: Path) -> float:
        if "apart" not in made:
            made["apart"] = measure(folder)
        return made["apart"][number]

    return [
        Case(name, against, bound, partial(part, number), slow)
        for number, (name, bound) in enumerate(zip(names, bounds, strict=True))
    ]


def _measure(quick: bool) -> Report:
    quiet()
    import torch

    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    chosen = [one for one in cases() if not (quick and one.slow)]
    with tempfile.TemporaryDirectory(prefix="studium-parity-") as folder:
        for number, case in enumerate(chosen):
            place = Path(folder) / str(number)
            place.mkdir()
            apart = case.measure(place)
            say(f"{case.what} against {case.against}: {apart:.2g}")
            row = {"what": case.what, "against": case.against, "largest difference": f"{apart:.2g}"}
            rows.append({**row, "bound": f"{case.bound:g}", "within": apart <= case.bound})
    within = sum(bool(row["within"]) for row in rows)
    value = within / len(rows)
    return Report(rows, [Aim("rows within their bound", value, None, None, "all", value == 1)])


def main() -> None:
    run("training_parity", __doc__ or "", _measure)


if __name__ == "__main__":
    main()
