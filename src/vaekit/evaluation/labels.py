"""What the latents know of labels that no model saw: neighbours, silhouettes, clusters; and how well batches mix in them."""

# N examples, L latent dimensions, C classes, R resamples

from __future__ import annotations

import importlib.util
import math
import warnings
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vaekit.data.batch import Dataset
from vaekit.evaluation.passes import Plan, encodings
from vaekit.evaluation.units import Estimate
from vaekit.models.vae import VAE

# examples; numbers that compare all pairs are of a random part beyond
MOST = 5_000
NEIGHBOURS = 15
MIXED_NEIGHBOURS = 30
_RESAMPLES = 100
_SHUFFLES = 20

Array = npt.NDArray[Any]


def knn_accuracy(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    neighbours: int = NEIGHBOURS,
    what: str = "latent means",
) -> Estimate:
    r"""Share of held-out examples whose class is that of most of their nearest training examples.

    Standard error: binomial, :math:`\sqrt{p (1 - p) / n}`, at least 1 / n.

    Arguments:
        train: Shape (N, L).
        train_labels: int64, (N,).
        test: Shape (n, L).
        test_labels: (n,).
        neighbours: k; fewer where there are fewer training examples.
        what: The points, in words.
    """
    from sklearn.neighbors import KNeighborsClassifier

    neighbours = min(neighbours, len(train))
    classifier = KNeighborsClassifier(neighbours).fit(_points(train), train_labels.cpu().numpy())
    right = classifier.predict(_points(test)) == test_labels.cpu().numpy()
    n, share = len(right), float(right.mean())
    words = f"{neighbours} nearest of {len(train):,} training examples by {what}"
    return Estimate(share, max(math.sqrt(share * (1.0 - share) / n), 1.0 / n), "1", n, words)


def told_labels(model: VAE, dataset: Dataset) -> bool:
    """Whether a model is shown the labels, so that its latents owe nothing to having found them: a conditional one without other
    conditions, and one of a table, whose target is among its columns."""
    return dataset.columns is not None or (model.conditional and dataset.train.conditions is None)


def held_out_accuracy(model: VAE, dataset: Dataset, split: str, plan: Plan, means: Tensor) -> dict[str, Estimate]:
    """`knn_accuracy` of latent means, where the data have labels that the model is not told, and examples are held out.

    Arguments:
        model: Trained.
        dataset: Its data.
        split: validation, test or ood.
        plan: Batch size.
        means: Posterior means of the split, (n, L).
    """
    train, held = dataset.train, dataset.split(split)
    if split == "train" or train.labels is None or held.labels is None or told_labels(model, dataset):
        return {}
    codes = encodings(model, train, plan)[0]
    if not bool(codes.isfinite().all() and means.isfinite().all()):
        return {}
    return {"knn_accuracy": knn_accuracy(codes, train.labels, means, held.labels)}


def silhouette(points: Tensor, labels: Tensor, seed: int = 0) -> Estimate | None:
    r"""How much nearer the examples are to their own class than to the next: mean of :math:`(b - a) / \max(a, b)`, in [-1, 1].

    a is the mean distance to the others of the class, b the least mean distance to another class. Standard error: s / sqrt(n),
    as if the examples' own were independent.

    Arguments:
        points: Shape (N, L).
        labels: (N,).
        seed: Of the random part of 5,000 where there are more.

    Returns:
        None where there are not two classes.

    References:
        | Silhouettes: A graphical aid to the interpretation and validation of cluster analysis (Rousseeuw, 1987)
        | https://doi.org/10.1016/0377-0427(87)90125-7
    """
    from sklearn.metrics import silhouette_samples

    x, y = _part(points, labels, seed)
    classes = len(np.unique(y))
    if not 2 <= classes < len(y):
        return None
    values = silhouette_samples(x, y)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    words = f"{len(y):,} examples, {classes} classes, Euclidean distances of latent means"
    return Estimate(float(values.mean()), error, "1", len(y), words)


def clusters(points: Tensor, labels: Tensor, seed: int = 0) -> dict[str, Estimate]:
    """Adjusted Rand index and normalised mutual information of clusters of latent means with the classes.

    Clusters are those of k-means, with as many as there are classes and the best of ten starts, and of Leiden's algorithm on the
    graph of 15 nearest neighbours (modularity) where `leidenalg` is installed. Standard errors: bootstrap of the examples, with the
    clusters held.

    Arguments:
        points: Shape (N, L).
        labels: (N,).
        seed: Of the starts, of the resamples, and of the random part of 5,000 where there are more.

    Returns:
        `ari_kmeans`, `nmi_kmeans`, and `ari_leiden` and `nmi_leiden` where that is installed; nothing where there are not two
        classes.

    References:
        | Comparing partitions (Hubert and Arabie, 1985), equation 5: https://doi.org/10.1007/BF01908075
        | Cluster ensembles (Strehl and Ghosh, 2002), with the arithmetic mean of the entropies
        | From Louvain to Leiden (Traag, Waltman and van Eck, 2019): https://arxiv.org/abs/1810.08473
    """
    from sklearn.cluster import KMeans

    x, y = _part(points, labels, seed)
    classes = len(np.unique(y))
    if classes < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fewer distinct points than clusters: the numbers say it
        found = {"kmeans": KMeans(classes, n_init=10, random_state=seed % 2**32).fit_predict(x)}
        if importlib.util.find_spec("leidenalg") and importlib.util.find_spec("igraph") and len(y) > NEIGHBOURS:
            found["leiden"] = _leiden(x, seed)
    numbers: dict[str, Estimate] = {}
    for method, assigned in found.items():
        words = f"{len(np.unique(assigned))} clusters by {method} against {classes} classes; standard error: bootstrap"
        numbers |= {f"{name}_{method}": estimate for name, estimate in _agreement(y, assigned, seed, words).items()}
    return numbers


def _agreement(labels: Array, assigned: Array, seed: int, words: str) -> dict[str, Estimate]:
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    n = len(labels)
    rng = np.random.default_rng(seed)
    resamples = [rng.integers(n, size=n) for _ in range(_RESAMPLES)]
    numbers = {}
    for name, score in (("ari", adjusted_rand_score), ("nmi", normalized_mutual_info_score)):
        spread = np.std([score(labels[index], assigned[index]) for index in resamples], ddof=1)
        numbers[name] = Estimate(float(score(labels, assigned)), float(spread), "1", n, words)
    return numbers


def _leiden(points: Array, seed: int) -> Array:
    from sklearn.neighbors import kneighbors_graph

    igraph, leidenalg = import_module("igraph"), import_module("leidenalg")
    near = kneighbors_graph(points, NEIGHBOURS)
    near = near.maximum(near.T).tocoo()  # an edge where either is among the other's neighbours
    once = near.row < near.col
    whole = igraph.Graph(n=len(points), edges=np.stack([near.row[once], near.col[once]], 1).tolist())
    found = leidenalg.find_partition(whole, leidenalg.ModularityVertexPartition, seed=seed % 2**31)
    return np.asarray(found.membership)


def mixing(points: Tensor, batches: Tensor, seed: int = 0, neighbours: int = MIXED_NEIGHBOURS) -> Estimate | None:
    r"""How well experimental batches mix in the latents: the entropy of the batches among neighbours, over what it is when mixed.

    .. math:: \frac{\sum_i H(b_i)}{\sum_i H(b'_i)}, \qquad H(b_i) = -\sum_k b_{ik} \log b_{ik}

    with :math:`b_i` the shares of the batches among the k nearest other examples, and :math:`b'_i` the same with the batches of
    the examples shuffled, mean over 20 shuffles. 1 is mixed, 0 is apart. A model that mixes what differs for a biological
    reason has 1 as well: read it beside the accuracy of the labels. Standard error: s / sqrt(n) of the examples' own, and at
    least the spread of the shuffles, as examples share their neighbours.

    Arguments:
        points: Shape (N, L).
        batches: int64, (N,).
        seed: Of the shuffles and of the random part of 5,000 where there are more.
        neighbours: k, and never more than N - 1.

    Returns:
        None where there is one batch only.

    References:
        | Batch effects in single-cell RNA-sequencing data (Haghverdi et al., 2018), its entropy of batch mixing
        | https://doi.org/10.1038/nbt.4091
    """
    from sklearn.neighbors import NearestNeighbors

    x, y = _part(points, batches, seed)
    names, y = np.unique(y, return_inverse=True)
    if len(names) < 2:
        return None
    neighbours = min(neighbours, len(y) - 1)
    near = NearestNeighbors(n_neighbors=neighbours).fit(x).kneighbors(return_distance=False)
    rng = np.random.default_rng(seed)
    entropy = _entropies(y[near], len(names))
    shuffled = [float(_entropies(rng.permutation(y)[near], len(names)).mean()) for _ in range(_SHUFFLES)]
    mixed = float(np.mean(shuffled))
    if mixed == 0.0:
        return None
    error = max(float(entropy.std(ddof=1)) / math.sqrt(len(y)), float(np.std(shuffled, ddof=1))) / mixed
    words = (
        f"entropy of {len(names)} batches among {neighbours} nearest neighbours by latent means, over that of shuffled batches "
        f"({mixed:.3g} nats): 1 is mixed, 0 is apart"
    )
    return Estimate(float(entropy.mean()) / mixed, error, "1", len(y), words)


def _entropies(near: Array, kinds: int) -> Array:
    shares = np.stack([(near == kind).mean(1) for kind in range(kinds)], 1)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropies: Array = -(shares * logs).sum(1)
    return entropies


def _part(points: Tensor, labels: Tensor, seed: int) -> tuple[Array, Array]:
    chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:MOST].sort().values
    return _points(points[chosen]), labels.cpu()[chosen].numpy()


def _points(points: Tensor) -> Array:
    return points.detach().cpu().double().numpy()
