"""Whether questions of one sort get one kind: by letters alone, and with a real embedding model beside them.

45 questions of nine sorts, written by hand with few words in common, asked in 20 random orders. Of all pairs of
questions: `precision` is the share of those of one kind that are of one sort, `recall` the share of those of one sort
that are of one kind. The model is the one `examples/embeddings` serves. The bound for what stands out
(`kinds.STANDS_OUT`) was set on these questions, which favours it.
"""

import asyncio
from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import Any

from benchmarks.report import Aim, Report, run
from benchmarks.same_question import embedder
from studium.evals.kinds import Kinds

SORTS = {
    "capital": "What is the capital of France?|Name the capital city of Japan.|Tell me Kenya's capital.|"
    "Which city is the seat of government of Peru?|Where does the government of Chile sit?",
    "poem": "Write a poem about autumn.|Compose some verses on the sea|A haiku about snow, please|"
    "Please write me a few rhymes about my cat.|I need a short sonnet on friendship",
    "translate": "Translate to German: good morning|Translate into French: where is the station?|"
    "How does one say 'I am tired' in Spanish?|Put this into Italian: the train is late|"
    "What is the Dutch word for butterfly?",
    "python": "Write a Python function that reverses a string.|How do I sort a list in Python?|"
    "Python code that counts words in a file|Why does my script raise a KeyError?|How to read a csv with pandas?",
    "stories": "Anna has 3 apples and buys 5 more. How many apples does she have?|"
    "Tom has 12 marbles and gives 4 away. How many are left?|A train covers 90 km in 2 hours. What is its speed?|"
    "Each box holds 6 eggs. How many eggs are in 7 boxes?|"
    "A shirt costs 20 dollars and is reduced by a quarter. What is the price?",
    "summary": "Summarise the following text: The cat sat on the mat.|"
    "Sum this article up in one sentence: Rain fell.|Give a short version of this paragraph: Birds fly south.|"
    "What are the main points of this text: Bread is baked at night.|"
    "Shorten this to ten words: The river rose and the bridge was closed.",
    "author": "Who wrote Hamlet?|Who is the author of Don Quixote?|Which novelist gave us Moby Dick?|"
    "By whom is the book Faust?|Name the writer of Emma.",
    "health": "What helps against a sore throat?|How do doctors treat high blood pressure?|"
    "What are the symptoms of the flu?|Which pills are good for a headache?|Is a fever of 39 dangerous?",
    "cooking": "How do I bake sourdough bread?|What goes into a tomato soup?|How long should rice be boiled?|"
    "Which spices suit roasted chicken?|Give me a recipe for pancakes.",
}
ORDERS = 20


async def _measure(quick: bool) -> Report:
    asked = [(sort, text) for sort, texts in SORTS.items() for text in texts.split("|")]
    embed = embedder()
    vectors = {text: await embed(text) for _, text in asked}
    rows = [
        _row("letters", asked, {}),
        _row("letters, and what stands out in meaning (now)", asked, vectors),
    ]
    gain = rows[1]["recall"] - rows[0]["recall"]
    aim = Aim("recall with meaning over letters alone", gain, None, None, "> 0", gain > 0)
    return Report(rows, [aim], [])


def _row(name: str, asked: Sequence[tuple[str, str]], vectors: dict[str, Sequence[float]]) -> dict[str, Any]:
    both = same_kind = same_sort = clusters = 0
    for seed in range(ORDERS):
        order = list(asked)
        Random(seed).shuffle(order)
        kinds = Kinds()
        given = [(sort, kinds.learn(text, None, vectors.get(text, ()))) for sort, text in order]
        clusters += len(kinds.clusters)
        for one, other in combinations(given, 2):
            both += one == other
            same_sort += one[0] == other[0]
            same_kind += one[1] == other[1]
    return {
        "by": name,
        "questions": len(asked),
        "sorts": len(SORTS),
        "kinds": round(clusters / ORDERS, 1),
        "precision": round(both / same_kind, 2) if same_kind else None,
        "recall": round(both / same_sort, 2),
    }


def main() -> None:
    run("kinds", __doc__ or "", lambda quick: asyncio.run(_measure(quick)))


if __name__ == "__main__":
    main()
