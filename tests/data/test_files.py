"""Reading scans: a bad file is named; scale, size and masks keep what they mean."""

import numpy as np
import pytest
from PIL import Image

from reconfair.data import files

COLOUR = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
GREY = COLOUR[..., 0]


def disk(size, radius):
    x = np.arange(size) - (size - 1) / 2
    return (x**2 + x[:, None] ** 2 <= radius**2) * np.uint8(255)


# --- files ---


@pytest.mark.parametrize("stored", [GREY, COLOUR, np.dstack([COLOUR, GREY]), GREY.astype(np.uint16) * 257])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_file_is_read_as_stored(tmp_path, suffix, stored):
    Image.fromarray(stored).save(tmp_path / f"scan.{suffix}")
    read = files.read(tmp_path / f"scan.{suffix}")
    assert (read == stored).all() and read.shape == stored.shape


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"scan\.png: cannot be read as an image"):
        files.read(tmp_path / "scan.png")


@pytest.mark.parametrize("kept", [0, 0.3, 0.9])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_file_is_named(tmp_path, suffix, kept):
    path = tmp_path / f"scan.{suffix}"
    Image.fromarray(COLOUR).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=rf"scan\.{suffix}: cannot be read as an image"):
        files.read(path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of the directory that is cut off
def test_a_truncated_tiff_is_named(tmp_path, capfd):
    path = tmp_path / "scan.tif"
    Image.fromarray(COLOUR).save(path, compression="tiff_adobe_deflate")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"scan\.tif: cannot be read as an image"):
        files.read(path)


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "scan.png").write_text("no image")
    with pytest.raises(ValueError, match=r"scan\.png: cannot be read as an image"):
        files.read(tmp_path / "scan.png")


# --- scale and size ---


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_scaled_runs_from_zero_to_one(dtype):
    image = np.array([[10, 20], [30, 50]], dtype)
    assert files.scaled(image, 2) == pytest.approx(np.array([[0, 0.25], [0.5, 1]]), abs=1e-6)
    assert files.scaled(image, 2).dtype == np.float32


@pytest.mark.parametrize("size", [16, 64])
def test_a_constant_image_is_black(size):
    black = files.scaled(np.full((64, 64), 7, np.uint8), size)
    assert black.shape == (size, size) and (black == 0).all()


@pytest.mark.parametrize(("shape", "size"), [((64, 64), 32), ((64, 64), 128), ((100, 60), 64), ((31, 33), 32)])
def test_any_shape_becomes_a_square_within_the_unit_interval(shape, size):
    image = files.scaled(np.random.default_rng(0).integers(0, 256, shape), size)
    assert image.shape == (size, size) and image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1


def test_a_ramp_stays_a_ramp():
    ramp = files.scaled(np.tile(np.arange(128.0), (128, 1)), 32)
    inner = ramp[:, 4:-4]
    assert inner == pytest.approx(np.tile((np.arange(32) * 4 + 1.5) / 127, (32, 1))[:, 4:-4], abs=1e-3)


def test_detail_finer_than_a_pixel_becomes_grey_instead_of_a_false_pattern():
    board = files.scaled(np.indices((96, 96)).sum(0) % 2, 32)
    assert board[2:-2, 2:-2] == pytest.approx(np.full((28, 28), 0.5), abs=0.02)


# --- masks ---


def test_a_mask_of_the_right_size_stays_as_it_is():
    outline = disk(64, 20)
    assert (files.mask(outline, 64) == (outline > 0)).all()


@pytest.mark.parametrize("size", [32, 48, 128])
def test_a_resized_mask_keeps_its_area(size):
    resized = files.mask(disk(64, 20), size)
    assert resized.dtype == bool and resized.mean() == pytest.approx(np.pi * 20**2 / 64**2, rel=0.03)


def test_a_half_stays_a_half():
    half = np.zeros((64, 64), np.uint8)
    half[:, :32] = 255
    assert (files.mask(half, 16) == (np.arange(16) < 8)).all()


@pytest.mark.parametrize("fill", [0, 255])
def test_a_mask_of_nothing_or_everything_stays_that(fill):
    assert (files.mask(np.full((64, 64), fill, np.uint8), 32) == (fill > 0)).all()


def test_a_speck_smaller_than_half_a_pixel_is_lost():
    speck = np.zeros((64, 64), np.uint8)
    speck[30, 30] = 255
    assert not files.mask(speck, 16).any()
