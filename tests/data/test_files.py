"""Reading scans: a bad file is named; scale, size, orientation and masks keep what they mean."""

import os

import numpy as np
import pytest
from PIL import Image
from scans import dicom, nifti

from reconfair.data import files

COLOUR = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
GREY = COLOUR[..., 0]
VOLUME = np.random.default_rng(1).integers(0, 1000, (5, 64, 64), np.int16)  # slices, rows, columns


def disk(size, radius):
    x = np.arange(size) - (size - 1) / 2
    return (x**2 + x[:, None] ** 2 <= radius**2) * np.uint8(255)


def seen(path, **settings):
    """An image of 64 pixels as it is seen, without its mask."""
    return files.picture(str(path), 64, **settings)[0]


def as_nifti(path, image):
    """Write an image so that it is seen as it stands: columns from the patient's right, rows from the front."""
    nifti(path, image.T[::-1, ::-1, None] if image.ndim == 2 else image.transpose(2, 1, 0)[::-1, ::-1])


def as_numpy(path, image):
    with open(path, "wb") as file:
        np.save(file, image)


def as_picture(path, image):
    pages = [Image.fromarray(page) for page in (image if image.ndim == 3 else image[None])]
    pages[0].save(path, **({"save_all": True, "append_images": pages[1:]} if pages[1:] else {}))


WRITERS = {
    "png": as_picture, "tif": as_picture, "bmp": as_picture, "nii": as_nifti, "nii.gz": as_nifti, "npy": as_numpy,
    "dcm": dicom, "IMA": dicom, "1.2.840.10008": dicom,
}  # fmt: skip


# --- files ---


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_shows_the_same_image(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"scan.{suffix}", GREY)
    image = seen(tmp_path / f"scan.{suffix}")
    assert image == pytest.approx((GREY - GREY.min()) / np.ptp(GREY), abs=1e-6) and image.dtype == np.float32


@pytest.mark.parametrize("suffix", ["tif", "nii", "nii.gz", "npy", "dcm"])
def test_every_format_of_volumes_shows_the_same_slice_on_the_scale_of_the_whole(tmp_path, suffix):
    volume = VOLUME.astype(np.int32) if suffix == "tif" else VOLUME
    WRITERS[suffix](tmp_path / f"scan.{suffix}", volume)
    image = seen(tmp_path / f"scan.{suffix}", number=3)
    assert image == pytest.approx((VOLUME[3] - VOLUME.min()) / np.ptp(VOLUME), abs=1e-6)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "LAS", "PIR", "SAL"])
@pytest.mark.parametrize(
    ("axis", "number", "where"),
    [
        (0, 30, (slice(0, 16), slice(0, 16))),  # upper left: front, right
        (0, 10, None),
        (1, 10, (slice(16, None), slice(0, 16))),  # rows from the feet to the head
        (2, 10, (slice(16, None), slice(0, 16))),
    ],
)
def test_a_volume_is_turned_as_the_patient_lies_however_it_is_stored(tmp_path, orientation, axis, number, where):
    body = np.zeros((32, 32, 32), np.float32)  # left to right, back to front, feet to head
    body[16:, 16:, 16:] = 1  # right, front, head
    nifti(tmp_path / "scan.nii", body, orientation)
    image, _ = files.picture(str(tmp_path / "scan.nii"), 32, number=number, axis=axis)
    expected = np.zeros((32, 32))
    if where:
        expected[where] = 1
    assert (image == expected).all()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_grey_stays_grey_whatever_its_channels(tmp_path, mode):
    grey = Image.fromarray(GREY // 8 * 8)
    (grey.convert("RGB").quantize(256) if mode == "P" else grey.convert(mode)).save(tmp_path / "scan.png")
    assert seen(tmp_path / "scan.png") == pytest.approx(files.scaled(GREY // 8 * 8, 64), abs=0.01)


@pytest.mark.parametrize("suffix", ["png", "dcm"])
def test_a_channel_can_be_chosen(tmp_path, suffix):
    write = dicom if suffix == "dcm" else lambda path, image: Image.fromarray(image).save(path)
    write(tmp_path / f"scan.{suffix}", COLOUR)
    for channel in range(3):
        assert (seen(tmp_path / f"scan.{suffix}", channel=channel) == files.scaled(COLOUR[..., channel], 64)).all()
    with pytest.raises(ValueError, match=r"channel 3 is wanted, counted from 0, and the shape is \(64, 64, 3\)"):
        seen(tmp_path / f"scan.{suffix}", channel=3)


def test_a_dicom_file_whose_white_is_least_is_inverted(tmp_path):
    dicom(tmp_path / "a.dcm", GREY)
    dicom(tmp_path / "b.dcm", 255 - GREY, PhotometricInterpretation="MONOCHROME1")
    assert seen(tmp_path / "a.dcm") == pytest.approx(seen(tmp_path / "b.dcm"), abs=1e-6)


def test_a_window_is_in_the_units_of_the_file(tmp_path):
    stored = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # 0 to 4095 is -1024 to 3071 HU
    dicom(tmp_path / "ct.dcm", stored, RescaleSlope=1, RescaleIntercept=-1024)
    image = seen(tmp_path / "ct.dcm", window=(-1000, 400))
    assert image == pytest.approx(np.clip((stored - 24.0) / 1400, 0, 1), abs=1e-6)


def test_percentiles_are_of_the_whole_volume(tmp_path):
    volume = np.arange(2000, dtype=np.int16).reshape(2, 25, 40)
    as_numpy(tmp_path / "scan.npy", volume)
    image, _ = files.picture(str(tmp_path / "scan.npy"), 40, number=1, percentiles=(5, 75))
    low, high = 0.05 * 1999, 0.75 * 1999
    assert image.max() == 1 and image[1, 0] == pytest.approx((1000 - low) / (high - low), abs=0.02)


def test_a_file_that_was_mended_is_read_anew(tmp_path):
    for number, image in enumerate([GREY, GREY[::-1]]):
        as_picture(tmp_path / "scan.png", image)
        os.utime(tmp_path / "scan.png", ns=(number, number))
        assert (seen(tmp_path / "scan.png") == files.scaled(image, 64)).all()


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_missing_file_is_named(tmp_path, suffix):
    with pytest.raises(ValueError, match=rf"scan\.{suffix}: cannot be read as an image"):
        seen(tmp_path / f"scan.{suffix}")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of a directory that is cut off
@pytest.mark.parametrize("kept", [0, 0.3, 0.9])
@pytest.mark.parametrize("suffix", [*WRITERS, "jpg"])
def test_a_truncated_file_is_named(tmp_path, suffix, kept, capfd):
    path = tmp_path / f"scan.{suffix}"
    WRITERS.get(suffix, as_picture)(path, GREY)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=rf"scan\.{suffix}: cannot be read as an image \(.+\)$"):
        seen(path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_that_is_no_image_is_named(tmp_path, suffix):
    (tmp_path / f"scan.{suffix}").write_text("no image")
    with pytest.raises(ValueError, match=rf"scan\.{suffix}: cannot be read as an image"):
        seen(tmp_path / f"scan.{suffix}")


@pytest.mark.parametrize("stored", [np.array([{}]), np.zeros(5), np.zeros((2, 3, 4, 5)), np.full((4, 4), np.nan)])
def test_an_array_that_is_no_image_is_named(tmp_path, stored):
    np.save(tmp_path / "scan.npy", stored, allow_pickle=True)
    with pytest.raises(ValueError, match=r"scan\.npy: cannot be read as an image"):
        seen(tmp_path / "scan.npy")


def test_several_volumes_in_one_file_are_no_image(tmp_path):
    nifti(tmp_path / "scan.nii", np.zeros((4, 4, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r"scan\.nii: .*expected one volume, found shape \(4, 4, 4, 3\)"):
        seen(tmp_path / "scan.nii", number=0)


def test_a_volume_needs_the_number_of_a_slice_that_it_has(tmp_path):
    as_numpy(tmp_path / "scan.npy", VOLUME)
    with pytest.raises(ValueError, match=r"scan\.npy: is a volume of 5 slices; dataset\.slices says which"):
        seen(tmp_path / "scan.npy")
    with pytest.raises(ValueError, match=r"scan\.npy: slice 5 is wanted, counted from 0, and there are 5"):
        seen(tmp_path / "scan.npy", number=5)


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


@pytest.mark.parametrize("suffix", ["png", "npy", "dcm"])
def test_a_mask_is_that_of_the_slice(tmp_path, suffix):
    outline = np.zeros((64, 64), np.uint8)
    outline[10:20, 30:50] = 4
    as_picture(tmp_path / "scan.png", GREY)
    WRITERS[suffix](tmp_path / f"mask.{suffix}", outline)
    _, inside = files.picture(str(tmp_path / "scan.png"), 64, mask_path=str(tmp_path / f"mask.{suffix}"))
    assert inside.dtype == bool and (inside == (outline > 0)).all()


def test_a_mask_of_another_shape_is_named(tmp_path):
    as_numpy(tmp_path / "scan.npy", VOLUME)
    as_numpy(tmp_path / "mask.npy", VOLUME[:, :60] > 500)
    with pytest.raises(ValueError, match=r"mask\.npy: mask of \(5, 60, 64\) for an image of \(5, 64, 64\) pixels"):
        seen(tmp_path / "scan.npy", number=2, mask_path=str(tmp_path / "mask.npy"))
