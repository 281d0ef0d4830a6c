"""Multilayer perceptrons for data with many columns: one list of widths makes an encoder and, read backwards, its decoder."""

from __future__ import annotations

from collections.abc import Sequence

from vaekit.networks.mlp import MLP


def wide_encoder(
    in_shape: Sequence[int],
    out_shape: Sequence[int],
    hidden_dims: Sequence[int],
    activation: str = "relu",
    dropout_rate: float = 0.0,
    *,
    use_batch_norm: bool = False,
) -> MLP:
    """A perceptron whose layers are as wide as `hidden_dims` says, from its input to its output.

    Both sides take the same arguments, so that a configuration says each once: YAML cannot read a list backwards, and a list
    that is written twice will one day be changed once.

    Arguments:
        in_shape: Shape of one input; flattened first.
        out_shape: Shape of one output.
        hidden_dims: Widths of the hidden layers, in the encoder's order: from the data to the latent.
        activation: As in `MLP`.
        dropout_rate: Share of hidden units that are zeroed in training, in [0, 1).
        use_batch_norm: Whether each hidden layer is batch-normalised before its activation; `MLP` has other normalisations.
    """
    return MLP(in_shape, out_shape, hidden_dims, activation, dropout_rate, norm="batch" if use_batch_norm else "none")


def wide_decoder(
    in_shape: Sequence[int],
    out_shape: Sequence[int],
    hidden_dims: Sequence[int],
    activation: str = "relu",
    dropout_rate: float = 0.0,
    *,
    use_batch_norm: bool = False,
) -> MLP:
    """The mirror of `wide_encoder`: the same widths, from the last to the first. Arguments as there."""
    backwards = tuple(reversed(hidden_dims))
    return wide_encoder(in_shape, out_shape, backwards, activation, dropout_rate, use_batch_norm=use_batch_norm)
