"""Reconstruction within a study: which images, in which range, rated how."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from reconfair import data, mitigation, noise, recon, tables
from reconfair.params import Source

each_model = pytest.mark.parametrize("model", ["unet", "pix2pix", "sde"])


@each_model
def test_reconstructions_cover_val_and_test_within_range(smallest, model):
    cohort, images = data.load(smallest), recon.reconstruct(smallest, model)
    assert len(images) == cohort.table.split.isin(["val", "test"]).sum()
    assert images.min() >= 0 and images.max() <= 1


@each_model
def test_reconstructions_are_those_of_the_stored_weights_whatever_else_is_in_the_batch(smallest, model):
    cohort, images = data.load(smallest), recon.reconstruct(smallest, model)
    row = data.rows(cohort.table, "eval")[5]
    noisy = torch.from_numpy(noise.load(smallest)[row].astype(np.float32))[None, None]
    seeds = recon.sampling_seeds(smallest, [cohort.table.image_id[row]])
    again = recon.load(smallest, model).reconstruct(noisy, seeds)[0, 0].numpy()
    assert np.abs(again - images[5]).max() < 1e-3  # half precision on disk


def test_quality_is_that_of_the_stored_images(smallest):
    cohort, images = data.load(smallest), recon.reconstruct(smallest, "unet")
    quality = tables.read("quality", recon.product(smallest, Source("unet")).folder)
    rows = data.rows(cohort.table, "eval")
    assert quality.image_id.tolist() == cohort.table.image_id.iloc[rows].tolist()
    original, image = cohort.images[rows[3]].astype(np.float32), images[3].astype(np.float32)
    assert np.isclose(quality.psnr[3], peak_signal_noise_ratio(original, image, data_range=1))


def test_fine_tuning_starts_from_the_standard_weights_and_moves_them(smallest):
    products = recon.weights(smallest, Source("unet")), mitigation.weights(smallest, Source("unet", "reweight"))
    load = [torch.load(made.folder / "best.ckpt", weights_only=True)["state_dict"] for made in products]
    distance = max((load[0][name].float() - load[1][name].float()).abs().max() for name in load[0] if "weight" in name)
    untrained = recon.build(smallest, "unet").state_dict()
    away = max((untrained[name] - load[1][name]).abs().max() for name in load[1] if "weight" in name)
    assert 0 < distance < away
