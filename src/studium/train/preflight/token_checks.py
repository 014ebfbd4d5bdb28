"""Checks of rows as tokens: what is trained on, how it ends, whether training reads what serving writes."""

from collections.abc import Sequence
from math import isfinite
from statistics import fmean
from typing import Any

from studium.train.preflight.findings import Finding, Inputs, bad, good
from studium.train.preflight.gold import gold_of
from studium.train.rows import Row, completion_ids, encode, prompt_ids, whole_ids, with_completion


def trained_tokens(inputs: Inputs) -> Finding:
    """Every row that is learned from has tokens that carry loss (facts 3.1)."""
    name = "trained tokens"
    shares: list[float] = []
    for row in inputs.learned:
        if not row.completion.strip():
            return bad(name, "a row has nothing to learn", row, try_next="complete it, or leave it out")
        if not isfinite(row.weight) or row.weight <= 0:
            return bad(
                name, f"a row weighs {row.weight}", row, try_next="give it a weight above 0, or leave it out"
            )
        encoded = encode(inputs.tokenizer, row)
        shares.append(1 - encoded.num_prompt / len(encoded.ids))
        if not any(label >= 0 for label in encoded.labels):
            return bad(
                name, "no token of a row carries loss", row, try_next="look at it: studium train check"
            )
    if inputs.prompts_only:
        return good(name, f"{len(inputs.rows)} prompts; replies are drawn")
    if not shares:
        return bad(name, "there are no rows", try_next="correct 'data' in the recipe")
    return good(
        name,
        f"{min(shares):.0%} to {max(shares):.0%} of a row's tokens carry loss, {fmean(shares):.0%} on average",
    )


def end_tokens(inputs: Inputs) -> Finding:
    """Rows end with the end token, once, under loss; padding is another; the served model ends there too (3.2)."""
    name, tokenizer = "end token", inputs.tokenizer
    end: Any = tokenizer.eos_token_id
    if end is None:
        return bad(
            name, "the tokenizer has no end token", try_next="take an instruct model, or set eos_token"
        )
    if end == tokenizer.pad_token_id:
        return bad(
            name,
            f"padding and end are one token ({tokenizer.eos_token!r}): its loss would be masked",
            try_next="give the tokenizer a pad token of its own",
        )
    if inputs.end_ids and end not in inputs.end_ids:
        return bad(
            name,
            f"rows end with {tokenizer.eos_token!r} ({end}), the served model ends at {sorted(inputs.end_ids)}",
            try_next="make eos_token_id of generation_config.json the tokenizer's",
        )
    ending = 0
    for row in inputs.learned:
        said = encode(tokenizer, row)
        completion = list(said.ids[said.num_prompt :])
        ending += row.ends
        if row.ends and completion[-1:] != [end]:
            return bad(
                name, "a row does not end with the end token", row, try_next="look at it: studium train check"
            )
        if end in (completion[:-1] if row.ends else completion):
            return bad(
                name, "the end token stands within a completion", row, try_next="take it out of the text"
            )
    told = f", under loss in {ending} rows" if ending else ""
    return good(name, f"replies end with {tokenizer.eos_token!r}{told}; padding is {tokenizer.pad_token!r}")


def template(inputs: Inputs) -> Finding:
    """Prompt and completion are, token by token, what the serving template writes (3.3)."""
    name, count = "template", 0
    for row in inputs.every:
        text: Any = inputs.tokenizer.apply_chat_template(
            [{"role": one.role, "content": one.content} for one in row.messages],
            tokenize=False,
            add_generation_prompt=True,
        )
        left_out = next((one for one in row.messages if one.content.strip() not in text), None)
        if left_out is not None:
            says = f"the chat template leaves out or changes the {left_out.role} message {left_out.content[:60]!r}"
            return bad(name, says, row, try_next="leave such messages out, or train with another template")
        full = row if row.completion else with_completion(row, gold_of(row, inputs.told.recipe) or "x")
        if difference := _difference(inputs, full):
            return bad(name, difference, row, try_next="correct the row's text, or the model's chat template")
        count += 1
    return good(name, f"{count} rows are token by token what is served")


def _difference(inputs: Inputs, row: Row) -> str:
    """Say where training's tokens leave the template's; "" where they do not. White space may follow the end token."""
    ours, served = list(encode(inputs.tokenizer, row).ids), whole_ids(inputs.tokenizer, row)
    theirs = served[: len(ours)]
    rest: Any = inputs.tokenizer.decode(served[len(ours) :])
    if ours == theirs and (not row.ends or not rest.strip()):
        return ""
    at = next(
        (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    return f"token {at}: training has {_near(inputs, ours, at)}, serving has {_near(inputs, served, at)}"


def _near(inputs: Inputs, ids: Sequence[int], at: int) -> str:
    return "..." + "|".join(str(inputs.tokenizer.decode([one])) for one in ids[max(0, at - 2) : at + 2])


def vocabulary(inputs: Inputs) -> Finding:
    """The model knows every token, and completions survive the way to tokens and back."""
    name, known = "vocabulary", inputs.num_embeddings
    highest = 0
    for row in inputs.every:
        ids = encode(inputs.tokenizer, row).ids
        highest = max(highest, *ids)
        if known is not None and max(ids) >= known:
            says = f"the token {max(ids)} is not among the model's {known}"
            return bad(name, says, row, try_next="take the tokenizer that belongs to the model")
        if (unknown := inputs.tokenizer.unk_token_id) is not None and unknown in ids:
            return bad(
                name, "a text has a character the tokenizer does not know", row, try_next="take it out"
            )
        back: Any = inputs.tokenizer.decode(completion_ids(inputs.tokenizer, row.completion, ends=False))
        if back != row.completion:
            says = f"the tokenizer turns {row.completion[:40]!r} into {back[:40]!r}"
            return bad(name, says, row, try_next="take another tokenizer, or other text")
    return good(name, f"highest token {highest}" + (f" of {known}" if known else ""))


def length(inputs: Inputs) -> Finding:
    """No row is cut: what is too long would be trained without its end, or never be solved (3.12)."""
    name, recipe = "length", inputs.told.recipe
    limit = min(recipe.max_tokens, inputs.context or recipe.max_tokens)
    draws: Any = getattr(recipe, "draws", None)
    longest = 0
    for row in inputs.every:
        if row.completion:
            size = len(encode(inputs.tokenizer, row).ids)
        else:
            gold = completion_ids(inputs.tokenizer, gold_of(row, recipe) or "", ends=row.ends)
            if draws is not None and len(gold) > draws.most_tokens:
                says = f"the right reply has {len(gold)} tokens, drawn are {draws.most_tokens}: it cannot be found"
                return bad(name, says, row, try_next="raise draws.most_tokens")
            size = len(prompt_ids(inputs.tokenizer, row)) + len(gold)
        longest = max(longest, size)
        if size > limit:
            what = "max_tokens" if limit == recipe.max_tokens else "the model's context"
            return bad(
                name,
                f"a row has {size} tokens, {what} is {limit}",
                row,
                try_next=f"raise {what}, or leave it out",
            )
    return good(name, f"the longest row has {longest} of {limit} tokens")
