"""Which settings tell runs apart, and which only follow from them."""

from __future__ import annotations

from typing import Any

from vaekit.comparison.settings import data_of, differing, shown, told_apart


def config(**changes: Any) -> dict[str, Any]:
    """A small resolved configuration, with dotted changes."""
    latent = changes.get("latent_dim", 2)
    made: dict[str, Any] = {
        "name": "mine", "seed": 0, "output_dir": "runs", "device": "cpu", "latent_dim": latent, "hidden_dim": 8, "beta": 1.0,
        "data": {"kind": "data.named", "name": "digits", "seed": 0, "expression": "counts"},
        "posterior": {"kind": "conditionals.Normal", "event_shape": [latent]},
        "prior": {"kind": "priors.StandardNormal", "event_shape": [latent]},
        "network": {"encoder": {"kind": "networks.MLP", "hidden_dims": [8, 8]}},
        "optimizer": {"kind": "optim.Adam", "lr": 1e-3},
    }  # fmt: skip
    for key, value in changes.items():
        node = made
        *above, last = key.split("__")
        for name in above:
            node = node.setdefault(name, {})
        node[last] = value
    return made


def test_what_follows_from_a_root_key_is_not_named() -> None:
    names, rows = differing([config(latent_dim=2), config(latent_dim=16), config(latent_dim=2, seed=1)])
    assert names == ("seed", "latent_dim")
    assert rows == [("0", "2"), ("0", "16"), ("1", "2")]


def test_two_settings_that_differ_together_are_both_named() -> None:
    names, rows = differing([config(latent_dim=2), config(latent_dim=4, optimizer__lr=0.01)])
    assert names == ("latent_dim", "optimizer.lr")
    assert rows == [("2", "0.001"), ("4", "0.01")]


def test_the_weight_of_a_kl_is_not_shown_where_there_is_none() -> None:
    weighed = {"kind": "objectives.Objective", "weights": {"kl": 4.0}}
    names, rows = differing([config(beta=4.0, objective=weighed), config(objective={"kind": "objectives.Objective"})])
    assert [dict(zip(names, row, strict=True))["beta"] for row in rows] == ["4", "–"]


def test_a_list_follows_only_where_it_is_the_root_key_that_differs() -> None:
    wide = config(hidden_dim=16, network__encoder__hidden_dims=[16, 16])
    assert differing([config(), wide])[0] == ("hidden_dim",)
    odd = config(hidden_dim=16, network__encoder__hidden_dims=[32, 16])
    assert differing([config(), odd])[0] == ("hidden_dim", "network.encoder.hidden_dims")


def test_of_a_part_of_another_kind_only_the_kind_is_named() -> None:
    vamp = config(prior={"kind": "priors.Vamp", "event_shape": [2], "components": 500})
    names, rows = differing([config(), vamp])
    assert (names, rows) == (("prior",), [("StandardNormal",), ("Vamp",)])
    more = config(prior={"kind": "priors.Vamp", "event_shape": [2], "components": 20})
    names, rows = differing([config(), vamp, more])
    assert names == ("prior", "prior.components")
    assert rows[0] == ("StandardNormal", "–")


def test_what_a_run_is_called_and_where_it_is_makes_no_difference() -> None:
    assert differing([config(), config(name="other", output_dir="x", device="cuda")]) == ((), [(), ()])


def test_models_are_told_apart_by_the_names_of_their_runs() -> None:
    vamp = {"prior__kind": "priors.Vamp", "optimizer__lr": 0.1}
    runs = [
        config(name="digits-mlp"),
        config(name="digits-vamp", latent_dim=4, **vamp),
        config(name="digits-vamp", latent_dim=8, **vamp),
    ]
    names, rows = differing(runs)
    assert names == ("model", "latent_dim")
    assert rows == [("mlp", "2"), ("vamp", "4"), ("vamp", "8")]
    # what differs within a model is named, whatever the others have
    runs.append(config(name="digits-mlp", optimizer__lr=0.5))
    assert differing(runs)[0] == ("model", "latent_dim", "optimizer.lr")


def test_the_same_data_seen_differently_are_the_same_data() -> None:
    assert data_of(config()) == data_of(config(data__expression="log1p"))
    assert data_of(config()) != data_of(config(data__seed=1))


def test_values_are_written_as_people_write_them() -> None:
    given = ["priors.Vamp", "a b.c", [1, 2.0, "x"], True, None, 1e-5, 0.30000000000000004, 7]
    assert [shown(value) for value in given] == ["Vamp", "a b.c", "[1,2,x]", "true", "null", "1e-05", "0.3", "7"]


def test_data_of_one_name_are_told_apart_by_what_differs() -> None:
    held, other = {"data__ood": "condition=stim", "data__seed": 1}, {"data__ood": None, "data__seed": 1}
    assert told_apart([config(**held), config(**other)]) == ["data.ood=condition=stim", "data.ood=null"]
    paths = [config(data__path=f"/home/me/{folder}/cells.h5ad") for folder in "ab"]
    assert told_apart(paths) == ["data.path=a/cells.h5ad", "data.path=b/cells.h5ad"]
