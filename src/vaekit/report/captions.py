"""What each picture of a run is called, what it shows, and where on the page it stands."""

import re
from dataclasses import dataclass

# in the order of the page
_KNOWN = {
    "reconstructions": (
        "Reconstructions",
        "Examples, and what the model makes of the code of each. What differs, the code does not carry.",
    ),
    "generated_samples": ("Generated samples", "Decoded draws from the prior: what the model believes the data to be."),
    "class_samples": (
        "Samples by class",
        "A class in each row; down a column, the same draw of the latent: what changes there is due to the class alone.",
    ),
    "samples": ("", ""),  # those of fitted priors
    "training": (
        "Samples over the training",
        "The same draws from the prior, decoded after one epoch and the next. The last picture is held longer.",
    ),
    "stages": ("", ""),  # those of a growing model
    "traversal": (
        "Latent dimensions, one at a time",
        "In each row one dimension varies while the others stay where they are: what it has come to mean. The dimensions that tell "
        "most about an example come first.",
    ),
    "interpolation": (
        "From one example to another",
        "Codes between those of two examples, decoded: along a straight line, and along the sphere near which draws from a normal "
        "prior lie. At the ends, the examples themselves.",
    ),
    "latent_space": (
        "Latent space",
        "The codes of examples in two latent dimensions. Dashed, where the model has one: the standard normal prior.",
    ),
    "manifold": (
        "Latent plane, decoded",
        "The two latent dimensions vary over the prior; at each point, its decoded code.",
    ),
    "latent_spectrum": (
        "What each latent dimension carries",
        "How much its posterior mean varies over the examples, and its KL, the one that varies most first. Dashed: above it, a "
        "dimension counts as active.",
    ),
    "codebook_usage": (
        "Use of the codebook",
        "How often each code is chosen, the most frequent first. Dashed: all codes alike. A code that is never chosen is dead.",
    ),
    "ood": ("", ""),  # one for each other data set
    "gradients": (
        "Signal and noise of the gradients",
        "Mean over standard deviation of the gradient by the number of draws, for encoder and decoder. Dashed: what noise alone "
        "would show.",
    ),
}
_PLACES = {name: place for place, name in enumerate(_KNOWN)}
_FITTED = re.compile(r"samples_(?P<prior>.+)")
_APART = re.compile(r"ood_(?P<other>.+)")
_STAGE = re.compile(r"(?P<kind>sample|reconstructions)_stage(?P<stage>\d+)_(?P<size>\d+x\d+)")


@dataclass(frozen=True, order=True)
class Caption:
    """The words about a picture; captions sort as the pictures stand on the page.

    Attributes:
        place: Where it stands.
        title: What it is called.
        text: What it shows; empty for a picture that is not ours.
    """

    place: tuple[int, int, str]
    title: str
    text: str


def caption(name: str) -> Caption:
    """The words about the picture with this file name, without suffix. Unknown ones come last, by name."""
    if name in _KNOWN and _KNOWN[name][0]:
        return Caption((_PLACES[name], 0, ""), *_KNOWN[name])
    if stage := _STAGE.fullmatch(name):
        return _of_stage(stage["kind"], int(stage["stage"]), stage["size"].replace("x", " x "))
    if fitted := _FITTED.fullmatch(name):
        words = f"Decoded draws from a prior that was fitted to the codes after the training: {fitted['prior']}."
        return Caption((_PLACES["samples"], 0, name), f"Samples from a fitted prior: {fitted['prior']}", words)
    if apart := _APART.fullmatch(name):
        words = (
            "Scores of examples like those of the training and of others, the score that tells them apart best first. Dashed: a "
            "score that knows nothing."
        )
        return Caption((_PLACES["ood"], 0, name), f"Out of distribution: {apart['other'].replace('_', ' ')}", words)
    return Caption((len(_KNOWN), 0, name), name.replace("_", " "), "")


def _of_stage(kind: str, stage: int, size: str) -> Caption:
    where = f"stage {stage}, {size}"
    if kind == "sample":
        words = f"Decoded draws from the prior when the model had grown to {size} pixels."
        return Caption((_PLACES["stages"], stage, "a"), f"Samples of {where}", words)
    words = f"Examples as the model saw them at {size} pixels, and below each what it made of its code."
    return Caption((_PLACES["stages"], stage, "b"), f"Reconstructions of {where}", words)
