"""The doctor finds what is there, finds nothing else, and prescribes what can be taken."""

from __future__ import annotations

import math
import shlex
from typing import Any

import pytest

from vaekit import likelihoods
from vaekit.builder import complete
from vaekit.cli.aliases import translate
from vaekit.compose import compose, data_node, resolve
from vaekit.evaluation import Estimate, diagnose
from vaekit.evaluation.doctor import RULES, checked, examine
from vaekit.evaluation.doctor.case import Case
from vaekit.recipe import make_session, open_data
from vaekit.training.device import select
from vaekit.training.watch import COLLAPSED_NATS


def configured(line: str) -> dict[str, Any]:
    return complete(resolve(compose(translate(shlex.split(line))), (1, 8, 8)))


def numbers(kl: float, beta: float = 1.0) -> dict[str, Estimate]:
    return {"kl": Estimate(kl, 0.01, "nats", 180), "effective_beta": Estimate(beta, 0.0, "1", 180)}


def titles(kl: float, line: str = "", beta: float = 1.0) -> list[str]:
    return [f"{f.severity}: {f.title}" for f in diagnose(numbers(kl, beta), configured(line))]


COLLAPSE, BETA, GREY = (
    "warning: Posterior collapse", "warning: The reduction changes beta",
    "note: Real-valued data under a Bernoulli likelihood",
)  # fmt: skip


def test_collapse_is_found_where_it_is_and_nowhere_else() -> None:
    assert titles(COLLAPSED_NATS - 0.01) == [COLLAPSE]
    assert titles(COLLAPSED_NATS) == []
    assert titles(20.0) == []
    assert titles(math.nan) == []
    assert diagnose({}, configured("")) == []


def test_what_limits_the_meaning_of_the_numbers() -> None:
    assert titles(20.0, "data.binarisation=none") == [GREY]
    assert titles(20.0, "data.binarisation=none --recon gaussian") == []
    assert titles(20.0, "--reduction mean", beta=3.2) == [BETA]
    assert titles(20.0, "--reduction mean", beta=1.5) == []
    assert titles(20.0, "--beta 4", beta=4.0) == []  # it was asked for


def test_warnings_come_first() -> None:
    """And a collapse that the reduction explains is not said beside it."""
    assert titles(0.1, "data.binarisation=none --reduction mean", beta=3.2) == [BETA, GREY]
    assert titles(0.1, "data.binarisation=none") == [COLLAPSE, GREY]


def residual(value: float) -> dict[str, Estimate]:
    return {"residual": Estimate(value, 0.001, "1", 180)}


def test_a_fixed_sigma_is_named_as_the_cause() -> None:
    own = "--recon gaussian --sigma 1 data.binarisation=none"
    (finding,) = diagnose(numbers(0.001), configured(own), f"vaekit train {own}", symptoms=residual(0.2))
    assert finding.title == "Sigma too large"
    assert "a sigma of 1" in finding.evidence
    assert "0.2 ± 0.001" in finding.evidence
    # 64 values x (log 5 - (1 - 1/25) / 2)
    assert "72.3 nats for each example" in finding.evidence
    assert finding.remedies[0] == "vaekit train data.binarisation=none likelihood=normal_optimal"
    assert finding.remedies[1] == "vaekit train --recon gaussian data.binarisation=none sigma=0.2"
    text = str(finding)
    assert text.startswith("warning: Sigma too large. The likelihood has a sigma of 1")
    assert text.count("\n  try: vaekit train") == len(finding.remedies)
    assert finding.brief().count("\n  try: vaekit train") == 1


def test_sigma_is_asked_together_with_beta() -> None:
    """-log p + beta KL at sigma has the minima of the bound at sigma x sqrt(beta)."""
    own = "--recon gaussian --sigma 1 data.binarisation=none beta=0.04"
    assert diagnose(numbers(20.0, 0.04), configured(own), symptoms=residual(0.2)) == []
    (finding,) = diagnose(numbers(20.0, 0.04), configured(own), symptoms=residual(0.05))
    assert finding.name == "sigma_too_large"
    (finding,) = diagnose(numbers(20.0, 0.04), configured(own), symptoms=residual(0.9))
    assert finding.name == "sigma_too_small"


@pytest.mark.parametrize(
    ("found", "name"), [(1.99, None), (2.01, "sigma_too_small"), (0.51, None), (0.49, "sigma_too_large")]
)
def test_a_factor_of_two_is_let_pass(found: float, name: str | None) -> None:
    own = "--recon gaussian --sigma 1 data.binarisation=none"
    names = [finding.name for finding in diagnose(numbers(20.0), configured(own), symptoms=residual(found))]
    assert names == ([name] if name else [])


def test_a_weight_beside_a_mean_is_no_sigma() -> None:
    """A loss that was chosen as one: where its codes lie far off, the weight itself is what is named."""
    own = "model=vae data.binarisation=none 'hidden_dims=[8]' latent_dim=8"
    assert diagnose(numbers(2.4, 0.0025), configured(own), symptoms=residual(0.9)) == []
    far = residual(0.9) | {"prior_gap": Estimate(60.0, 0.0, "nats", 180)}
    assert [found.name for found in diagnose(numbers(90.0, 0.0025), configured(own), symptoms=far)] == ["kl_too_light"]


def test_no_remedy_of_a_collapse_makes_the_kl_heavier() -> None:
    own = "model=vae data.binarisation=none 'hidden_dims=[8]' kld_weight=0.003125"  # beta = 0.003125 x 64 / 2
    (finding,) = diagnose(numbers(0.1, 0.1), configured(own), f"vaekit train {own}", steps=1000)
    assert finding.name == "posterior_collapse"
    assert "'beta={kind: schedules.Linear, start: 0.0, stop: 0.1, steps: 500}' kld_weight=null" in finding.remedies[0]
    assert "kld_weight=0.00156" in finding.remedies[2]
    (finding,) = diagnose(numbers(0.1, 0.4), configured("beta=0.4"), "vaekit train beta=0.4", steps=1000)
    assert "stop: 0.4" in finding.remedies[0]
    assert finding.remedies[2] == "vaekit train beta=0.2"


def test_a_warm_up_takes_steps() -> None:
    (finding,) = diagnose(numbers(0.1), configured("training.epochs=3"), "vaekit train training.epochs=3", steps=3)
    assert finding.remedies[0] == "vaekit train training.epochs=9"
    assert not any("schedules" in remedy for remedy in finding.remedies)


@pytest.mark.parametrize(
    ("rise", "error", "ignored"), [(0.0, 0.0, True), (0.3, 0.05, True), (0.3, 0.2, False), (16.9, 11.0, False)]
)
def test_that_z_is_ignored_takes_evidence(rise: float, error: float, ignored: bool) -> None:
    swapped = {"swap_z": Estimate(rise, error, "nats", 40)}
    names = [finding.name for finding in diagnose(numbers(10.0), configured(""), symptoms=swapped)]
    assert names == (["decoder_ignores_z"] if ignored else [])


CASES = {
    "default": "vaekit train",
    "short": "vaekit train --epochs 2",
    "with a beta": "vaekit train --epochs 3 --beta 0.9 --z_dim 3",
    "gaussian": "vaekit train --recon gaussian --sigma 1",
    "gaussian by override": "vaekit train likelihood=normal data.binarisation=none",
    "mean": "vaekit train --reduction mean",
    "grey": "vaekit train data.binarisation=none",
    "weight beside a mean": "vaekit train model=vae data.binarisation=none model.kld_weight=0.1 'hidden_dims=[8]'",
    "light weight beside a mean": "vaekit train model=vae data.binarisation=none 'hidden_dims=[8]'",
    "odd": "vaekit train --exp_name 'a b' --output-dir \"it's\"",
}


@pytest.mark.parametrize("command", CASES.values(), ids=CASES.keys())
def test_every_remedy_is_a_command_that_trains(command: str, tmp_path: Any) -> None:
    own = shlex.split(command)[2:]
    config = configured(shlex.join(own))
    data = open_data(data_node(compose(translate(own))))
    steps = config["training"]["epochs"] * -(-len(data.train) // config["training"]["batch_size"])
    beta = 3.2 if "mean" in own else float(config["beta"])
    findings = diagnose(numbers(0.1, beta), config, command, steps)
    assert findings
    for finding in findings:
        assert finding.remedies
        for remedy in finding.remedies:
            program, name, *arguments = shlex.split(remedy)
            assert (program, name) == ("vaekit", "train")
            composed = compose(translate(arguments))
            dataset = open_data(data_node(composed))
            changed = complete(resolve(composed, dataset.event_shape))
            assert changed != config
            make_session(changed, dataset, select("cpu"))  # a warm-up ends before the training does


@pytest.mark.parametrize(
    "own", ["", "model=vae data.binarisation=none", "model=cnn", "model=iwae", "model=vqvae", "--beta 4"]
)
def test_a_remedy_against_overfitting_changes_the_model(own: str) -> None:
    config = configured(own)
    rows = [{"val/elbo": score, "train/elbo": -60.0, "kept": score == -90.0} for score in (-95.0, -90.0, -99.0)]
    found = {"gap": Estimate(30.0, 1.0, "nats", 99), "spread": Estimate(20.0, 0.0, "nats", 99)}
    command = f"vaekit train {own}".strip()
    (finding,) = [one for one in diagnose({}, config, command, 30, rows, found) if one.name == "overfitting"]
    assert finding.remedies or own == "model=vqvae"
    for remedy in finding.remedies:
        changed = configured(shlex.join(shlex.split(remedy)[2:]))
        assert any(changed[part] != config[part] for part in ("network", "objective"))
        assert "beta=2.0" not in remedy or own != "--beta 4"


def test_a_warm_up_is_not_prescribed_where_its_length_is_not_known() -> None:
    (finding,) = diagnose(numbers(0.1), configured(""))
    assert not any("Linear" in remedy for remedy in finding.remedies)
    (finding,) = diagnose(numbers(0.1), configured(""), steps=1)
    assert not any("Linear" in remedy for remedy in finding.remedies)


def test_a_posterior_that_is_the_same_for_all_examples_is_no_healthy_one() -> None:
    """KL without active units: the codes cost nats and tell nothing."""
    metrics = {**numbers(7.4), "active_units": Estimate(0.0, 0.0, "dimensions", 100)}
    (finding,) = diagnose(metrics, configured("--recon gaussian data.binarisation=none"), "vaekit train", 280)
    assert finding.severity == "warning"
    assert finding.title == "One posterior for all examples"
    assert finding.remedies[0] == "vaekit train training.epochs=90"
    metrics["active_units"] = Estimate(3.0, 0.0, "dimensions", 100)
    assert diagnose(metrics, configured("--recon gaussian data.binarisation=none")) == []


def test_a_density_on_binary_data_is_refused_its_meaning() -> None:
    own = "--recon gaussian --sigma 0.1 data.binarisation=dynamic"
    (finding,) = diagnose(numbers(20.0), configured(own), f"vaekit train {own}")
    assert (finding.severity, finding.title) == ("warning", "A density on binary data")
    assert finding.remedies[0] == "vaekit train data.binarisation=dynamic likelihood=bernoulli"
    assert finding.remedies[1] == "vaekit train --recon gaussian --sigma 0.1 data.binarisation=none"


DISCRETE = [
    name
    for name in likelihoods.__all__
    if getattr(getattr(likelihoods, name), "discrete", False) is True and name != "Pyramid"
]


@pytest.mark.parametrize("kind", DISCRETE)
def test_no_probability_of_discrete_values_is_called_a_density(kind: str) -> None:
    config = configured("data.binarisation=dynamic")
    config["likelihood"] = {**config["likelihood"], "kind": f"likelihoods.{kind}"}
    assert diagnose(numbers(20.0), config) == []


def test_grey_values_are_noted_under_every_bernoulli() -> None:
    assert titles(20.0, "likelihood=bernoulli_from_means data.binarisation=none") == [GREY]


def test_a_density_above_a_discrete_base_is_seen_too() -> None:
    own = "model=residual_progressive final_res=8 data.binarisation=dynamic"
    (finding,) = diagnose(numbers(20.0), configured(own), f"vaekit train {own}")
    assert "LearnedScaleNormal is a density" in finding.evidence
    assert finding.remedies == ("vaekit train model=residual_progressive final_res=8 data.binarisation=none",)


def test_a_codebook_that_nobody_uses_is_found() -> None:
    def found(used: float, perplexity: float, choices: float = 5000) -> list[str]:
        told = {"codes": 512.0, "codes_used": used, "codes_perplexity": perplexity, "code_choices": choices}
        symptoms = {name: Estimate(value, 0.0, "codes", 180) for name, value in told.items()}
        own = "model=vqvae training.epochs=2"
        findings = diagnose(numbers(20.0), configured(own), f"vaekit train {own}", symptoms=symptoms)
        for finding in findings:
            for remedy in finding.remedies:
                compose(translate(shlex.split(remedy)[2:]))
        return [finding.title for finding in findings]

    assert found(3, 1.9) == ["Codebook collapse"]
    assert found(200, 52.0) == []
    assert found(60, 40.0, choices=300) == []  # more than that many were never to be chosen


def test_a_remedy_says_a_key_once() -> None:
    (finding,) = diagnose(numbers(0.1), configured("training.epochs=3"), "vaekit train training.epochs=3")
    assert finding.remedies[0] == "vaekit train training.epochs=9"


def test_a_heavy_beta_is_the_first_suspect() -> None:
    (finding,) = diagnose(
        numbers(0.1, 28.0), configured("--reduction mean --recon gaussian data.binarisation=none"), "vaekit train"
    )
    assert "28 times a nat" in finding.cause
    assert finding.remedies[0] == "vaekit train objective.reduction.kind=objectives.SumReduction"
    (finding,) = diagnose(numbers(0.1, 28.0), configured("beta=28"), "vaekit train beta=28")
    assert finding.name == "kl_too_heavy"
    assert finding.remedies[0] == "vaekit train beta=1.0"


def test_a_remedy_leaves_out_what_belonged_to_the_part_it_replaces() -> None:
    own = "likelihood=normal likelihood.scale=1.0 data.binarisation=none"
    (finding,) = diagnose(numbers(0.1), configured(own), f"vaekit train {own}", symptoms=residual(0.2))
    assert finding.remedies[0] == "vaekit train data.binarisation=none likelihood=normal_optimal"
    own = "likelihood=normal --sigma=0.5 data.binarisation=none"
    (finding,) = diagnose(numbers(0.1), configured(own), f"vaekit train {own}", symptoms=residual(0.1))
    for remedy in finding.remedies:
        resolve(compose(translate(shlex.split(remedy)[2:])), (1, 8, 8))  # a sigma that nobody reads is refused


def rows(*scores: float, kept: float = 1.0, **others: float) -> list[dict[str, float]]:
    return [{"epoch": n, "val/elbo": score, "kept": kept, **others} for n, score in enumerate(scores, 1)]


def test_a_training_that_could_go_on_is_found() -> None:
    def found(*scores: float, kept: float = 1.0) -> list[str]:
        findings = diagnose(numbers(20.0), configured("training.epochs=10"), rows=rows(*scores, kept=kept))
        for finding in findings:
            compose(translate(shlex.split(finding.remedies[0])[2:]))
            assert finding.remedies[0] in ("vaekit train training.epochs=20", "vaekit train training.epochs=30")
        return [finding.title for finding in findings]

    rising = [-100.0 + 5 * n for n in range(10)]
    assert found(*rising) == ["Training not finished"]
    assert found(*rising, kept=0.0) == []  # it rose, but the best weights are those of an earlier epoch
    assert found(*[-50.0 - 50 * math.exp(-n) for n in range(10)]) == []  # it has settled
    assert found(*rising[:4]) == ["Training not finished"]
    assert found(*rising[:1]) == []  # too few epochs to say anything


def test_a_training_with_a_weight_beside_a_mean_is_asked_by_its_loss() -> None:
    """Its weights are kept by it, while the ELBO at sigma = 1 may fall for as long as the reconstruction gets better."""

    def found(losses: list[float]) -> list[str]:
        config = {**configured("training.epochs=10"), "kld_weight": 1e-6}
        logged = [
            {"epoch": n, "val/elbo": -100.0 - 10 * n, "val/loss": loss, "kept": 1.0} for n, loss in enumerate(losses)
        ]
        return [finding.title for finding in diagnose(numbers(20.0), config, rows=logged)]

    assert found([100.0 - 5 * n for n in range(10)]) == ["Training not finished"]
    assert found([50.0 + 50 * math.exp(-n) for n in range(10)]) == []


def test_a_latent_that_is_stretched_beyond_the_prior_is_found() -> None:
    def found(kl: float, line: str) -> tuple[str, ...]:
        config = configured(line)
        findings = diagnose(numbers(kl, config["beta"]), config)
        for finding in findings:
            assert finding.name in ("overstretched", "kl_too_light")
            compose(translate(shlex.split(finding.remedies[0])[2:]))
        return findings[0].remedies if findings else ()

    # q = N(+-10, 0.1^2) has 51.8 nats a dimension
    assert found(103.6, "latent_dim=2 beta=0.01") == ("vaekit train beta=1.0", "vaekit train beta=0.1")
    assert found(103.6, "latent_dim=2 beta=0.5") == ("vaekit train beta=5", "vaekit train latent_dim=8")
    assert found(15.0, "latent_dim=2") == ()
    assert found(25.0, "latent_dim=20") == ()


def test_steps_that_were_left_out_are_counted() -> None:
    (finding,) = diagnose(numbers(20.0), configured(""), rows=rows(-1.0, -1.0, **{"train/skipped_steps": 3}))
    assert finding.title == "Steps left out"
    assert finding.evidence.startswith("6 steps")
    assert finding.remedies == ("vaekit train optimizer.lr=0.0001", "vaekit train training.gradient_clip=1")


def test_a_cause_is_as_grave_as_what_follows_and_stands_alone() -> None:
    """Two epochs of a model whose latent is unused: the one is a note, the other a warning that it explains."""
    (finding,) = diagnose(numbers(0.1), configured("training.epochs=2"), rows=rows(-30.0, -20.0))
    assert (finding.severity, finding.name) == ("warning", "training_unfinished")


def test_no_two_findings_explain_each_other_away() -> None:
    """Whatever is wrong at once, something is said."""
    own = "--recon gaussian --sigma 1 data.binarisation=none --reduction mean training.epochs=2"
    symptoms = residual(0.01) | {"prior_gap": Estimate(900.0, 0.0, "nats", 180)}
    for kl in (0.1, 900.0):
        assert diagnose(numbers(kl, 0.01), configured(own), rows=rows(-30.0, -20.0), symptoms=symptoms)


def test_what_cannot_be_asked_is_not_said_to_have_been_checked() -> None:
    case = Case(numbers(20.0), configured(""))
    assert "codebook" not in checked(case)
    assert "posterior collapse" in checked(case)
    assert {rule.about for rule in RULES} >= set(checked(case))


@pytest.mark.parametrize("state", ["stopped", "broken"])
def test_without_a_model_there_is_one_thing_to_say(state: str) -> None:
    case = Case({}, configured("data.binarisation=none"), rows=rows(-30.0, -20.0), state=state, path="runs/a/b")
    (finding,) = examine(case)
    assert finding.severity == "error"
    assert len(checked(case)) == 1


def test_numbers_that_are_none_say_nothing() -> None:
    """metrics.json of a model that has gone to infinity."""
    metrics = {name: Estimate(math.nan, math.nan, "nats", 180) for name in ("kl", "elbo", "effective_beta")}
    symptoms = {
        name: Estimate(math.nan, math.nan, "1", 180) for name in ("residual", "swap_z", "prior_gap", "gap", "spread")
    }
    assert diagnose(metrics, configured(""), symptoms=symptoms) == []
