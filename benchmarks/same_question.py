"""Which questions the cache takes for the same, with a real embedding model: paraphrases, and what is only near.

The pairs are written by hand and stand below; none of the near ones is among the probes the cache asks its model. The
model is the one `examples/embeddings` serves (package `wordllama`, 256 numbers, a mean of token vectors). Ways: the
cosine of the whole questions alone, with the guard of numbers, names and negations, with the cosine half-way between
opposites in whole sentences and 1 (the rule before), and the differing words compared (the rule now). For scale: the
lowest cosine at which no near pair would be taken for the same by it alone.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.report import REPOSITORY, Aim, Report, run
from studium.evals.intervals import wilson
from studium.serve.cache.keys import guard, similarity
from studium.serve.cache.nearness import least_cosine, means_the_same
from studium.serve.cache.same_question import plainly, words_of

SAME = """
How do I reset my password? | How can I reset my password?
How do I reset my password? | Hi, how could I reset my password please?
How do I remove a red wine stain from a carpet? | How to remove a red wine stain from a carpet?
How do I remove a red wine stain from a carpet? | What's the way to get a red wine stain out of a carpet?
What is a good recipe for banana bread? | What's a good recipe for banana bread?
What is a good recipe for banana bread? | Please give me a good banana bread recipe.
Explain photosynthesis. | Can you explain photosynthesis to me?
Explain photosynthesis. | Please describe photosynthesis.
Why is the sky blue? | Why does the sky look blue?
Why is the sky blue? | What makes the sky blue?
How do I fix a flat bicycle tyre? | How do I repair a flat bicycle tyre?
How do I fix a flat bicycle tyre? | How can I repair a punctured bike tire?
Which movie should I watch with kids? | Which film should I watch with children?
Which movie should I watch with kids? | What is a good movie to watch with kids?
Write a story about a dragon. | Could you write a story about a dragon?
Write a story about a dragon. | Tell me a story about a dragon.
What colour is a ripe mango? | What color is a ripe mango?
What causes thunder? | What is thunder caused by?
How do I begin learning the piano? | How do I start learning the piano?
How do I begin learning the piano? | How can one begin to learn piano?
Who invented the telephone? | Who was the inventor of the telephone?
Where do penguins live? | In which places do penguins live?
Is it healthy to drink green tea every day? | Is drinking green tea every day healthy?
How can I photograph the moon? | How can I take a picture of the moon?
Summarise the plot of the play for me. | Please summarize the plot of the play.
How do I boil an egg? | Hello! How do you boil an egg?
How do I remove a virus from a laptop? | How do I go about removing a virus from a laptop?
What is the neighbourhood around the harbour like? | What is the neighborhood around the harbor like?
Are tomatoes a fruit? | Is a tomato a fruit?
Which vaccines are permitted for infants? | Which vaccines are allowed for babies?
"""
NEAR = """
I loved the film; what should I see now? | I hated the film; what should I see now?
Is it safe to eat raw eggs? | Is it unsafe to eat raw eggs?
Is it legal to record a phone call? | Is it illegal to record a phone call?
Can dogs eat chocolate? | Can cats eat chocolate?
Can dogs eat chocolate? | Should dogs eat chocolate?
Can dogs eat chocolate? | Can dogs eat white chocolate?
How do I open a bank account? | How do I close a bank account?
Should I buy a house? | Should I sell a house?
How do I enable dark mode? | How do I disable dark mode?
How do I install the driver? | How do I uninstall the driver?
How do I encrypt a file? | How do I decrypt a file?
How do I import contacts? | How do I export contacts?
What are advantages of solar power? | What are disadvantages of solar power?
What is the tallest mountain in africa? | What is the tallest mountain in asia?
Who wrote hamlet? | Who wrote macbeth?
Who wrote Hamlet? | Who wrote Macbeth?
Are elephants heavier than whales? | Are whales heavier than elephants?
Does tea dehydrate you faster than coffee? | Does coffee dehydrate you faster than tea?
How long does a flight from rome to oslo take? | How long does a flight from oslo to rome take?
How do I get a wine stain out of a carpet? | How do I get a coffee stain out of a carpet?
How many days are in 3 weeks? | How many days are in 4 weeks?
How do I divide by seven in my head? | How do I divide by eight in my head?
Which animals can fly? | Which animals can't fly?
Which animals can fly? | Which animals can never fly?
How do I gain weight? | How do I lose weight?
How do I stay awake at night? | How do I fall asleep at night?
What does a landlord have to pay? | What does a tenant have to pay?
What should an employer know about sick leave? | What should an employee know about sick leave?
Is the museum open on monday? | Is the museum open on tuesday?
What is the weather like in january? | What is the weather like in february?
What gift would a husband like? | What gift would a wife like?
What do I call the mother of my uncle? | What do I call the father of my uncle?
How do I turn the heating on? | How do I turn the heating off?
How do I draw a horse? | How do I ride a horse?
How do I lend money to a friend? | How do I borrow money from a friend?
How do I convert euros into dollars? | How do I convert dollars into euros?
What is the deepest lake? | What is the shallowest lake?
What is the lightest metal? | What is the heaviest metal?
Is a virus alive? | Is a bacterium alive?
How do I write a careful review? | How do I write a careless review?
Why is internal control needed? | Why is external control needed?
What happens when water freezes? | What happens when water boils?
What is the speed of light? | What is the speed of sound?
What is time? | What is the time?
Was the trial fair? | Was the trial unfair?
Is my cat too thin? | Is my cat too fat?
Who won the last election? | Who lost the last election?
How do I speed up a video? | How do I slow down a video?
Can I return shoes without a receipt? | Can I return shoes with a receipt?
Name a book on gardening. | Name books on gardening.
What did the senate approve? | What did the senate reject?
How do I become a nurse? | How do I become a doctor?
Do vegans eat honey? | Do vegetarians eat honey?
Which exercises strengthen the left knee? | Which exercises strengthen the right knee?
How do I teach a child to swim? | How does a child learn to swim?
How do I upload a photo? | How do I download a photo?
Is the moon bigger than pluto? | Is the sun bigger than pluto?
What are the symptoms of influenza? | What are the causes of influenza?
How do I delete a branch in git? | How do I create a branch in git?
What makes bread rise? | What makes bread fall?
"""
# Words that stand in for each other, and some that do not, for the scale; neither decides anything.
ALIKE = (
    "kids/children colour/color movie/film fix/repair begin/start buy/purchase photo/picture phone/telephone"
)
UNLIKE = "legal/illegal safe/unsafe buy/sell husband/wife january/february fix/break wine/coffee"
LOOSE, USUAL, STRICT = 0.8, 0.9, 0.97
# The rule before: half-way between 1 and the nearest of these in whole, long sentences.
_LONG = (
    "We have been to this place with the whole family on a rainy day in spring, sat by the window, and ordered what "
    "the waiter recommended to us, with a bottle of water and some bread. Here is what my sister thinks of it: {}"
)
_SENTENCES = (("I loved the soup.", "I hated the soup."), ("The shop is open.", "The shop is closed."))

Embed = Callable[[str], Awaitable[Sequence[float]]]
Rule = Callable[[str, str], Awaitable[bool]]


def embedder() -> Embed:
    """Return the example's embedding model. Raises ImportError without the package `wordllama`."""
    sys.path.insert(0, str(REPOSITORY / "examples" / "embeddings"))
    from embeddings_server import wordllama_embed  # pyright: ignore[reportMissingImports]

    embed_all = wordllama_embed()

    async def embed(text: str) -> Sequence[float]:
        return embed_all([text])[0]

    return embed


def pairs_of(text: str) -> list[tuple[str, str]]:
    """Return the pairs of a table, one to a line."""
    found = [line.split(" | ") for line in text.strip().splitlines()]
    return [(one, other) for one, other in found]


async def rules(embed: Embed) -> dict[str, Rule]:
    """Return the ways to say whether two questions are the same, by name."""
    least = await least_cosine(embed)
    assert least is not None

    async def cosine(one: str, other: str) -> float:
        return similarity(await embed(one), await embed(other))

    opposites = [await cosine(_LONG.format(one), _LONG.format(other)) for one, other in _SENTENCES]
    half_way = (1 + max(opposites)) / 2

    def whole(at: float, *, guarded: bool = False, ordered: bool = False) -> Rule:
        async def rule(one: str, other: str) -> bool:
            alike = (not guarded or guard(one) == guard(other)) and (not ordered or _same_order(one, other))
            return alike and await cosine(one, other) >= at

        return rule

    def word_by_word(at: float) -> Rule:
        async def rule(one: str, other: str) -> bool:
            one, other = plainly(one), plainly(other)
            words = [" ".join(words_of(text)) for text in (one, other)]
            near = guard(one) == guard(other) and await cosine(*words) >= at
            return near and await means_the_same(embed, one, other, least)

        return rule

    return {
        f"whole questions, cosine {USUAL}": whole(USUAL),
        f"whole questions, cosine {STRICT}": whole(STRICT),
        f"guard, cosine {USUAL}": whole(USUAL, guarded=True),
        f"guard, cosine {STRICT}": whole(STRICT, guarded=True),
        f"guard and order, cosine {half_way:.3f} (the rule before)": whole(
            half_way, guarded=True, ordered=True
        ),
        f"guard, words above {least:.3f}, cosine {LOOSE}": word_by_word(LOOSE),
        f"guard, words above {least:.3f}, cosine {USUAL} (now)": word_by_word(USUAL),
        f"guard, words above {least:.3f}, cosine {STRICT}": word_by_word(STRICT),
    }


async def _scale(embed: Embed, what: str, pairs: str) -> str:
    split = [tuple(pair.split("/")) for pair in pairs.split()]
    found = [(similarity(await embed(one), await embed(other)), one, other) for one, other in split]
    return f"words {what}: " + ", ".join(
        f"{one} and {other} {cosine:.2f}" for cosine, one, other in sorted(found)
    )


def _same_order(one: str, other: str) -> bool:
    """Say whether the words that both hold come as often and in the same order in both."""
    ones, others = words_of(one), words_of(other)
    common = set(ones) & set(others)
    return [word for word in ones if word in common] == [word for word in others if word in common]


async def _measure() -> Report:
    embed = embedder()
    same, near = pairs_of(SAME), pairs_of(NEAR)
    rows: list[dict[str, Any]] = []
    aims: list[Aim] = []
    notes: list[str] = []
    for name, rule in (await rules(embed)).items():
        hits = [pair for pair in same if await rule(*pair)]
        false = [pair for pair in near if await rule(*pair)]
        rows.append(
            {
                "way": name,
                "paraphrases taken": f"{len(hits)} of {len(same)}",
                "near taken": f"{len(false)} of {len(near)}",
            }
        )
        notes += [f"{name}: {one!r} for {other!r}" for one, other in false[:3]]
        if "(now)" in name:
            share = wilson(len(false), len(near))
            aims.append(
                Aim(
                    "near pairs taken for the same",
                    len(false),
                    None,
                    None,
                    "0",
                    not false,
                    f"at most {100 * share.high:.0f} % at 95 %",
                )
            )
            notes += [f"not taken: {one!r} for {other!r}" for one, other in same if (one, other) not in hits]
            notes += [f"taken: {one!r} for {other!r}" for one, other in hits]
    notes += [await _scale(embed, what, pairs) for what, pairs in (("alike", ALIKE), ("unlike", UNLIKE))]
    for pair in ((one, other) for one, other in [*near, *same] if "eggs" in one or "repair" in other):
        notes.append(
            f"{similarity(await embed(pair[0]), await embed(pair[1])):.2f}: {pair[0]!r} and {pair[1]!r}"
        )
    cosines = sorted([similarity(await embed(one), await embed(other)) for one, other in near])
    notes.append(
        f"the nearest near pair has cosine {cosines[-1]:.4f}, the median one {cosines[len(cosines) // 2]:.3f}"
    )
    return Report(rows, aims, notes)


def main() -> None:
    run("same_question", __doc__ or "", lambda quick: asyncio.run(_measure()))


if __name__ == "__main__":
    main()
