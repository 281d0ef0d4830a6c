"""The doctor finds what is there, finds nothing else, and prescribes what can be taken."""

from __future__ import annotations

import math
import shlex
from typing import Any

import pytest

from vaekit.builder import complete
from vaekit.cli.aliases import translate
from vaekit.compose import compose, data_node, resolve
from vaekit.evaluation import Estimate, diagnose
from vaekit.evaluation.doctor import COLLAPSED_NATS
from vaekit.recipe import make_session, open_data
from vaekit.training.device import select


def configured(line: str) -> dict[str, Any]:
    return complete(resolve(compose(translate(shlex.split(line))), (1, 8, 8)))


def numbers(kl: float, beta: float = 1.0) -> dict[str, Estimate]:
    return {"kl": Estimate(kl, 0.01, "nats", 180), "effective_beta": Estimate(beta, 0.0, "1", 180)}


def titles(kl: float, line: str = "", beta: float = 1.0) -> list[str]:
    return [f"{f.severity}: {f.title}" for f in diagnose(numbers(kl, beta), configured(line))]


COLLAPSE, BETA, GREY = (
    "warning: Posterior collapse", "note: Effective beta", "note: Real-valued data under a Bernoulli likelihood"
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
    assert titles(0.1, "data.binarisation=none --reduction mean", beta=3.2) == [COLLAPSE, BETA, GREY]


def test_a_fixed_sigma_is_named_as_the_cause() -> None:
    (finding,) = diagnose(
        numbers(0.001), configured("--recon gaussian --sigma 1 data.binarisation=none"), "vaekit train --recon gaussian"
    )
    assert "sigma fixed at 1" in finding.cause
    assert finding.remedies[0] == "vaekit train --recon gaussian likelihood=normal_optimal"
    assert "0.001 ± 0.01 nats" in finding.evidence
    text = str(finding)
    assert text.startswith("warning: Posterior collapse. The KL is")
    assert text.count("\n  try: vaekit train") == len(finding.remedies)


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
    findings = diagnose(numbers(0.1, 3.2), config, command, steps)
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


def test_a_density_above_a_discrete_base_is_seen_too() -> None:
    own = "model=residual_progressive final_res=8 data.binarisation=dynamic"
    (finding,) = diagnose(numbers(20.0), configured(own), f"vaekit train {own}")
    assert "LearnedScaleNormal is a density" in finding.evidence
    assert finding.remedies == ("vaekit train model=residual_progressive final_res=8 data.binarisation=none",)


def test_a_codebook_that_nobody_uses_is_found() -> None:
    def found(used: float) -> list[str]:
        metrics = {
            **numbers(20.0),
            "codebook_used": Estimate(used, 0.0, "1", 180),
            "codebook_perplexity": Estimate(1.9, 0.1, "codes", 180),
        }
        own = "model=vqvae training.epochs=2"
        findings = diagnose(metrics, configured(own), f"vaekit train {own}")
        for finding in findings:
            compose(translate(shlex.split(finding.remedies[1])[2:]))
        return [finding.title for finding in findings]

    assert found(2 / 512) == ["Codebook collapse"]
    assert found(0.1) == []


def test_a_remedy_says_a_key_once() -> None:
    (finding,) = diagnose(numbers(0.1), configured("training.epochs=3"), "vaekit train training.epochs=3")
    assert finding.remedies[0] == "vaekit train training.epochs=9"


def test_a_heavy_beta_is_the_first_suspect() -> None:
    (finding, _) = diagnose(
        numbers(0.1, 28.0), configured("--reduction mean --recon gaussian data.binarisation=none"), "vaekit train"
    )
    assert "weighs 28 times" in finding.cause
    assert finding.remedies[0] == "vaekit train objective.reduction.kind=objectives.SumReduction"


def test_a_remedy_leaves_out_what_belonged_to_the_part_it_replaces() -> None:
    own = "likelihood=normal likelihood.scale=1.0 data.binarisation=none"
    (finding,) = diagnose(numbers(0.1), configured(own), f"vaekit train {own}")
    assert finding.remedies[0] == "vaekit train data.binarisation=none likelihood=normal_optimal"


def rows(*scores: float, kept: float = 1.0, **others: float) -> list[dict[str, float]]:
    return [{"epoch": n, "val/elbo": score, "kept": kept, **others} for n, score in enumerate(scores, 1)]


def test_a_training_that_could_go_on_is_found() -> None:
    def found(*scores: float, kept: float = 1.0) -> list[str]:
        findings = diagnose(numbers(20.0), configured("training.epochs=10"), rows=rows(*scores, kept=kept))
        for finding in findings:
            compose(translate(shlex.split(finding.remedies[0])[2:]))
            assert finding.remedies == ("vaekit train training.epochs=20",)
        return [finding.title for finding in findings]

    rising = [-100.0 + 5 * n for n in range(10)]
    assert found(*rising) == ["Training not finished"]
    assert found(*rising, kept=0.0) == []  # it rose, but the best weights are those of an earlier epoch
    assert found(*[-50.0 - 50 * math.exp(-n) for n in range(10)]) == []  # it has settled
    assert found(*rising[:4]) == []  # too few epochs to say anything


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
        findings = diagnose(numbers(kl), configured(line))
        for finding in findings:
            assert finding.title == "Overstretched latent"
            compose(translate(shlex.split(finding.remedies[0])[2:]))
        return findings[0].remedies if findings else ()

    # q = N(+-10, 0.1^2) has 51.8 nats a dimension
    assert found(103.6, "latent_dim=2 beta=0.01") == ("vaekit train beta=0.1", "vaekit train latent_dim=8")
    assert found(15.0, "latent_dim=2") == ()
    assert found(25.0, "latent_dim=20") == ()


def test_steps_that_were_left_out_are_counted() -> None:
    (finding,) = diagnose(numbers(20.0), configured(""), rows=rows(-1.0, -1.0, **{"train/skipped_steps": 3}))
    assert finding.title == "Steps left out"
    assert finding.evidence.startswith("6 steps")
    assert finding.remedies == ("vaekit train training.gradient_clip=1", "vaekit train optimizer.lr=0.0001")
