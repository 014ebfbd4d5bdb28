"""Checks of what a reply is worth: the expert is worth all of it, and junk is not."""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

from studium.domains.answers import ABSTENTION
from studium.errors import StudiumError
from studium.train.preflight.findings import Finding, Inputs, bad, good
from studium.train.preflight.gold import gold_of, without_thoughts
from studium.train.rl import signs
from studium.train.rl.rewards import Outcome, StepVerified
from studium.train.rows import Row

_PROBED_ROWS = 48
_NEAR = 0.9
_FULL = 0.999
_SENTINELS = ("correct", "right", "None", "nan")


class Probe(NamedTuple):
    """A reply that is not the expert's. `right`: it holds the right answer, so that full marks may be meant."""

    name: str
    text: str
    right: bool = False
    ended: bool = True


def gold_scores(inputs: Inputs) -> Finding:
    """Expert replies get full marks on all of the set, from the reward that is used or else the verifier (3.8)."""
    name, scored = "gold", 0
    if inputs.reward is not None and inputs.options.get("control") == "random":
        return good(name, "the control's rewards are random on purpose")
    for row in inputs.every:
        if row.problem is None or row.rejected:
            continue
        drawn = not row.completion
        reward = (
            inputs.reward if drawn and inputs.reward else (Outcome() if row.step is None else StepVerified())
        )
        said = gold_of(row, inputs.told.recipe) if drawn else without_thoughts(row.completion)
        score = reward(row, said or "", True)
        if score is None and not drawn:
            continue  # a step that its domain cannot verify may be taught, though not rewarded
        if score is None or not score >= _FULL:
            told = "is not scored" if score is None else f"scores {score:.3g}"
            try_next = "correct the row or the domain's verify: what is taught must be right"
            return bad(
                name, f"the reply {(said or '')[-60:]!r} that is taught {told}", row, try_next=try_next
            )
        scored += 1
    return good(
        name, f"all {scored} rows with a verifier score full marks" if scored else "no row has a verifier"
    )


def probes(inputs: Inputs) -> Finding:
    """Junk is worth less than nine tenths of the expert's reply, on average (3.7)."""
    name, reward = "reward probes", inputs.reward
    if reward is None:
        return good(name, "this stage has no reward")
    if inputs.options.get("control") == "random":
        return good(name, "the control's rewards are random on purpose")
    rows = _spread([row for row in inputs.rows if row.problem is not None], _PROBED_ROWS)
    golds = {row.id: gold_of(row, inputs.told.recipe) or "" for row in rows}
    worth = [score for row in rows if (score := reward(row, golds[row.id], True)) is not None]
    if not worth:
        return bad(name, "no expert's reply is scored", try_next="see the check 'gold'")
    full = fmean(worth)
    scores: dict[str, list[float]] = {}
    also: dict[str, bool] = {}
    for row in rows:
        for probe in _probes(
            row, golds[row.id], [one for one in rows if golds[one.id] != golds[row.id]], inputs
        ):
            also[probe.name] = probe.right
            if (score := reward(row, probe.text, probe.ended)) is not None:
                scores.setdefault(probe.name, []).append(score)
    means = {probe: fmean(values) for probe, values in scores.items()}
    for probe, mean in means.items():
        bound = 1.001 * full if also[probe] else _NEAR * full
        if full <= 0 or mean >= bound + (1e-9 if also[probe] else 0.0):
            says = f"the probe '{probe}' earns {mean:.3g}, the expert's reply {full:.3g}"
            return bad(
                name, says, rows[0], try_next="mend the reward: what can be had for nothing is learned first"
            )
    told = ", ".join(f"{probe} {mean:.2g}" for probe, mean in means.items())
    return good(name, f"expert {full:.2g}; {told}")


def second_verifier(inputs: Inputs) -> Finding:
    """The second verifier, where one is named, is another than the reward's and knows a right reply."""
    name = "second verifier"
    named = str(getattr(inputs.told.recipe, "second_verifier", ""))
    try:
        signs.second_verifier(named, inputs.evaluation)
    except StudiumError as error:
        return bad(name, f"{error.happened}; expected {error.expected}", try_next=error.try_next)
    if not named:
        return good(name, "none is named")
    return good(name, f"{named} gives the solutions of {len(inputs.evaluation)} problems full marks")


def _probes(row: Row, gold: str, others: Sequence[Row], inputs: Inputs) -> Iterator[Probe]:
    """Yield what a policy may try instead of solving."""
    answer = row.problem.expected if row.problem and row.step is None else without_thoughts(gold).strip()
    last = gold.rstrip("\n").rpartition("\n")[2]
    yield Probe("empty", "")
    yield Probe("form only", last.replace(answer, "").rstrip() + " ")
    yield Probe("copied prompt", "\n".join(one.content for one in row.messages))
    yield Probe("truncated", gold[: len(gold) // 2])
    yield Probe("cut off", gold[: len(gold) // 2], ended=False)
    yield Probe("declined", ABSTENTION)
    for word in _SENTINELS:
        yield Probe(f"the word {word}", word)
    foreign = [gold_of(one, inputs.told.recipe) or "" for one in others[:20]]
    if foreign:
        yield Probe("another's reply", foreign[0])
        half = len(foreign) // 2
        answers = [one.rstrip("\n").rpartition("\n")[2] for one in foreign]
        yield Probe("spray of answers", " ".join([*answers[:half], last, *answers[half:], answers[0]]))
    # These hold the right answer: they may earn as much as it does, never more.
    yield Probe("repeated", f"{gold.rstrip()}\n" * 8, right=True)
    yield Probe("bare answer", answer, right=True)


def _spread(rows: Sequence[Row], most: int) -> list[Row]:
    """Return at most so many rows, evenly from all."""
    step = max(1, len(rows) // most)
    return list(rows[::step])[:most]
