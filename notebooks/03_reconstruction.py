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
# A reconstructor learns from pairs of a noisy image $y$ and its original $x$. Then it computes $\hat x = f(y)$ for patients
# that it has never seen. All later diagnoses look at its images.
#
# **After this chapter you can**
#
# - write down the losses of a U-Net, of Pix2Pix and of a mean-reverting SDE;
# - predict which of them gives smooth images, and which gives sharp ones;
# - explain why one sample of a diffusion model has a lower PSNR than a mean of samples;
# - say why a difference in PSNR between groups can be older than the reconstruction.
#
# *Reading and running: about 40 minutes. You need chapter 02, and what a loss and a gradient are.*

# %%
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

import reconfair as rf

# %% [markdown]
# The next cell chooses the study. It starts from a base, here `params/class.yaml`, and each line changes one section of
# it: `{}` changes nothing, `noise = "none"` means without noise, and a dataset with a `name` starts a new study, which
# does not use the base. Opened in Jupyter, run by `papermill -f params/FILE.yaml` or by `reconfair run
# params/FILE.yaml`, this notebook computes the same results from the same settings.

# %% tags=["parameters"]
base = "class"
dataset = {}
noise = {}
reconstruction = {}
compute = {}

# %%
study = rf.params.study(base, dataset=dataset, noise=noise, reconstruction=reconstruction, compute=compute)
models = study.models
for fold in study.folds[::-1]:  # fold 1 is the last, and shown below
    folders = {model: rf.recon.train(fold, model) for model in study.trained}
    restored = {model: rf.recon.reconstruct(fold, model) for model in models}
cohort, noisy = rf.data.load(fold), rf.noise.load(fold)
evaluated = rf.data.rows(cohort.table, "eval")
there = np.all([rf.data.there(images) for images in restored.values()], axis=0)  # made elsewhere, some may lack
test = np.flatnonzero((cohort.table.split.iloc[evaluated] == "test") & there & rf.data.there(noisy, evaluated))

# %% [markdown]
# Without `dataset.folds` there is one fold, the study itself. With folds, every model is trained once for each fold.
# The models, pictures and learning curves below are those of fold 1. The tables of image quality count the test
# patients of all folds.
#
# We compare three families: a network that answers with a mean image, one whose image must also look real, and one that
# draws an image at random from those that are possible. For the formulas below, here are 24 test images as tensors:

# %%
some = test[np.linspace(0, len(test) - 1, 24).astype(int)]
y, x = (torch.from_numpy(images[evaluated[some]].astype(np.float32)) for images in (noisy, cohort.images))
y, x = (images.reshape(len(some), -1, *images.shape[-2:]) for images in (y, x))  # networks expect an axis of channels
y.shape

# %% [markdown]
# ## U-Net: the mean of all possible images
#
# The U-Net (Ronneberger, Fischer and Brox 2015) has an encoder and a decoder. At each step the encoder halves the image
# and doubles the channels. The decoder does the reverse. At each size, the decoder also sees what the encoder saw. The
# loss is the mean squared error over all $N$ pixels $i$ of all images:
#
# $$L = \frac 1 N \sum_i (f(y)_i - x_i)^2 .$$

# %%
if "unet" in models:
    f = rf.recon.load(fold, "unet")
    with torch.inference_mode():
        loss = (f(y) - x).square().mean()
    print(f"mean squared error of the U-Net {loss:.5f}, of the noisy images {(y - x).square().mean():.5f}")

# %% [markdown]
# The minimum of this loss is the *mean* of all images that could have led to $y$. So a U-Net is good in PSNR and a little
# blurred: where the measurement leaves a choice, it answers with the average of the possibilities.
#
# ## Pix2Pix: an adversary asks for sharpness
#
# In Pix2Pix (Isola et al. 2017) a generator $G$ makes the image. A discriminator $D$ looks at patches of it, together with
# the same patches of $y$, and gives the probability that they come from an original. A patch has 70 pixels a side. Images
# of 64 pixels are smaller than that, so each patch then holds most of the image, and zeros around it. $G$ and $D$ are
# trained against each other:
#
# $$L_G = -\log D(y, G(y)) + w\, \overline{\lvert x - G(y) \rvert}, \qquad
# L_D = -\tfrac12 \bigl[\log D(y, x) + \log(1 - D(y, G(y)))\bigr].$$
#
# The bar is the mean over pixels. The paper has $w = 100$; very small networks learn faster with a larger $w$ (`l1` in the parameters).

# %%
if "pix2pix" in models:
    pix2pix = rf.recon.load(fold, "pix2pix")
    with torch.inference_mode():
        x_hat = pix2pix.generator(y)
        D_fake, D_real = (torch.sigmoid(pix2pix.discriminator(y, image)) for image in (x_hat, x))
        L_G = -D_fake.log().mean() + pix2pix.settings["l1"] * (x - x_hat).abs().mean()
        L_D = -(D_real.log().mean() + (1 - D_fake).log().mean()) / 2
    print(f"L_G = {L_G:.2f}, of which the adversary gives {-D_fake.log().mean():.2f}; L_D = {L_D:.2f}")

# %% [markdown]
# The discriminator recognises a blurred patch easily, so $G$ adds detail that *looks* right. Only the second term of $L_G$
# asks that the detail be true, and that term alone is smallest at an average of the possibilities (here the median).

# %%
logs = {model: pd.read_csv(folder / "log.csv") for model, folder in folders.items()}
if "pix2pix" in models:
    figure = rf.figures.keep(rf.figures.adversaries(logs["pix2pix"]), study, "03_adversaries")
figure if "pix2pix" in models else None

# %% [markdown]
# The lower loss wins. If originals and reconstructions could not be told apart, both lines would lie on the dotted one. A
# discriminator near zero has won: its gradient still says what looks wrong, but no longer how close $G$ is to the truth.
#
# ## SDE: draw one of the possible images
#
# A stochastic differential equation (SDE) that reverts to a mean (Luo et al. 2023) turns the original step by step into
# the noisy image plus a little noise of standard deviation $\lambda$:
#
# $$dx = \theta_t\,(y - x)\,dt + \sigma_t\,dw, \qquad
# x_t \mid x_0 \sim N\bigl(y + (x_0 - y)\,e^{-\bar\theta_t},\; \lambda^2 (1 - e^{-2 \bar\theta_t})\bigr).$$
#
# Here $\bar\theta_t = \int_0^t \theta_s\, ds$ is the total pull towards $y$ up to time $t$, $w$ is Brownian motion, and
# $\sigma_t^2 = 2 \lambda^2 \theta_t$. With this choice the noise never grows beyond the standard deviation $\lambda$. In
# training, one random time $t$ for each image is enough, because $x_t$ can be drawn at once:

# %%
if "sde" in models:
    sde = rf.recon.load(fold, "sde")
    one, draw, times = len(y) // 2, torch.Generator().manual_seed(0), [0, 10, 25, 50, sde.schedule.steps]
    forward = []
    for t in times:
        left = torch.exp(-sde.schedule.Theta[t])
        mean, sd = y + (x - y) * left, sde.schedule.lam * torch.sqrt(1 - left**2)
        x_t = mean + sd * torch.randn(x.shape, generator=draw)
        forward.append(x_t[one].squeeze(0).clamp(0, 1))
    figure = rf.figures.montage([forward], [f"t = {t}" for t in times], ["$x_t$"])
    rf.figures.keep(figure, study, "03_forward")
figure if "sde" in models else None

# %% [markdown]
# A network sees $x_t$, $y$ and $t$, and predicts the noise in $x_t$. Divided by the standard deviation of that noise and
# with a minus sign, it is the score $\nabla_x \log p_t(x \mid y)$: the direction in which an image becomes more probable.
# With the score, the equation can be followed backwards in time,
#
# $$dx = \bigl[\theta_t\,(y - x) - \sigma_t^2\, \nabla_x \log p_t(x \mid y)\bigr]\,dt + \sigma_t\,d\bar w,$$
#
# from $y$ plus noise to an image. These are all three parts of the method: how an image is corrupted, what a step of the
# training lowers, and how an image is drawn. (The package uses a loss with other weights, and fewer and longer steps.)


# %%
def corrupt(x, y, t, noise, Theta, lam):
    left = torch.exp(-Theta[t]).reshape(-1, 1, 1, 1)
    return y + (x - y) * left + lam * torch.sqrt(1 - left**2) * noise


def loss_of(noise_hat, x, y, Theta, lam):
    t, noise = torch.randint(1, len(Theta), (len(x),)), torch.randn_like(x)
    return (noise_hat(corrupt(x, y, t, noise, Theta, lam), y, t) - noise).abs().mean()


def sample(noise_hat, y, theta, Theta, lam, dt):
    x = y + lam * torch.randn_like(y)
    for t in range(len(theta) - 1, 0, -1):
        score = -noise_hat(x, y, t) / (lam * torch.sqrt(1 - torch.exp(-2 * Theta[t])))
        x = x - (theta[t] * (y - x) - 2 * lam**2 * theta[t] * score) * dt
        x = x + lam * torch.sqrt(2 * theta[t] * dt) * torch.randn_like(x)
    return x


# %%
if "sde" in models:
    schedule = sde.schedule
    with torch.inference_mode():
        error = loss_of(sde.noise_hat, x, y, schedule.Theta, schedule.lam)
        drawn = sample(sde.noise_hat, y[[one]], schedule.theta, schedule.Theta, schedule.lam, schedule.dt)
    by_hand = rf.quality.psnr(x[one].numpy(), drawn[0].clamp(0, 1).numpy())
    print(f"mean error of the predicted noise {error:.2f} (always 0: 0.80); PSNR of the sample {by_hand:.1f} dB")

# %% [markdown]
# The picture shows the path of one image, as the package goes it. The upper row shows where it is at time $t$. The lower row
# shows the image that the network expects at the end.

# %%
if "sde" in models:
    seeds = rf.recon.sampling_seeds(study, cohort.table.image_id.iloc[evaluated[some[[one]]]])
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    with torch.inference_mode():
        path = [
            (t, x_t[0].squeeze(0).clamp(0, 1), x0_hat[0].squeeze(0))
            for t, x_t, x0_hat in sde.path(y[[one]], generators)
        ]
    path = [path[k] for k in np.linspace(0, len(path) - 1, min(7, len(path))).round().astype(int)]
    strip = [[picture for _, picture, _ in path], [picture for _, _, picture in path]]
    figure = rf.figures.montage(strip, [f"t = {t}" for t, _, _ in path], ["$x_t$", r"$\hat x_0$"])
    rf.figures.keep(figure, study, "03_path")
figure if "sde" in models else None

# %% [markdown]
# **Predict first:** two samples from the same noisy image differ. Is one sample closer to the original than the mean
# image of the U-Net, or farther away? What about the mean of eight samples?
#
# Suppose that samples are drawn as the original could have been drawn. Then a sample $s$ and the original $x$ have the same
# distribution around the mean $m$ of all possible images, and $\mathrm E\lVert x - s \rVert^2 = 2\, \mathrm E \lVert x - m
# \rVert^2$. One sample has twice the squared error of the mean, which is 3 dB less PSNR. The mean of $k$ samples has
# $1 + 1/k$ times the squared error of the mean.

# %%
if "sde" in models:
    sde.samples = 1  # this study's reconstruction can be a mean of several
    with torch.inference_mode():
        samples = np.stack([sde.reconstruct(y, range(k, k + len(y))).numpy() for k in range(0, 800, 100)])

    def mean_psnr(images):
        return np.mean([rf.quality.psnr(*pair) for pair in zip(x.numpy(), images, strict=True)])

    means = {f"mean of {k} samples": mean_psnr(samples[:k].mean(axis=0)) for k in (1, 2, 4, 8)}
    others = {rf.words.name(other): restored[other][some].astype(np.float32) for other in models}
    others = {other: mean_psnr(images.reshape(x.shape)) for other, images in others.items()}
    compared = pd.Series(means | others, name="PSNR (dB), 24 test images").round(2).to_frame()
compared if "sde" in models else None

# %%
if "sde" in models:
    gain = means["mean of 8 samples"] - means["mean of 1 samples"]
    expected = 10 * np.log10((1 + 1) / (1 + 1 / 8))
    sentence = (
        f"The mean of eight samples has {gain:.1f} dB more than one sample; the argument above gives {expected:.1f} dB. "
        "A smaller gain means that the samples differ less from each other than they differ from the original."
    )
    if "unet" in models:
        lead = means["mean of 8 samples"] - others[rf.words.name("unet")]
        sentence += f" The mean of eight samples is {abs(lead):.1f} dB {'above' if lead > 0 else 'below'} the U-Net."
Markdown(sentence if "sde" in models else "This study has no SDE.")

# %% [markdown]
# No image has a higher expected PSNR than the mean $m$. The U-Net is trained to give $m$, and the mean of many samples
# tends to it. A trained network is only near to it: how near depends on its size, its number of epochs and the number of
# images. So the mean of samples can beat the U-Net, if the network of the SDE has learned more.
#
# Where samples differ, the measurement does not determine the image. A mean image hides this, and so does a single
# sample: a reader who sees one sample sees one possibility, drawn by chance.
#
# ## Learning

# %%
rf.figures.keep(rf.figures.learning(logs), study, "03_learning") if logs else None

# %%
kept = {model: (int(log.val_loss.idxmin()) + 1, len(log)) for model, log in logs.items()}
last = [rf.words.name(model) for model, (epoch, number) in kept.items() if epoch == number]
Markdown(
    "We keep the weights of the epoch with the smallest validation loss (the dot): "
    + ", ".join(f"epoch {epoch} of {number} for {rf.words.name(model)}" for model, (epoch, number) in kept.items())
    + (f". More epochs could still improve {', '.join(last)}." if last else ". The last epochs brought no gain.")
    if logs
    else "No model of this study is trained here: its images were made elsewhere."
)

# %% [markdown]
# Losses of different models cannot be compared. The U-Net has a squared error, Pix2Pix has an absolute error, and the
# SDE has the distance to one optimal step backwards. The loss of the adversary of Pix2Pix cannot even be compared
# between epochs.
#
# ## The same patients under every model
#
# **Predict first:** which reconstruction will be the smoothest, and which the grainiest? Which of them is closest to the
# original?

# %%
chosen = test[np.linspace(0, len(test) - 1, 8).astype(int)][2:6]
rows = evaluated[chosen]
sources = {"noisy": noisy[rows], **{model: images[chosen] for model, images in restored.items()}}
pictures = rf.figures.comparison(cohort.images[rows], sources, cohort.table.image_id[rows].str[:12].tolist())
rf.figures.keep(pictures, study, "03_reconstructions")

# %% [markdown]
# ## Image quality
#
# PSNR measures the mean squared error (chapter 02). SSIM measures the likeness of structure. LPIPS (Zhang et al. 2018) is
# a distance between features of a network that was trained on photographs. The Lite0 distance is built in the same way
# with another network, EfficientNet-Lite0; it is measured if the params file says `reconstruction: {perceptual: true}`. All
# test images:

# %%
quality = rf.judge.rated(study)
quality = quality[quality.split == "test"]
infinite = quality.image_id[np.isinf(quality.psnr)].nunique()
quality = rf.quality.comparable(quality)  # all means are of the same images
measures = [measure for measure in ("psnr", "ssim", "lpips", "lite0_distance") if measure in quality]
quality.groupby("source", sort=False)[measures].agg(["mean", "std"]).round(3)

# %%
psnr = quality.groupby("source", sort=False).psnr.mean()
best, worse = psnr.drop("noisy").idxmax(), [rf.words.name(model) for model in models if psnr[model] < psnr["noisy"]]
Markdown(
    f"{rf.words.name(best)} has the highest mean PSNR, {psnr[best]:.1f} dB, {psnr[best] - psnr['noisy']:.1f} dB more than "
    "the noisy images. "
    + (f"Below the noisy images: {', '.join(worse)}. " if worse else "")
    + (f"{infinite} images have an infinite PSNR in some source and are left out of all. " if infinite else "")
    + ("" if "lpips" in quality else "LPIPS is left out, because the weights of its network are not on this machine.")
)

# %%
rf.figures.keep(rf.figures.tradeoff(quality), study, "03_tradeoff")

# %% [markdown]
# PSNR and SSIM both compare an image with its own original. Whether images *look* like originals is another question.
# Blau and Michaeli (2018) prove that, from some point on, a smaller error costs likeness in this second sense: a mean of
# possible images is smooth, and no original is.

# %%
means_of = quality.groupby("source", sort=False)[measures].mean().drop("noisy")
first = means_of.psnr.idxmax(), means_of.ssim.idxmax()
distances = {
    key: word for key, word in {"lpips": "LPIPS", "lite0_distance": "Lite0 distance"}.items() if key in measures
}
alike = [f"{rf.words.name(means_of[key].idxmin())} has the smallest {word}." for key, word in distances.items()]
Markdown(
    (
        f"{rf.words.name(first[0])} is best in both PSNR and SSIM. This does not contradict the theorem: both are errors."
        if first[0] == first[1]
        else f"{rf.words.name(first[0])} is best in PSNR, {rf.words.name(first[1])} in SSIM."
    )
    + "".join(f" {sentence}" for sentence in alike)
    + " No measure of quality can tell which of these a diagnosis needs."
)

# %% [markdown]
# ### Next to the paper

# %%
published = rf.tables.published("performance").query("metric == 'psnr'")
paper = published.pivot_table("value", ["dataset", "level"], "source", sort=False)
ours = psnr.drop("noisy").rename((study.label, study.level)).to_frame().T
pd.concat({"paper": paper, "ours": ours})[[model for model in models if model in paper] or list(models)].astype(
    float
).round(2)

# %% [markdown]
# Mean PSNR in dB. The paper (Wohlrapp et al., MIDL 2026) has other images. In UCSF-PDGM the skull is removed. So most
# of an image is exactly zero; this is easy to restore, and it counts in PSNR. The images are also larger, and the
# networks were trained for hours on a hundred times as many images. Decibels can be compared between models on the same
# images, but hardly between datasets.
#
# ## For whom?
#
# The next table has, for each model and attribute, the largest difference in mean PSNR between two groups, in dB (`gap`).
# `p` is that of Welch's test that all means are equal. It counts patients, not images.
#
# **Predict first:** will the gap between groups be larger in the noisy images or in the reconstructions?

# %%
attributes = list(study.dataset.about.attributes)
parts = [
    rf.quality.gaps(part, cohort.table, attributes).assign(source=source)
    for source, part in quality.groupby("source", sort=False)
]
gaps = pd.concat(parts).set_index(["source", "attribute"])
gaps.drop(columns="percent").round(3).assign(p=[f"{p:.3f}" if p >= 0.001 else "< 0.001" for p in gaps.p])

# %%
wide = gaps.gap.unstack("source")
grown = [
    f"{rf.words.name(model)} by {rf.words.name(attribute)}"
    for model in models
    for attribute in wide.index
    if wide.loc[attribute, model] > wide.loc[attribute, "noisy"]
]
small = (gaps.p < 0.05).sum()
Markdown(
    f"Gaps larger than in the noisy images: {', '.join(grown) or 'none'}. {small} of {len(gaps)} tests have p < 0.05; if no "
    f"groups differed, about {0.05 * len(gaps):.1f} would. Groups of one patient, and patients without a recorded "
    "attribute, are left out."
)

# %% [markdown]
# A gap that the noisy image has already does not come from the reconstruction. Chapter 05 adds intervals and tests how much
# a gap changed. The means behind the gaps, in dB:

# %%
known = cohort.table.drop(columns=["split", "patient_id"])
long = quality.merge(known, on="image_id").melt(["source", "psnr"], attributes, "attribute", "group")
long.pivot_table("psnr", ["attribute", "group"], "source", sort=False).round(2)

# %% [markdown]
# ## What this chapter does not prove
#
# A high PSNR says that most pixels are nearly right. A lesion of ten pixels hardly counts in it: the lesion can vanish, or
# a model can invent one, and the mean does not show it. The next chapter asks whether this happened.
#
# ## Three things to take away
#
# 1. The loss decides the kind of image: a mean, a plausible image, or a random one.
# 2. Sharp does not mean true. Samples show what the measurement leaves open.
# 3. Compare decibels on the same images only, and compare gaps with those of the noisy images.
#
# ## Quiz
#
# Click an answer to read why it is right or wrong.

# %% [markdown] tags=["quiz"]
# **1. Why is an image of the U-Net smooth?**
#
# <details><summary>Its network is too small to draw detail.</summary>No. A larger network would be smooth as well, if the
# measurement leaves a choice.</details>
# <details><summary>The mean squared error is smallest at the mean of all possible images.</summary>Yes. A mean of many
# sharp images is smooth.</details>
# <details><summary>The noisy image is smooth.</summary>No. Noisy images have streaks or grain.</details>

# %% [markdown] tags=["quiz"]
# **2. What does the discriminator of Pix2Pix reward?**
#
# <details><summary>Detail that looks real.</summary>Yes. It does not know the patient, so it cannot ask whether the detail
# is true.</details>
# <details><summary>Detail that is true.</summary>No. Only the second term of $L_G$ compares with the original.</details>
# <details><summary>A high PSNR.</summary>No. A sharp but wrong edge costs PSNR twice: where it is and where it should
# be.</details>

# %% [markdown] tags=["quiz"]
# **3. Two samples of the SDE show different lesions. What follows?**
#
# <details><summary>The sampler has an error.</summary>No. Samples are meant to differ where the measurement leaves a
# choice.</details>
# <details><summary>The measurement does not determine the lesion.</summary>Yes, if the network has learned well. A single
# sample would have hidden this.</details>
# <details><summary>The patient has two lesions.</summary>No. Each sample is one possible image.</details>

# %% [markdown] tags=["quiz"]
# **4. Our U-Net has 30 dB and the paper's has 38 dB. Whose U-Net is better?** (The numbers are invented.)
#
# <details><summary>The paper's.</summary>No. Other images, other noise: decibels can be compared on the same images
# only.</details>
# <details><summary>Ours, because our task is harder.</summary>No. We do not know how the paper's network would do
# here.</details>
# <details><summary>These numbers do not tell.</summary>Yes. Compare both networks on the same noisy images.</details>

# %% [markdown] tags=["quiz"]
# **5. A gap in PSNR between two groups is 1 dB in the noisy images and 1 dB after the U-Net. What did the U-Net do?**
#
# <details><summary>It is unfair to one group.</summary>No. The gap was there before.</details>
# <details><summary>It kept the gap.</summary>Yes. Whether this matters for a diagnosis is the question of the next
# chapters.</details>
# <details><summary>It did nothing.</summary>No. Both groups can have gained 5 dB each.</details>

# %% [markdown]
# ## Exercises
#
# Solutions are in the cells below each exercise. `make exercises` writes a copy of this notebook without them. Exercises
# 1 and 3 train a network: some seconds to a minute.

# %% [markdown] tags=["exercise"]
# **Exercise 1 (predict, then run).** Train the U-Net for twice as many epochs (`reconstruction = {"unet": {"epochs":
# ...}}`). How much PSNR does it gain? Does the gap between groups become smaller as well?

# %% tags=["exercise", "solution"]
# Hint: a second study with a label of its own leaves the first as it is; rf.recon.reconstruct trains it.
epochs = 2 * study.reconstruction.unet.epochs
changed = reconstruction | {"models": ["unet"], "unet": reconstruction.get("unet", {}) | {"epochs": epochs}}
sections = {"noise": noise, "reconstruction": changed, "mitigation": "none"}
longer = rf.params.study(base, dataset=dataset | {"label": "longer"}, **sections)
longer_images = rf.recon.reconstruct(longer, "unet")
gain = [
    rf.quality.psnr(original, after.astype(np.float32)) - rf.quality.psnr(original, before.astype(np.float32))
    for original, after, before in zip(
        np.asarray(cohort.images[evaluated[test]], np.float32), longer_images[test], restored["unet"][test], strict=True
    )
]
print(f"{epochs} epochs: {np.mean(gain):+.2f} dB on average over {len(gain)} test images")

# %% [markdown] tags=["exercise", "solution"]
# More epochs help as long as the validation loss falls; then they stop helping. For the gap, take the mean of `gain` in each
# group: nothing in the loss asks that it shrinks, because the loss knows no groups.

# %% [markdown] tags=["exercise"]
# **Exercise 2 (write).** Compute the standard deviation `spread` of `samples` over its first axis and show it as a picture
# for one image. Where are the samples unsure? Compare with the error of the U-Net on the same image.

# %% tags=["exercise", "solution"]
# Hint: `samples` has the axes sample, image, row, column.
spread = samples.std(axis=0)
wrong = np.abs(restored["unet"][some][one].astype(np.float32) - x[one, 0].numpy())
rf.figures.montage([[spread[one], wrong]], ["spread of samples", "error of the U-Net"], [""], [(0, 0.2), (0, 0.2)])

# %% tags=["exercise"]
# A check. It gives a hint, and does not say that you are right.
if "spread" not in globals():
    print("Hint: call your standard deviations spread.")
elif spread.shape != samples.shape[1:]:
    print("Hint: the standard deviation is over samples, so one picture for each image stays.")
else:
    print("Hint: do large values lie on edges, in the background, or in the lesion?")

# %% [markdown] tags=["exercise", "solution"]
# Both are large at edges and small in the background. The spread needs no original, so it can be shown to a reader. It
# misses errors that all samples share.

# %% [markdown] tags=["exercise"]
# **Exercise 3 (predict, then run).** Set the weight of the second term of $L_G$ to 1 (`reconstruction = {"pix2pix": {"l1":
# 1}}`). What happens to PSNR, and what do the images look like?

# %% tags=["exercise", "solution"]
# Hint: again a study with a label of its own.
changed = reconstruction | {"models": ["pix2pix"], "pix2pix": reconstruction.get("pix2pix", {}) | {"l1": 1}}
sections = {"noise": noise, "reconstruction": changed, "mitigation": "none"}
free = rf.params.study(base, dataset=dataset | {"label": "free"}, **sections)
free_images = rf.recon.reconstruct(free, "pix2pix")
shown = test[len(test) // 2]
row = [cohort.images[evaluated[shown]], restored["pix2pix"][shown], free_images[shown]]
rf.figures.montage([row], ["original", f"w = {study.reconstruction.pix2pix.l1:g}", "w = 1"], [""])

# %% [markdown] tags=["exercise", "solution"]
# Almost nothing now asks for the truth, so $G$ follows the discriminator alone. PSNR falls far; after a short training the
# images do not even look real. The second term also makes the training stable.

# %% [markdown] tags=["exercise"]
# **Exercise 4 (break it).** Draw a square of 4 by 4 pixels with intensity 1 into one original. What PSNR does it have
# against the original without the square? What does this say about small lesions?

# %% tags=["exercise", "solution"]
# Hint: copy the image first. The mean squared error of 16 changed pixels is 16 d**2 / 64**2, with d the difference.
original = x[one, 0].numpy()
marked = original.copy()
marked[30:34, 30:34] = 1
square = rf.quality.psnr(original, marked)
print(f"{square:.1f} dB; the U-Net has {others[rf.words.name('unet')]:.1f} dB on average")

# %% tags=["exercise"]
if "square" not in globals():
    print("Hint: call your PSNR square.")
elif not np.isfinite(square):
    print("Hint: an infinite PSNR means that both images are equal. Did you change the original as well?")
else:
    print("Hint: compute it on paper for a square that differs by d = 0.5. How far is your number from that?")

# %% [markdown] tags=["exercise", "solution"]
# For $d = 0.5$ the mean squared error is $16 \cdot 0.25 / 4096 \approx 0.001$, so PSNR is about 30 dB. A good
# reconstruction has such a PSNR too. So a lesion can come or go without a low PSNR.

# %% [markdown] tags=["exercise"]
# **Exercise 5 (open).** A hospital must choose one of the three models for a screening of tumours. Which numbers do you ask
# for, on which patients, and which number of this chapter would you not use at all?

# %% [markdown] tags=["exercise", "solution"]
# An example: sensitivity and specificity of the readers that the hospital has, on its own scans, for each group with
# enough patients, and images of the cases that changed. Mean PSNR over all pixels is of no use for this choice. There are
# other good answers. A good answer names the harm of a wrong choice.
