# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 Reconstruction: how well can the image be restored?
#
# A reconstructor learns from pairs: the noisy image $y$ and the original $x$. It is then asked for $\hat x = f(y)$ on patients that it has
# never seen. Everything a diagnosis later sees goes through this door.

# %%
import inspect

import numpy as np
import pandas as pd
import torch

import reconfair as rf
from reconfair.recon import pix2pix, sde, unet

# %% tags=["parameters"]
dataset = {
    "name": "phantom_mri",
    "size": 64,
    "patients": 300,
    "slices": 2,
    "dials": {"contrast": {"sex": {"female": -0.4}}},
}
noise = {"kind": "kspace", "acceleration": 8}
reconstruction = {
    "models": ["unet", "pix2pix", "sde"],
    "unet": {"channels": 8, "depth": 3, "epochs": 8},
    "pix2pix": {"channels": 16, "epochs": 8, "batch_size": 8, "lr": 0.002, "dropout": 0},
    "sde": {"channels": 32, "depth": 3, "patch": 2, "epochs": 8, "lr": 0.003, "sampler": "few_step"},
}
compute = {}

# %%
study = rf.params.study(dataset=dataset, noise=noise, reconstruction=reconstruction, compute=compute)
models = study.reconstruction.models
folders = {model: rf.recon.train(study, model) for model in models}
restored = {model: rf.recon.reconstruct(study, model) for model in models}
cohort, noisy = rf.data.load(study), rf.noise.load(study)
evaluated = rf.data.rows(cohort.table, "eval")
test = np.flatnonzero(cohort.table.split.iloc[evaluated] == "test")

# %% [markdown]
# Three families are compared, one of each kind in use: a network that answers with a mean, one that must also look real, and one that
# draws an answer at random from those that are possible.
#
# ## U-Net: the mean of all possible images
#
# An encoder halves the image again and again while it doubles the channels; a decoder goes back up, at each
# step joined by what the encoder saw at that size. The loss is the mean squared error,
#
# $$L = \frac 1 N \sum_i \lVert f(y_i) - x_i \rVert^2 .$$

# %%
print(inspect.getsource(unet.Reconstructor.objective))

# %% [markdown]
# Its minimum is the *mean* of all images that could have led to $y$. That is why U-Nets are safe in PSNR and a little
# blurred: where the measurement leaves a choice, they answer with the average of the possibilities.
#
# ## Pix2Pix: an adversary asks for sharpness
#
# A generator $G$ makes the image, a discriminator $D$ looks at patches of 70 pixels, beside the same patch of $y$, and says whether they are
# original. Each is trained against the other:
#
# $$L_G = -\log D(y, G(y)) + 100\, \lvert x - G(y) \rvert, \qquad L_D = -\tfrac12 \bigl[\log D(y, x) + \log(1 - D(y, G(y)))\bigr].$$

# %%
print(inspect.getsource(pix2pix.Reconstructor.objective))

# %% [markdown]
# A blurred patch is easily found out, so $G$ puts in detail that *looks* right. Nothing in $L_G$ asks that the detail be true, save the second term,
# which again is smallest at the average (here the median) of the possibilities.

# %%
logs = {model: pd.read_csv(folder / "log.csv") for model, folder in folders.items()}
if "pix2pix" in models:
    rf.figures.keep(rf.figures.adversaries(logs["pix2pix"]), study, "03_adversaries")

# %% [markdown]
# Whoever is low, wins. Were originals and reconstructions not to be told apart, both would lie on the dotted line. A discriminator near zero has won: its
# gradient still says what looks wrong, but no longer how near to right it is.
#
# ## SDE: draw one of the possible images
#
# The mean-reverting equation turns an original step by step into its noisy image plus a little noise of standard deviation $\lambda$:
#
# $$dx = \theta_t\,(y - x)\,dt + \sigma_t\,dw, \qquad x_t \mid x_0 \sim N\bigl(y + (x_0 - y)\,e^{-\bar\theta_t},\; \lambda^2 (1 - e^{-2 \bar\theta_t})\bigr).$$
#
# A network sees $x_t$, $y$ and $t$ and says what noise is in it; with it the equation can be followed backwards, from noise to an image. In training
# one random $t$ per image is enough, because $x_t$ can be drawn at once:

# %%
print(inspect.getsource(sde.Reconstructor.objective))

# %% [markdown]
# Followed backwards, the equation starts at $y$ plus noise (left) and ends at an image (right). Above, where it is; below, where the network at
# each time believes it will end.

# %%
if "sde" in models:
    one = test[len(test) // 2]
    model, seeds = (
        rf.recon.load(study, "sde"),
        rf.recon.sampling_seeds(study, cohort.table.image_id.iloc[[evaluated[one]]]),
    )
    y = torch.from_numpy(noisy[[evaluated[one]]].astype(np.float32))[:, None]
    with torch.inference_mode():
        generators = sde.generators_of(seeds)
        path = [(t, x_t[0, 0].clamp(0, 1), x0_hat[0, 0]) for t, x_t, x0_hat in model.path(y, generators)]
    path = [path[k] for k in np.linspace(0, len(path) - 1, min(7, len(path))).round().astype(int)]
    strip = [[picture for _, picture, _ in path], [picture for _, _, picture in path]]
    titles = [f"t = {t}" for t, _, _ in path]
    rf.figures.keep(rf.figures.montage(strip, titles, ["$x_t$", r"$\hat x_0$"]), study, "03_path")

# %% [markdown]
# **Predict first:** two samples from the same noisy image differ. Is one sample nearer to the original than the U-Net's mean, or farther away? And the mean of eight samples?
#
# If samples are drawn as the original might have been drawn, sample $s$ and original $x$ lie on equal terms around the mean $m$ of all possible images, so
# $\mathrm E\lVert x - s \rVert^2 = 2\, \mathrm E \lVert x - m \rVert^2$: one sample has twice the squared error of the mean, 3 dB less. The mean of $k$ samples has $1 + 1/k$
# times that of the mean.

# %%
if "sde" in models:
    some = test[np.linspace(0, len(test) - 1, 24).astype(int)]
    y = torch.from_numpy(noisy[evaluated[some]].astype(np.float32))[:, None]
    x = cohort.images[evaluated[some]].astype(np.float32)
    with torch.inference_mode():
        samples = np.stack([model.reconstruct(y, range(k, k + len(y))).numpy()[:, 0] for k in range(0, 800, 100)])

    def mean_psnr(images):
        return np.mean([rf.quality.psnr(*pair) for pair in zip(x, images, strict=True)])

    means = {f"mean of {k} samples": mean_psnr(samples[:k].mean(axis=0)) for k in (1, 2, 4, 8)}
    others = {rf.figures.name(other): mean_psnr(restored[other][some].astype(np.float32)) for other in models}
    display(pd.Series(means | others, name="PSNR (dB), 24 test images").round(2).to_frame())  # noqa: F821

# %% [markdown]
# What varies between samples is what the measurement does not say. That is the honest part of a diffusion model; a reader who is shown one sample
# is shown one possibility, drawn by chance.
#
# ## Learning

# %%
rf.figures.keep(rf.figures.learning(logs), study, "03_learning")

# %% [markdown]
# The dot marks the weights that are kept: the epoch with the smallest loss on the validation patients. Losses of different models are not to be compared:
# the U-Net's is a squared error, Pix2Pix's the absolute one (its adversary's cannot be compared between epochs), the SDE's the distance to one optimal step backwards.
#
# ## The same patients under every model
#
# **Predict first:** which reconstruction will be the smoothest, and which the grainiest? Which of them is nearest to the original?

# %%
shown = test[np.linspace(0, len(test) - 1, 8).astype(int)][2:6]
rows = evaluated[shown]
sources = {"noisy": noisy[rows], **{model: images[shown] for model, images in restored.items()}}
pictures = rf.figures.comparison(cohort.images[rows], sources, cohort.table.image_id[rows].str[:12].tolist())
rf.figures.keep(pictures, study, "03_reconstructions")

# %% [markdown]
# ## Image quality
#
# PSNR measures the mean squared error, SSIM likeness of structure, LPIPS the distance in the eyes of a network trained on photographs.

# %%
flow = rf.store.flow(study)
quality = rf.tables.read("quality", flow["noisy"].folder, *folders.values())
quality = quality[quality.split == "test"]
if "lpips" not in quality:
    print(
        f"No LPIPS: it rests on published weights of AlexNet, which are not at {rf.quality.lpips_weights().name} in torch's cache."
    )
quality.groupby("source", sort=False)[quality.columns.intersection(["psnr", "ssim", "lpips"])].agg(
    ["mean", "std"]
).round(3)

# %%
rf.figures.keep(rf.figures.tradeoff(quality), study, "03_tradeoff")

# %% [markdown]
# No model can have both at their best: the image with the smallest mean error is not one that looks like an original (Blau and Michaeli 2018). Means gain PSNR, samples gain
# likeness. Which of the two a diagnosis needs is not settled by either measure.
#
# ### Beside the paper

# %%
paper = (
    rf.tables.published("performance")
    .query("metric == 'psnr'")
    .pivot_table("value", ["dataset", "level"], "source", sort=False)
)
ours = quality.groupby("source").psnr.mean()
ours = ours.rename((study.label, study.level)).to_frame().T
pd.concat({"paper": paper, "ours": ours})[["unet", "pix2pix", "sde"]].astype(float).round(2) if set(models) == {
    "unet",
    "pix2pix",
    "sde",
} else ours.round(2)

# %% [markdown]
# PSNR (dB). The paper's are of other images: UCSF-PDGM is cut free of the skull, so that most of an image is exactly zero, easy to restore, and counted; its images are larger, and its
# networks were trained for hours on a hundred times as many. A decibel can be compared between models on the same images, hardly ever between data sets.
#
# ## For whom?

# %%
gaps = {
    source: rf.quality.gaps(rows, cohort.table, study.dataset.about.attributes)
    for source, rows in quality.groupby("source", sort=False)
}
pd.concat(gaps, names=["source"]).droplevel(1).set_index("attribute", append=True).round(3)

# %% [markdown]
# Largest difference in mean PSNR (`gap` in dB, and in percent of the mean) between groups, and Welch's test that all means are equal: patients are counted, not images. A gap that is there in the noisy image
# already is not the reconstruction's doing. Chapter 05 adds intervals, and asks how much the gap changed.

# %%
rated = quality.merge(cohort.table.drop(columns=["split", "patient_id"]), on="image_id")
long = rated.melt(["source", "psnr", "ssim"], list(study.dataset.about.attributes), "attribute", "group")
long.pivot_table("psnr", ["attribute", "group"], "source", sort=False).round(2)

# %% [markdown]
# **What this chapter does not prove.** A high PSNR says that most pixels are nearly right. A lesion of ten pixels hardly counts
# in it: it can vanish without a trace in the mean, and a sharp one can be invented. Whether it did is the question of the next chapter.
