"""The pictures of a run, for models of every kind; untrained ones, as what is tested is what is drawn and not how it looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vaekit import gallery, report
from vaekit.builder import build_model
from vaekit.compose import compose, data_node
from vaekit.evaluation.passes import Plan
from vaekit.recipe import open_data, resolved

SMALL = ("hidden_dim=8", "latent_dim=3", "training.batch_size=400", "device=cpu")
PLAN = Plan(batch_size=100, samples=1, seed=0)
ALWAYS = {"training_losses.png", "reconstructions.png", "generated_samples.png"}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(*overrides: str) -> tuple[Any, Any]:
    composed = compose([*SMALL, *overrides])
    dataset = open_data(data_node(composed))
    torch.manual_seed(0)
    return build_model(resolved(composed, dataset)), dataset


def drawn(folder: Path, model: Any, dataset: Any) -> set[str]:
    folder.mkdir(exist_ok=True)
    gallery.draw_gallery(folder, model, dataset, PLAN, [])
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("mlp", {"traversal.png", "interpolation.png", "latent_space.png"}),
        ("cvae", {"traversal.png", "interpolation.png", "latent_space.png", "class_samples.png"}),
        ("ae", {"traversal.png", "interpolation.png", "latent_space.png"}),
        ("vqvae", {"codebook_usage.png"}),
    ],
)
def test_what_is_drawn(model: str, more: set[str], tmp_path: Path) -> None:
    made_model, dataset = made(f"model={model}")
    assert drawn(tmp_path / "a", made_model, dataset) == ALWAYS | more


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    model, dataset = made("model=cvae")
    for name in drawn(tmp_path / "a", model, dataset) & drawn(tmp_path / "b", model, dataset):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_prior_that_was_not_fitted_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(report, "write_message", lambda message, path: said.append(message))
    model, dataset = made("model=ae")
    gallery.draw_samples(tmp_path / "s.png", model, dataset, 4, 0)
    assert len(said) == 1
    assert said[0].startswith("no samples: ")
    assert "vaekit prior RUN" in said[0]
    gallery.draw_frame(tmp_path / "f.png", model, dataset, PLAN, "epoch 1")
    assert not list(tmp_path.iterdir())  # and no frame


def test_samples_of_a_conditional_model_take_the_classes_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, dataset = made("model=cvae")
    heard: list[Any] = []
    columns: list[list[str]] = []

    def hear(images: Any, *_: Any, **how: Any) -> None:
        heard.append(images)
        columns.append(how["columns"])

    monkeypatch.setattr(report, "generated_samples", hear)
    gallery.draw_samples(tmp_path / "s.png", model, dataset, 32, 0)
    from vaekit.evaluation import pictures

    wanted = pictures.samples(model, 30, 0, torch.arange(30) % 10)
    assert torch.equal(torch.from_numpy(heard[0]), wanted)
    assert columns == [[str(digit) for digit in range(10)]]
    model, dataset = made("model=mlp")
    gallery.draw_samples(tmp_path / "s.png", model, dataset, 32, 0)
    assert len(heard[1]) == 32
    assert columns[1] == []


def test_the_pictures_of_a_stage_have_its_resolution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, dataset = made("model=mlp")
    heard: dict[str, Any] = {}
    monkeypatch.setattr(report, "generated_samples", lambda images, path, **_: heard.update({path.name: images}))
    monkeypatch.setattr(
        report, "reconstructions", lambda images, decoded, path, **_: heard.update({path.name: (images, decoded)})
    )
    gallery.draw_stage(tmp_path, model, dataset, PLAN, 1, 4)
    assert heard["sample_stage1_4x4.png"].shape == (64, 1, 4, 4)
    originals, decoded = heard["reconstructions_stage1_4x4.png"]
    assert originals.shape == decoded.shape == (10, 1, 4, 4)
    from vaekit.evaluation import pictures

    whole, _ = pictures.reconstructions(model, dataset.test, PLAN)
    block = whole[0, 0, :2, 2:4].mean()  # each pixel is the mean of the area that it covers
    torch.testing.assert_close(torch.from_numpy(originals)[0, 0, 0, 1], block)


def test_the_interpolation_is_between_two_classes_or_within_one_for_a_model_that_is_told_the_class() -> None:
    _, dataset = made("model=mlp")
    labels = dataset.test.labels
    other, same = gallery._partner(dataset.test, like=False), gallery._partner(dataset.test, like=True)
    assert labels[other] != labels[0]
    assert (labels[1:other] == labels[0]).all()
    assert labels[same] == labels[0]
    assert same > 0
    assert (labels[1:same] != labels[0]).all()


@pytest.mark.parametrize("prior", ["standard", "mixture", "vamp"])
def test_circles_and_plane_only_of_a_standard_normal_prior(
    prior: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    monkeypatch.setattr(report, "latent_space", lambda *_, prior, **__: called.append(prior))
    model, dataset = made("latent_dim=2", f"prior={prior}")
    files = drawn(tmp_path / "a", model, dataset)
    assert called == ["N(0, I)" if prior == "standard" else ""]
    assert ("manifold.png" in files) == (prior == "standard")


def test_a_traversal_says_which_class_it_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions: dict[str, str] = {}
    monkeypatch.setattr(
        report, "strips", lambda images, path, rows, columns, caption, **_: captions.update({path.name: caption})
    )
    model, dataset = made("model=cvae")
    drawn(tmp_path / "a", model, dataset)
    assert captions["traversal.png"].endswith("; decoded as class 0")
    assert captions["interpolation.png"].endswith("; decoded as what example 0 is")
    walk = gallery.traverse(model, dataset.test, PLAN, index=3)
    assert "the code of example 3, decoded as what it is" in walk.caption
    model, dataset = made("model=mlp")
    drawn(tmp_path / "b", model, dataset)
    assert "decoded" not in captions["traversal.png"]
