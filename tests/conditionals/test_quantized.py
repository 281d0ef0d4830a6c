"""Codebooks: they follow the encoder, nobody is lost, and a training goes on bit for bit."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch

from vaekit.conditionals import Codebook, EMACodebook, GradientCodebook, Quantized
from vaekit.distributions import draw
from vaekit.models import quantized
from vaekit.networks import MLP

pytestmark = pytest.mark.usefixtures("float64")

D = 3


def test_running_means_are_those_of_the_paper() -> None:
    """Equations 6 to 8 of appendix A.1, with the counts and the sums written out, against ours without the sums."""
    book = EMACodebook(dim=D, codes=4, decay=0.9, revive_below=0.0)
    book.revive(torch.randn(40, D))
    N = book.usage.clone()
    m = N[:, None] * book.vectors
    for _ in range(25):
        z, codes = torch.randn(40, D), torch.randint(3, (40,))  # the last is never chosen
        book.observe(z, codes)
        for i in range(4):
            N[i] = 0.9 * N[i] + 0.1 * (codes == i).sum()
            m[i] = 0.9 * m[i] + 0.1 * z[codes == i].sum(0)
    torch.testing.assert_close(book.usage, N)
    torch.testing.assert_close(book.vectors, m / N[:, None])


def test_a_code_that_is_never_chosen_keeps_its_place_to_the_last_bit() -> None:
    """However long: a running count at 0.99 has left the range of float32 after nine thousand steps, and its digits with it."""
    book = EMACodebook(dim=D, codes=5, decay=0.99, revive_below=0.0).float()
    book.revive(torch.randn(10, D).float())
    before = book.vectors.clone()
    z, codes = torch.ones(8, D).float(), torch.zeros(8, dtype=torch.int64)
    for step in range(10_000):
        book.observe(z, codes)
        if step in (0, 100):
            assert torch.equal(book.vectors[1:], before[1:])
    assert float(book.usage[1:].max()) < torch.finfo(torch.float32).tiny
    assert torch.equal(book.vectors[1:], before[1:])
    torch.testing.assert_close(book.vectors[0], z[0])
    # and it can be chosen again
    book.observe(2 * z, torch.full_like(codes, 3))
    torch.testing.assert_close(book.vectors[3], 2 * z[0])


@pytest.mark.parametrize("make", [EMACodebook, GradientCodebook])
def test_the_codebook_begins_as_encoder_outputs(make: type[Codebook]) -> None:
    q = Quantized((D, 2, 2), partial(make, codes=16, revive_below=0.0))
    context = torch.randn(1, 8, D, 2, 2) + 50.0
    before = q.codebook.vectors.detach().clone()
    assert before.abs().max() <= 1 / 16
    q.eval()(context, None)
    assert torch.equal(q.codebook.vectors, before)  # evaluation leaves it alone
    q.codebook.follow = lambda *_: None  # type: ignore[method-assign]
    q.train()(context, None)
    outputs = context.movedim(2, -1).reshape(-1, D)
    assert all(any(torch.equal(e, z) for z in outputs) for e in q.codebook.vectors)
    torch.testing.assert_close(q.codebook.usage.sum(), torch.tensor(32.0))


@pytest.mark.parametrize("make", [EMACodebook, GradientCodebook])
def test_dead_codes_are_revived_and_living_ones_left_alone(make: type[Codebook]) -> None:
    book = make(dim=D, codes=4, decay=0.9, revive_below=0.1)
    book.revive(torch.zeros(40, D))
    codes = torch.tensor([0, 1, 2]).repeat(10)  # the fourth falls below a tenth of even use after 22 steps
    for step in range(30):
        book.revive(torch.zeros(30, D))
        book.observe(torch.zeros(30, D), codes)
        assert float(book.usage[3]) > 0.0, step
    book.usage[3] = 0.7
    assert float(book.usage[:3].min()) > 5
    before = book.vectors.detach().clone()
    fresh = torch.randn(30, D) + 5
    book.revive(fresh)
    assert torch.equal(book.vectors[:3], before[:3])
    assert any(torch.equal(book.vectors[3], z) for z in fresh)
    assert float(book.usage[3]) == 30 / 4


def test_revival_happens_while_training() -> None:
    """One cluster takes all of a batch; when a second appears far away, a dead code goes there."""
    q = Quantized((2,), partial(EMACodebook, codes=8, decay=0.5, revive_below=0.1))
    for _ in range(20):
        q(0.01 * torch.randn(1, 64, 2), None)
    both = torch.cat([0.01 * torch.randn(1, 32, 2), 100 + 0.01 * torch.randn(1, 32, 2)], 1)
    for _ in range(20):
        drawn = draw(q(both, None))
    assert drawn.penalties["commitment"].max() < 1.0


@pytest.mark.parametrize("make", [EMACodebook, GradientCodebook])
def test_a_state_dict_carries_all_of_it(make: type[Codebook]) -> None:
    one = Quantized((D, 2), partial(make, codes=6))
    for _ in range(3):
        one(torch.randn(1, 5, D, 2), None)
    other = Quantized((D, 2), partial(make, codes=6))
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for _ in range(3):
        context = torch.randn(1, 5, D, 2)
        state = torch.get_rng_state()
        a = draw(one(context, None)).value
        torch.set_rng_state(state)
        assert torch.equal(draw(other(context, None)).value, a)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_only_the_gradient_codebook_is_the_optimizers() -> None:
    assert not list(EMACodebook(dim=D).parameters())
    assert [name for name, _ in GradientCodebook(dim=D).named_parameters()] == ["vectors"]
    q = Quantized((D,), partial(GradientCodebook, codes=6))
    draw(q(torch.randn(1, 9, D), None)).penalties["codebook"].sum().backward()
    assert q.codebook.vectors.grad is not None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"codes": 0}, "codes is 0"), ({"decay": 1.0}, "decay is 1.0"), ({"revive_below": 1.0}, "revive_below is 1.0")],
)
def test_what_no_codebook_can_be_is_refused(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EMACodebook(dim=2, **wrong)  # type: ignore[arg-type]


def build(event_shape: tuple[int, ...], **arguments: object) -> torch.nn.Module:
    from vaekit.likelihoods import Bernoulli
    from vaekit.priors import UniformCodes

    parts = {
        "posterior": partial(Quantized, codebook=partial(EMACodebook, codes=5)),
        "prior": UniformCodes,
        **arguments,
    }
    return quantized(MLP, MLP, likelihood=Bernoulli(event_shape), embedding_dim=3, **parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "map_shape"),
    [((1, 8, 8), (3, 2, 2)), ((1, 28, 28), (3, 7, 7)), ((3, 32, 32), (3, 8, 8)), ((1, 9, 5), (3, 3, 2))],
)
def test_the_map_follows_from_the_image(image: tuple[int, ...], map_shape: tuple[int, ...]) -> None:
    model = build(image)
    trace = model(torch.rand(2, *image).round())
    assert trace.latents[0].draw.value.shape == (1, 2, *map_shape)
    assert not [name for name in model.state_dict() if "prior" in name]  # the codebook is there once


def test_what_makes_no_model_of_codes_is_refused() -> None:
    from vaekit.conditionals import Normal

    with pytest.raises(ValueError, match="power of two"):
        build((1, 8, 8), downsampling=3)
    with pytest.raises(ValueError, match="posterior=quantized"):
        build((1, 8, 8), posterior=Normal)
    with pytest.raises(ValueError, match="channels, height"):
        build((8,))
