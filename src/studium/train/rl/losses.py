"""The one loss of the engine and its parts, on log-probabilities per token; nothing here knows an algorithm's name.

    loss = sum over tokens of weight * (clipped surrogate + kl_coefficient * KL - entropy_coefficient * entropy)

PPO's clip: Schulman et al. 2017 (arXiv 1707.06347), eq. 7, written as a loss. The KL estimate is k3 of Schulman's
"Approximating KL divergence", as in DeepSeekMath (arXiv 2402.03300), eq. 4. A likelihood is the surrogate with
advantage 1 at ratio 1: its gradient is that of the log-probability. Tests hold all of it to slow, obvious code.

Axes: B rows, T positions, V vocabulary.
"""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import torch

Normalise = Literal["sequence", "token", "constant"]


class Policy(NamedTuple):
    """What a model says of the tokens of a batch: their log-probabilities and the entropy they were chosen from."""

    logprobs_BT: "torch.Tensor"
    entropy_BT: "torch.Tensor"
    hidden_BTW: "torch.Tensor | None" = None


def policy_of(
    model: Any,
    ids_BT: "torch.Tensor",
    seen_BT: "torch.Tensor",
    *,
    temperature: float = 1.0,
    hidden: bool = False,
) -> Policy:
    """Return log-probability and entropy of every token but the first, (B, T - 1), given those before it.

    `seen_BT` is False at padding. `hidden` asks for the last layer's state before each token as well.
    """
    out = model(input_ids=ids_BT, attention_mask=seen_BT.long(), output_hidden_states=hidden, use_cache=False)
    logprobs_BTV = (out.logits[:, :-1].float() / temperature).log_softmax(-1)
    chosen_BT = logprobs_BTV.gather(-1, ids_BT[:, 1:, None])[..., 0]
    entropy_BT = -(logprobs_BTV.exp() * logprobs_BTV).sum(-1)
    return Policy(chosen_BT, entropy_BT, out.hidden_states[-1][:, :-1] if hidden else None)


def clipped_surrogate(
    logprobs_BT: "torch.Tensor",
    old_BT: "torch.Tensor",
    advantages_BT: "torch.Tensor",
    *,
    clip_low: float,
    clip_high: float,
) -> "torch.Tensor":
    """Return PPO's loss per token: the worse of the plain and the clipped ratio, times the advantage, negated."""
    import torch

    ratio_BT = (logprobs_BT - old_BT).exp()
    clipped_BT = ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio_BT * advantages_BT, clipped_BT * advantages_BT)


def correction(before_BT: "torch.Tensor", sampler_BT: "torch.Tensor", most: float) -> "torch.Tensor":
    """Return what a token counts that another distribution drew: the ratio of probabilities, cut off at `most`.

    Truncated importance sampling (Ionides 2008, J. Comput. Graph. Stat. 17, 295-311), token by token as Yao et al.
    2025 use it between a trainer and a faster sampler. 1 where the sampler's log-probability is NaN.
    """
    return (before_BT - sampler_BT).exp().clamp(max=most).nan_to_num(nan=1.0)


def kl_estimate(logprobs_BT: "torch.Tensor", reference_BT: "torch.Tensor") -> "torch.Tensor":
    """Return k3, an estimate of KL(policy, reference) per token that is never negative."""
    difference_BT = reference_BT - logprobs_BT
    return difference_BT.exp() - difference_BT - 1


def token_weights(trained_BT: "torch.Tensor", how: Normalise, *, constant: float = 1.0) -> "torch.Tensor":
    """Return what each token counts, 0 where not trained, so that a loss is a plain sum over any parts of a batch.

    "sequence": every row counts the same, its tokens alike (GRPO's 1/|o|); "token": every token the same (DAPO);
    "constant": every token 1 / (rows * constant) (Dr. GRPO).
    """
    rows = max(1, len(trained_BT))
    if how == "sequence":
        return trained_BT / (trained_BT.sum(1, keepdim=True).clamp(min=1) * rows)
    if how == "token":
        return trained_BT / trained_BT.sum().clamp(min=1)
    return trained_BT / (rows * constant)


def value_loss(
    values_BT: "torch.Tensor", old_BT: "torch.Tensor", returns_BT: "torch.Tensor", *, clip: float
) -> "torch.Tensor":
    """Return PPO's loss of the value head per token: half the worse of the plain and the clipped squared error."""
    import torch

    clipped_BT = old_BT + (values_BT - old_BT).clamp(-clip, clip)
    return 0.5 * torch.maximum((values_BT - returns_BT) ** 2, (clipped_BT - returns_BT) ** 2)
