"""How like the data their reconstructions are, one number for each example: MSE, PSNR and SSIM."""

# N examples, B batch, (C, H, W) image

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.data.batch import Split
from vaekit.evaluation.passes import Plan, batches, measuring
from vaekit.evaluation.units import Estimate, mean
from vaekit.models.vae import VAE

# the window of Wang et al. (2004), section III, is Gaussian, of 11 x 11 pixels; where it reaches over an edge, the image is
# reflected there, for which it needs this many pixels
_LEAST = 6


def reconstruction_estimates(model: VAE, split: Split, plan: Plan, low: float, high: float) -> dict[str, Estimate]:
    """MSE, PSNR and SSIM between examples as the model is given them and their reconstructions at the posterior mean.

    Arguments:
        model: Of images.
        split: Whose examples.
        plan: Batch size and seed.
        low: Least value that an image can have.
        high: Greatest; the data range is the difference.

    Returns:
        `mse` in squared units of the data, `psnr` in dB, and `ssim` where images have 6 x 6 pixels or more.

    References:
        | Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004), equation 13
        | https://doi.org/10.1109/TIP.2003.819861
    """
    rows: dict[str, list[Tensor]] = {"mse": [], "psnr": [], "ssim": []}
    with measuring(model):
        for batch in batches(split, plan):
            given = batch.x.cpu().double()
            made = model.reconstruct(batch.x, batch.context).cpu().double()
            for name, values in per_example(made, given, high - low).items():
                rows[name].append(values)
    words = "examples as the model is given them against their reconstructions at the posterior mean"
    scale = f"data range {high - low:g}"
    notes = {
        "mse": ("1", f"mean over pixels; {words}"),
        "psnr": ("dB", f"{scale}, mean of the examples' own; {words}"),
        "ssim": ("1", f"{scale}, Gaussian window of 11 x 11 pixels, edges reflected; {words}"),
    }
    return {name: mean(torch.cat(rows[name]), *note) for name, note in notes.items() if rows[name]}


def per_example(made: Tensor, given: Tensor, span: float) -> dict[str, Tensor]:
    """MSE, PSNR, and SSIM where the images are large enough, each of shape (B,).

    Arguments:
        made: Reconstructions, (B, C, H, W).
        given: What they are of, likewise.
        span: The data range.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    values = {
        "mse": (made - given).square().mean((1, 2, 3)),
        "psnr": peak_signal_noise_ratio(made, given, data_range=span, reduction="none", dim=(1, 2, 3)),
    }
    if min(given.shape[-2:]) >= _LEAST:
        ssim = structural_similarity_index_measure(made, given, sigma=1.5, data_range=span, reduction="none")
        assert isinstance(ssim, Tensor)
        values["ssim"] = ssim.reshape(len(made))
    return values
