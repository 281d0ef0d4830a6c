"""Numbers about labels in closed form, where every neighbour and every cluster is known."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from vaekit.data.batch import Dataset, Split
from vaekit.evaluation import Plan, labels
from vaekit.evaluation.components import baseline, principal_components
from vaekit.evaluation.labels import clusters, knn_accuracy, mixing, silhouette


def apart(n: int, classes: int, gap: float = 100.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Points in far balls, and their balls."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % classes
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    x[:, 0] += gap * y
    return x, y


def test_classes_that_are_apart_are_told_apart_and_the_error_is_not_zero() -> None:
    x, y = apart(120, 4)
    found = knn_accuracy(x[:80], y[:80], x[80:], y[80:])
    assert (found.value, found.standard_error, found.n) == (1.0, 1 / 40, 40)
    scores = clusters(x, y)
    assert scores["ari_kmeans"].value == pytest.approx(1.0)
    assert scores["nmi_kmeans"].value == pytest.approx(1.0)


def test_labels_without_meaning_are_guessed_by_chance() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2000, 3, generator=generator), torch.randint(4, (2000,), generator=generator)
    found = knn_accuracy(x[:1000], y[:1000], x[1000:], y[1000:])
    error = math.sqrt(found.value * (1 - found.value) / 1000)
    assert found.standard_error == pytest.approx(error)
    assert abs(found.value - 0.25) < 4 * error  # false alarm 6e-5
    scores = clusters(x, y)
    assert abs(scores["ari_kmeans"].value) < 4 * scores["ari_kmeans"].standard_error + 0.002
    assert abs(silhouette(x, y).value) < 0.1  # type: ignore[union-attr]


def test_fifteen_neighbours_vote_as_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(300, 2, generator=generator), torch.randint(3, (300,), generator=generator)
    x = x + 0.8 * y[:, None]
    expected = KNeighborsClassifier(15).fit(x[:200].double(), y[:200]).score(x[200:].double(), y[200:])
    assert knn_accuracy(x[:200], y[:200], x[200:], y[200:]).value == pytest.approx(expected)
    assert knn_accuracy(x[:3], y[:3], x[200:], y[200:]).estimator.startswith("3 nearest of 3")


def test_silhouette_of_two_pairs() -> None:
    # each point: 1 from its pair; 10 and 11, or 9 and 10, from the two of the other
    x = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    found = silhouette(x, torch.tensor([0, 0, 1, 1]))
    expected = [(10.5 - 1) / 10.5, (9.5 - 1) / 9.5, (9.5 - 1) / 9.5, (10.5 - 1) / 10.5]
    assert found is not None
    assert found.value == pytest.approx(np.mean(expected))
    assert silhouette(x, torch.zeros(4)) is None
    assert clusters(x, torch.zeros(4)) == {}


def test_batches_that_are_apart_do_not_mix_and_shuffled_ones_do() -> None:
    x, batch = apart(200, 2)
    found = mixing(x, batch)
    assert found is not None
    assert found.value == pytest.approx(0.0)
    generator = torch.Generator().manual_seed(3)
    anywhere = torch.randn(1500, 3, generator=generator)
    mixed = mixing(anywhere, torch.randint(2, (1500,), generator=generator))
    assert mixed is not None
    assert abs(mixed.value - 1.0) < 4 * mixed.standard_error  # false alarm 6e-5
    assert mixed.standard_error < 0.01
    assert mixing(anywhere, torch.zeros(1500)) is None


def test_mixing_by_hand() -> None:
    # on a line with two neighbours: a a a b b b
    x, batch = torch.arange(6.0)[:, None] ** 1.1, torch.tensor([0, 0, 0, 1, 1, 1])
    found = mixing(x, batch, neighbours=2)
    near = {0: (1, 2), 1: (0, 2), 2: (1, 3), 3: (2, 4), 4: (3, 5), 5: (4, 3)}
    entropies = [math.log(2) if len({int(batch[j]) for j in js}) == 2 else 0.0 for js in near.values()]
    assert found is not None
    mixed = float(found.estimator.split("batches (")[1].split(" nats")[0])
    assert found.value == pytest.approx(np.mean(entropies) / mixed, rel=2e-3)


def test_large_sets_are_measured_on_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MOST", 50)
    x, y = apart(500, 2)
    found = silhouette(x, y)
    assert found is not None
    assert found.n == 50


@pytest.mark.skipif(importlib.util.find_spec("leidenalg") is None, reason="leidenalg is not installed")
def test_leiden_finds_what_is_apart() -> None:
    x, y = apart(120, 3)
    found = clusters(x, y)
    assert found["nmi_leiden"].value > 0.6  # it may divide a ball, and never joins two
    assert clusters(x, y) == found


def counted(width: int = 30, n: int = 120, seed: int = 0) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (n,), generator=generator)
    rates = torch.rand(3, width, generator=generator)[y] * torch.rand(n, 1, generator=generator) * 20
    x = torch.poisson(rates, generator=generator)
    split = Split(x, (), y)
    parts = (split.part(torch.arange(0, 80)), split.part(torch.arange(80, 90)), split.part(torch.arange(90, n)))
    return Dataset("counts", *parts, "", binary=False, low=0, high=99, counts=True)


def test_the_components_are_those_of_a_full_decomposition() -> None:
    dataset = counted()
    found = principal_components(dataset, 5, Plan(batch_size=7))
    x = dataset.train.dense.double()
    x = torch.log1p(x * (x.sum(1).median() / x.sum(1, keepdim=True))).numpy()
    full = PCA(5, svd_solver="full").fit(x)
    torch.testing.assert_close(found.mean, torch.tensor(full.mean_))
    overlap = np.abs(full.components_ @ found.directions.numpy())
    np.testing.assert_allclose(overlap, np.eye(5), atol=2e-3)
    np.testing.assert_allclose(found.directions.T @ found.directions, np.eye(5), atol=1e-12)


def test_the_baseline_is_that_of_scikit_learn_on_dense_data() -> None:
    dataset = counted()
    total = dataset.train.dense.double().sum(1).median()

    def logged(split: Split) -> np.ndarray:
        x = split.dense.double()
        return torch.log1p(x * (total / x.sum(1, keepdim=True))).numpy()

    pca = PCA(4, svd_solver="full").fit(logged(dataset.train))
    train, test = pca.transform(logged(dataset.train)), pca.transform(logged(dataset.test))
    expected = KNeighborsClassifier(15).fit(train, dataset.train.labels).score(test, dataset.test.labels)
    found = baseline(dataset, components=4, plan=Plan(batch_size=13))
    assert found.value == pytest.approx(expected)
    assert "4 principal components of log1p counts" in found.estimator


def test_the_baseline_says_what_it_lacks() -> None:
    dataset = counted()
    with pytest.raises(ValueError, match="from 1 to 30"):
        principal_components(dataset, 31, Plan())
    bare = Split(dataset.train.stored, ())
    with pytest.raises(ValueError, match=r"data\.labels=COLUMN"):
        baseline(Dataset("bare", bare, bare, bare, "", binary=False, low=0, high=1))


def test_a_model_that_is_told_the_labels_is_not_praised_for_them(tiny_vae: object) -> None:
    from dataclasses import replace
    from types import SimpleNamespace

    from vaekit.evaluation.labels import held_out_accuracy, told_labels

    dataset = counted(width=5)
    model = tiny_vae
    assert not told_labels(model, dataset)  # type: ignore[arg-type]
    assert told_labels(SimpleNamespace(conditional=True), dataset)  # type: ignore[arg-type]
    conditioned = replace(dataset, train=replace(dataset.train, conditions=torch.zeros(80, 1)))
    assert not told_labels(SimpleNamespace(conditional=True), conditioned)  # type: ignore[arg-type]
    table = replace(dataset, columns=(0, 0, 0, 0, 0))
    means = torch.zeros(30, 3)
    assert held_out_accuracy(model, table, "test", Plan(), means) == {}  # type: ignore[arg-type]
    assert held_out_accuracy(model, dataset, "train", Plan(), means) == {}  # type: ignore[arg-type]
