"""Reading scans: a bad file is named; scale, size, orientation and masks keep what they mean."""

import os
import re
import zlib
from io import BytesIO

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin
from pydicom.data import get_testdata_file
from scans import compress, dicom, lossless_jpeg, nifti
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

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


# --- what containers say of their values ---


def film(path, values, **tags):
    """Write a radiograph of 12 bits."""
    dicom(path, values.astype(np.uint16), BitsStored=12, HighBit=11, **tags)


FILM = np.random.default_rng(2).integers(300, 3000, (64, 64))


@pytest.mark.parametrize("settings", [{}, {"window": (500, 2500)}, {"percentiles": (5, 75)}])
def test_a_film_stored_with_white_least_gives_the_same_image_by_any_scale(tmp_path, settings):
    film(tmp_path / "a.dcm", FILM)
    film(tmp_path / "b.dcm", 4095 - FILM, PhotometricInterpretation="MONOCHROME1")
    assert seen(tmp_path / "a.dcm", **settings) == pytest.approx(seen(tmp_path / "b.dcm", **settings), abs=1e-6)


@pytest.mark.parametrize(("photometry", "padding"), [("MONOCHROME1", 0), ("MONOCHROME2", 4000)])
def test_padding_takes_no_part_in_the_contrast_and_is_black(tmp_path, photometry, padding):
    padded = FILM.copy()
    padded[:, :10] = padding
    film(tmp_path / "a.dcm", padded, PhotometricInterpretation=photometry, PixelPaddingValue=padding)
    image, shown = seen(tmp_path / "a.dcm"), FILM[:, 10:]
    expected = (shown - shown.min()) / np.ptp(shown)
    expected = 1 - expected if photometry == "MONOCHROME1" else expected
    assert (image[:, :10] == 0).all() and image[:, 10:] == pytest.approx(expected, abs=1e-6)


def test_bits_beyond_those_stored_are_no_values(tmp_path):
    overlay = FILM.copy()
    overlay[:32] += 4096
    film(tmp_path / "a.dcm", overlay)
    assert seen(tmp_path / "a.dcm") == pytest.approx((FILM - FILM.min()) / np.ptp(FILM), abs=1e-6)


def test_bits_may_stand_at_the_upper_end(tmp_path):
    film = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    dicom(tmp_path / "a.dcm", film << 4, BitsStored=12, HighBit=15)
    assert seen(tmp_path / "a.dcm") == pytest.approx((film - film.min()) / np.ptp(film), abs=1e-6)


def test_bits_may_stand_in_the_middle_between_those_of_an_overlay(tmp_path):
    film = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    dicom(tmp_path / "a.dcm", (film << 2) | 0xC003, BitsStored=12, HighBit=13)
    assert seen(tmp_path / "a.dcm") == pytest.approx((film - film.min()) / np.ptp(film), abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "photometry", "nearest"),
    [
        ((64, 64), "RGB", "MONOCHROME1"),
        ((64, 64), "HSV", "MONOCHROME1"),
        ((64, 64, 3), "MONOCHROME2", "RGB"),
        ((64, 64, 3), "YBR_PARTIAL_422", "YBR_FULL_422"),
    ],
)
def test_a_photometry_that_does_not_go_with_the_samples_is_refused(tmp_path, shape, photometry, nearest):
    dicom(tmp_path / "a.dcm", COLOUR if len(shape) == 3 else GREY, PhotometricInterpretation=photometry)
    with pytest.raises(ValueError, match=rf"a\.dcm: .*'{photometry}'.*{nearest}"):
        seen(tmp_path / "a.dcm")


def test_a_slope_of_zero_is_no_rescaling(tmp_path):
    dicom(tmp_path / "a.dcm", GREY, RescaleSlope=0, RescaleIntercept=0)
    with pytest.raises(ValueError, match=r"a\.dcm: .*RescaleSlope is 0"):
        seen(tmp_path / "a.dcm")


def test_fewer_functional_groups_than_frames_are_refused(tmp_path):
    dicom(tmp_path / "a.dcm", np.stack([GREY] * 3), PerFrameFunctionalGroupsSequence=[pydicom.Dataset()] * 2)
    with pytest.raises(ValueError, match=r"a\.dcm: .*2 frames.*has 3"):
        seen(tmp_path / "a.dcm", number=2)


@pytest.mark.parametrize("dtype", [np.int8, np.uint32])
def test_whole_numbers_of_a_tiff_keep_their_sign(tmp_path, dtype):
    values = GREY.astype(np.int64) - 128 if dtype == np.int8 else GREY.astype(np.int64) * 16_000_000
    tifffile.imwrite(tmp_path / "a.tif", values.astype(dtype), photometric="minisblack")
    assert seen(tmp_path / "a.tif") == pytest.approx((GREY - GREY.min()) / np.ptp(GREY), abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "options", "named"),
    [
        ((64, 64, 2), {"planarconfig": "contig", "extrasamples": ["unspecified"]}, "two channels"),
        ((5, 64, 64), {"imagej": True, "truncate": True}, "5 images"),
        ((2, 5, 64, 64), {"ome": True, "metadata": {"axes": "CZYX"}}, "slices, channels"),
    ],
)
def test_pages_that_are_more_than_slices_are_refused(tmp_path, shape, options, named):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), photometric="minisblack", **options)
    with pytest.raises(ValueError, match=rf"a\.tif: .*{named}"):
        seen(tmp_path / "a.tif")


@pytest.mark.parametrize("colours", [None, bytes(9)])
def test_a_palette_has_a_colour_for_every_pixel(tmp_path, colours):
    header = (64).to_bytes(4, "big") * 2 + bytes([8, 3, 0, 0, 0])
    lines = zlib.compress(b"".join(b"\0" + row.tobytes() for row in GREY))
    chunks = {b"IHDR": header, **({b"PLTE": colours} if colours else {}), b"IDAT": lines, b"IEND": b""}
    with (tmp_path / "a.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in chunks.items():
            PngImagePlugin.putchunk(file, name, content)
    with pytest.raises(ValueError, match=r"a\.png: .*palette"):
        seen(tmp_path / "a.png")


@pytest.mark.parametrize("values", [GREY + np.int64(2**62), np.where(GREY > 99, 1e308, -1e308)])
def test_numbers_that_cannot_be_scaled_are_refused(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(ValueError, match=r"a\.npy: "):
        seen(tmp_path / "a.npy")


@pytest.mark.parametrize("photometry", ["MONOCHROME1", "MONOCHROME2"])
def test_a_table_of_values_is_looked_up_before_white_and_black_change_places(tmp_path, photometry):
    film, table = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint16), pydicom.Dataset()
    values = np.sqrt(np.arange(256)) * 255
    table.LUTDescriptor, table.LUTData = [256, 0, 16], values.astype(np.uint16).tobytes()
    table.ModalityLUTType = "US"
    tags = {"BitsStored": 8, "HighBit": 7, "PhotometricInterpretation": photometry, "ModalityLUTSequence": [table]}
    dicom(tmp_path / "a.dcm", film, **tags)
    right = values.astype(int)[film] * (-1 if photometry == "MONOCHROME1" else 1)
    assert seen(tmp_path / "a.dcm") == pytest.approx((right - right.min()) / np.ptp(right), abs=1e-6)


def test_what_is_shown_inverted_against_its_photometry_is_refused(tmp_path):
    dicom(tmp_path / "a.dcm", GREY, PresentationLUTShape="INVERSE")
    with pytest.raises(ValueError, match=r"a\.dcm: .*MONOCHROME2.*inverted"):
        seen(tmp_path / "a.dcm")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_colours_of_sixteen_bits_are_refused_where_only_eight_would_be_read(tmp_path, suffix):
    deep = np.repeat(GREY[..., None].astype(np.uint16), 3, -1)  # in eight bits all would be black
    if suffix == "tif":
        tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb")
    else:
        lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
        header = bytes([0, 0, 0, 64, 0, 0, 0, 64, 16, 2, 0, 0, 0])
        with (tmp_path / "a.png").open("wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n")
            for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")):
                PngImagePlugin.putchunk(file, kind, content)
    with pytest.raises(ValueError, match=rf"a\.{suffix}: .*16 bits"):
        seen(tmp_path / f"a.{suffix}")


def test_padding_of_floating_point_takes_no_part_in_the_contrast(tmp_path):
    values = GREY.astype(np.float32) / 7
    values[:, :9] = -9999
    dicom(tmp_path / "a.dcm", values, FloatPixelPaddingValue=-9999.0)
    file = pydicom.dcmread(tmp_path / "a.dcm")
    file.FloatPixelData = file.PixelData
    del file.PixelData
    file.save_as(tmp_path / "a.dcm")
    shown = GREY[:, 9:].astype(float)
    image = seen(tmp_path / "a.dcm")
    assert (image[:, :9] == 0).all()
    assert image[:, 9:] == pytest.approx((shown - shown.min()) / np.ptp(shown), abs=1e-5)


def test_pixels_that_are_not_square_in_the_patient_are_noted(tmp_path):
    files.notes()
    for name, spacing in (("a", [0.5, 0.5]), ("b", [0.5, 0.7])):
        dicom(tmp_path / f"{name}.dcm", GREY, PixelSpacing=spacing)
        seen(tmp_path / f"{name}.dcm")
    assert [note for note in files.notes() if "not square" in note and "0.5 x 0.7 mm" in note]
    seen(tmp_path / "a.dcm")
    assert not files.notes()


@pytest.mark.parametrize("scale", [1.01, -1])
def test_two_places_in_one_file_must_not_turn_the_patient(tmp_path, scale):
    image = nibabel.Nifti1Image(VOLUME.T, np.eye(4))
    image.set_sform(np.eye(4), 1)
    image.set_qform(np.diag([scale, 1, 1, 1]), 1)
    nibabel.save(image, tmp_path / "a.nii")
    if scale > 0:
        seen(tmp_path / "a.nii", number=0)
        return
    with pytest.raises(ValueError, match=r"a\.nii: .*sform.*qform"):
        seen(tmp_path / "a.nii", number=0)


def test_colours_of_twelve_bits_are_not_taken_modulo(tmp_path):
    colours = np.repeat(FILM[..., None], 3, -1).astype(np.uint16)
    dicom(tmp_path / "a.dcm", colours, BitsStored=12, HighBit=11)
    assert seen(tmp_path / "a.dcm") == pytest.approx((FILM - FILM.min()) / np.ptp(FILM), abs=1e-5)


def test_a_palette_in_a_dicom_file_is_brightness_not_its_entries(tmp_path):
    bright = np.random.default_rng(3).permutation(256).astype(np.uint16) * 257
    lookup = {f"{colour}PaletteColorLookupTableData": bright.tobytes() for colour in ("Red", "Green", "Blue")}
    lookup |= {f"{colour}PaletteColorLookupTableDescriptor": [256, 0, 16] for colour in ("Red", "Green", "Blue")}
    dicom(tmp_path / "a.dcm", GREY, PhotometricInterpretation="PALETTE COLOR", **lookup)
    expected = bright[GREY].astype(float)
    assert seen(tmp_path / "a.dcm") == pytest.approx((expected - expected.min()) / np.ptp(expected), abs=1e-5)


def test_rescaling_of_each_frame_stands_in_its_functional_groups(tmp_path):
    def group(slope, shift):
        inner = pydicom.Dataset()
        inner.RescaleSlope, inner.RescaleIntercept = slope, shift
        outer = pydicom.Dataset()
        outer.PixelValueTransformationSequence = [inner]
        return outer

    frames, scales = VOLUME[:3].astype(np.uint16), [(1, 0), (2, 100), (0.5, -50)]
    dicom(tmp_path / "a.dcm", frames, PerFrameFunctionalGroupsSequence=[group(*scale) for scale in scales])
    values = np.stack([frame * slope + shift for frame, (slope, shift) in zip(frames, scales, strict=True)])
    for number in range(3):
        image = seen(tmp_path / "a.dcm", number=number)
        assert image == pytest.approx((values[number] - values.min()) / np.ptp(values), abs=1e-6)


def test_a_dicom_file_without_preamble_is_read(tmp_path):
    dicom(tmp_path / "a.dcm", GREY)
    for implicit in (True, False):
        bare = pydicom.dcmread(tmp_path / "a.dcm")
        bare.preamble = None
        del bare.file_meta
        bare.save_as(tmp_path / "bare.dcm", implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert (tmp_path / "bare.dcm").read_bytes()[128:132] != b"DICM"
        assert (seen(tmp_path / "bare.dcm") == seen(tmp_path / "a.dcm")).all()


def needs_decoder(syntax):
    """Skip a test where the extra that reads a compression is absent."""
    if not pydicom.pixels.get_decoder(syntax).is_available:
        pytest.skip(f"the extra reconfair[dicom] is not installed, which reads {syntax.name}")


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("photometry", ["MONOCHROME1", "MONOCHROME2"])
def test_lossless_jpeg_is_read_to_the_last_bit(tmp_path, bits, photometry):
    needs_decoder(pydicom.uid.JPEGLosslessSV1)
    film = np.random.default_rng(1).integers(0, 2**bits, (24, 20)).astype(np.uint16)
    dicom(tmp_path / "a.dcm", film, BitsStored=bits, HighBit=bits - 1, PhotometricInterpretation=photometry)
    compress(tmp_path / "a.dcm", tmp_path / "b.dcm", pydicom.uid.JPEGLosslessSV1, lossless_jpeg(film, bits))
    assert (seen(tmp_path / "b.dcm") == seen(tmp_path / "a.dcm")).all()


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEG2000Lossless"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_what_pydicom_compresses_is_read_to_the_last_bit(tmp_path, syntax, dtype):
    syntax, high = getattr(pydicom.uid, syntax), 256 if dtype == np.uint8 else 4096
    needs_decoder(syntax)
    if not pydicom.pixels.get_encoder(syntax).is_available:
        pytest.skip(f"the extra reconfair[dicom] is not installed, which writes {syntax.name}")
    dicom(tmp_path / "a.dcm", np.random.default_rng(1).integers(0, high, (48, 40)).astype(dtype))
    file = pydicom.dcmread(tmp_path / "a.dcm")
    file.compress(syntax)
    file.save_as(tmp_path / "b.dcm")
    assert (seen(tmp_path / "b.dcm") == seen(tmp_path / "a.dcm")).all()


@pytest.mark.parametrize("name", ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"])
def test_compressed_scans_of_pydicom_are_those_that_are_not_compressed(name):
    plain, path = (get_testdata_file(f"{one}.dcm", download=False) for one in ("MR_small", name))
    if not plain or not path:
        pytest.skip("this pydicom is installed without its test files")
    needs_decoder(pydicom.dcmread(path).file_meta.TransferSyntaxUID)
    assert (seen(path) == seen(plain)).all() and np.ptp(seen(path)) == 1


@pytest.mark.parametrize("syntax", ["JPEGLosslessSV1", "JPEGLossless", "JPEGLSLossless"])
def test_without_the_extra_a_compressed_file_is_named_with_its_syntax_and_the_extra(tmp_path, monkeypatch, syntax):
    uid = getattr(pydicom.uid, syntax)
    monkeypatch.setattr(pydicom.pixels.get_decoder(uid), "_available", {})  # as if nothing were installed
    dicom(tmp_path / "a.dcm", GREY)
    compress(tmp_path / "a.dcm", tmp_path / "b.dcm", uid, b"\xff\xd8\xff\xd9")
    with pytest.raises(ValueError) as error:
        seen(tmp_path / "b.dcm")
    assert all(word in str(error.value) for word in ("b.dcm", uid.name, "reconfair[dicom]"))
    assert len(str(error.value).splitlines()) == 1


def test_a_video_and_damaged_compressed_pixels_are_refused_by_name(tmp_path):
    dicom(tmp_path / "a.dcm", GREY)
    for at, syntax in enumerate((pydicom.uid.MPEG2MPML, pydicom.uid.RLELossless)):
        compress(tmp_path / "a.dcm", tmp_path / f"b{at}.dcm", syntax, b"\1\0\0\0")
        with pytest.raises(ValueError, match=rf"b{at}\.dcm: .*{re.escape(syntax.name)}"):
            seen(tmp_path / f"b{at}.dcm")


def test_shades_that_lossy_compression_left_in_a_dicom_mask_are_no_labels(tmp_path):
    """The syntax says it where the tag LossyImageCompression is absent."""
    inside = np.zeros((32, 32), bool)
    inside[8:24, 8:24] = True
    picture = BytesIO()
    Image.fromarray(inside * np.uint8(255)).save(picture, "JPEG", quality=60)
    dicom(tmp_path / "a.dcm", inside * np.uint8(255))
    compress(tmp_path / "a.dcm", tmp_path / "b.dcm", pydicom.uid.JPEGBaseline8Bit, picture.getvalue())
    Image.fromarray(GREY[:32, :32]).save(tmp_path / "scan.png")
    drawn = files.picture(str(tmp_path / "scan.png"), 32, mask_path=str(tmp_path / "b.dcm"))[1]
    assert (drawn != inside).mean() < 0.01


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_white_is_zero_is_inverted(tmp_path, bits, order):
    stored = GREY.astype(f"uint{bits}") * (1 if bits == 8 else 257)
    stored = (2**bits - 1 - stored).astype(f"{order}u{bits // 8}")
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite", byteorder=order)
    assert seen(tmp_path / "a.tif") == pytest.approx((GREY - GREY.min()) / np.ptp(GREY), abs=1e-6)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("CMYK", "tif"), ("CMYK", "jpg"), ("YCbCr", "jpg"), ("LAB", "tif"), ("P", "png")]
)
def test_grey_stays_grey_in_any_colour_space(tmp_path, mode, suffix):
    ramp = Image.fromarray(np.tile(np.linspace(10, 245, 64).astype(np.uint8), (64, 1))).convert("RGB")
    if mode == "LAB":
        profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
        ramp = ImageCms.profileToProfile(ramp, *profiles, outputMode="LAB")
    elif mode == "P":
        ramp = ramp.quantize(256)
    else:
        ramp = ramp.convert(mode)
    ramp.save(tmp_path / f"a.{suffix}", **({"quality": 95} if suffix == "jpg" else {}))
    expected = np.tile(np.linspace(0, 1, 64), (64, 1))
    assert seen(tmp_path / f"a.{suffix}") == pytest.approx(expected, abs=0.03)


def test_an_image_of_two_values_may_be_scaled_by_percentiles(tmp_path):
    Image.fromarray(disk(64, 20)).convert("1").save(tmp_path / "a.png")
    assert (seen(tmp_path / "a.png", percentiles=(1, 99)) == disk(64, 20) / 255).all()


def test_a_complex_volume_is_its_magnitude(tmp_path):
    turned = VOLUME * np.exp(1j * np.linspace(0, 6, VOLUME.size).reshape(VOLUME.shape))
    as_nifti(tmp_path / "a.nii", turned.astype(np.complex64))
    image = seen(tmp_path / "a.nii", number=2)
    assert image == pytest.approx((VOLUME[2] - VOLUME.min()) / np.ptp(VOLUME), abs=1e-4)


def test_a_nifti_file_of_colours_is_read(tmp_path):
    colours = np.zeros((64, 64, 1), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for at, name in enumerate("RGB"):
        colours[name] = COLOUR[..., at].T[::-1, ::-1, None]
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "a.nii")
    assert (seen(tmp_path / "a.nii", channel=1) == files.scaled(COLOUR[..., 1], 64)).all()


def test_an_array_may_hold_colours(tmp_path):
    as_numpy(tmp_path / "a.npy", COLOUR)
    assert (seen(tmp_path / "a.npy", channel=2) == files.scaled(COLOUR[..., 2], 64)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_every_picture_is_turned_as_its_orientation_says(tmp_path, suffix, orientation):
    upright = Image.fromarray(np.kron(np.array([[255, 100], [0, 40]], np.uint8), np.ones((32, 32), np.uint8)))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that undoes the orientation when it is stored
    stored = upright.transpose(Image.Transpose(back[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{suffix}", exif=exif)
    corners = seen(tmp_path / f"a.{suffix}")[[10, 10, 50, 50], [10, 50, 10, 50]]
    assert corners == pytest.approx([1, 100 / 255, 0, 40 / 255], abs=0.03)


def test_a_constant_image_is_black_on_its_own_scale_and_grey_in_a_window(tmp_path):
    as_picture(tmp_path / "a.png", np.full((64, 64), 100, np.uint8))
    assert (seen(tmp_path / "a.png") == 0).all()
    assert seen(tmp_path / "a.png", window=(0, 200)) == pytest.approx(np.full((64, 64), 0.5))


def test_small_contrast_on_large_values_is_kept(tmp_path):
    as_numpy(tmp_path / "a.npy", GREY.astype(np.int64) + 10**9)
    assert seen(tmp_path / "a.npy") == pytest.approx(files.scaled(GREY, 64), abs=1e-6)


@pytest.mark.parametrize(("fit", "inside", "outside"), [("squash", 1.0, None), ("pad", 1.0, 0.0), ("crop", 1.0, None)])
def test_an_image_that_is_not_square_is_fitted_as_is_said(tmp_path, fit, inside, outside):
    wide = np.zeros((32, 64), np.uint8)
    wide[8:24, 24:40] = 200  # a square in the middle
    wide[:, :8] = 100
    as_picture(tmp_path / "a.png", wide)
    as_picture(tmp_path / "m.png", (wide == 200).astype(np.uint8))
    image, mask = files.picture(str(tmp_path / "a.png"), 32, mask_path=str(tmp_path / "m.png"), fit=fit)
    rows, columns = mask.any(1).sum(), mask.any(0).sum()
    assert (rows, columns) == {"squash": (16, 8), "pad": (8, 8), "crop": (16, 16)}[fit]
    assert image[mask].mean() > 0.9 and (fit != "pad" or (image[:7] == 0).all())
    assert (fit == "crop") == (image[16, 0] < 0.1)  # the bright edge is cut off


# --- what is refused before anything is allocated ---


def test_a_program_that_calls_itself_a_picture_is_not_run(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match=r"a\.png: cannot be read as an image .*NPY"):
        seen(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["npy", "nii", "dcm", "png", "tif"])
def test_a_header_that_asks_for_more_than_any_scan_is_refused_by_name(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        header = {"descr": "<f8", "fortran_order": False, "shape": (100_000, 100_000)}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
    elif suffix == "nii":
        header = nibabel.Nifti1Header()
        header.set_data_shape((30_000, 30_000, 30_000))
        path.write_bytes(header.binaryblock + bytes(4))
    elif suffix == "dcm":
        dicom(path, GREY, Rows=60_000, Columns=60_000)
    else:
        Image.new("L" if suffix == "png" else "1", (9_000, 9_000)).save(path)
    with pytest.raises(ValueError, match=rf"a\.{suffix}: .*(at most 64 million|mmap length|64 million pixels)"):
        seen(path)


def test_a_header_cannot_ask_for_more_than_the_file_holds(tmp_path):
    header = {"descr": "<f8", "fortran_order": False, "shape": (400, 1000, 1000)}
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(ValueError, match=r"a\.npy: cannot be read as an image"):
        seen(tmp_path / "a.npy", number=0)


# --- where image and mask lie ---


def in_space(path, volume, affine):
    image = nibabel.Nifti1Image(volume, affine)
    nibabel.save(image, path)


LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def scan(tmp_path):
    """A volume in LPS, and what outlines its bright corner in the same voxels."""
    volume = np.zeros((32, 32, 4), np.uint8)
    volume[:8, :16] = 200
    in_space(tmp_path / "scan.nii", volume, LPS)
    return tmp_path, (volume > 0).astype(np.uint8)


def laid(folder, mask, **settings):
    return files.picture(str(folder / "scan.nii"), 32, number=1, mask_path=str(folder / mask), **settings)


def test_image_and_mask_in_the_same_place_belong_together_however_they_are_stored(scan):
    folder, outline = scan
    in_space(folder / "same.nii", outline, LPS)
    turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(outline, LPS))
    nibabel.save(turned, folder / "turned.nii")
    for name in ("same.nii", "turned.nii"):
        image, inside = laid(folder, name)
        assert (inside == (image > 0.5)).all() and inside.mean() == 1 / 8


@pytest.mark.parametrize(
    "affine", [np.eye(4), np.diag([-1, -1, 2, 1.0]), LPS + np.array([[0, 0, 0, 5.0], *[[0] * 4] * 3])]
)
def test_a_mask_in_another_place_is_refused(scan, affine):
    folder, outline = scan
    in_space(folder / "m.nii", outline, affine)
    with pytest.raises(ValueError, match=r"m\.nii: the mask lies up to .* mm away.*dataset\.geometry: ignore"):
        laid(folder, "m.nii")


def test_a_place_is_in_the_unit_that_its_header_names(scan):
    folder, outline = scan
    mask = nibabel.Nifti1Image(outline, LPS)
    mask.header.set_xyzt_units("micron")
    nibabel.save(mask, folder / "m.nii")
    with pytest.raises(ValueError, match=r"m\.nii: the mask lies up to"):
        laid(folder, "m.nii")


def test_a_mask_without_a_place_is_refused_or_laid_on_the_voxels_of_its_image(scan):
    folder, outline = scan
    bare = nibabel.Nifti1Image(outline, None)
    assert bare.header["sform_code"] == bare.header["qform_code"] == 0
    nibabel.save(bare, folder / "m.nii")
    in_space(folder / "identity.nii", outline, np.eye(4))
    with pytest.raises(ValueError, match=r"m\.nii: the mask does not say where.*dataset\.geometry: ignore"):
        laid(folder, "m.nii")
    for name in ("m.nii", "identity.nii"):
        image, inside = laid(folder, name, geometry="ignore")
        assert (inside == (image > 0.5)).all()


def test_a_picture_drawn_on_a_scan_with_a_place_is_refused_unless_told(tmp_path):
    as_nifti(tmp_path / "scan.nii", GREY)
    as_picture(tmp_path / "m.png", disk(64, 10))
    settings = {"mask_path": str(tmp_path / "m.png")}
    with pytest.raises(ValueError, match="the mask does not say where"):
        files.picture(str(tmp_path / "scan.nii"), 64, **settings)
    _, inside = files.picture(str(tmp_path / "scan.nii"), 64, geometry="ignore", **settings)
    assert (inside == (disk(64, 10) > 0)).all()


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({}, ""),
        ({"FrameOfReferenceUID": "1.2.4"}, "frames of reference"),
        ({"PixelSpacing": [0.5, 0.4]}, "mm away"),
        ({"ImagePositionPatient": [0, 0, 7]}, "mm away"),
        ({"ImageOrientationPatient": [-1, 0, 0, 0, 1, 0]}, "mm away"),
        ({"ImagePositionPatient": None}, "does not say where"),
    ],
)
def test_dicom_files_are_compared_by_position_spacing_and_frame_of_reference(tmp_path, tags, message):
    place = {
        "ImagePositionPatient": [0, 0, 5],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.5],
    }
    dicom(tmp_path / "a.dcm", GREY, FrameOfReferenceUID="1.2.3", **place)
    dicom(tmp_path / "m.dcm", disk(64, 9), **({"FrameOfReferenceUID": "1.2.3"} | place | tags))
    settings = {"mask_path": str(tmp_path / "m.dcm")}
    if message:
        with pytest.raises(ValueError, match=rf"m\.dcm: .*{message}"):
            files.picture(str(tmp_path / "a.dcm"), 64, **settings)
    else:
        assert files.picture(str(tmp_path / "a.dcm"), 64, **settings)[1].any()


@pytest.mark.parametrize(("name", "values"), [("ImageOrientationPatient", [1, 0, 0]), ("PixelSpacing", 0.5)])
def test_a_place_that_is_cut_short_is_named(tmp_path, name, values):
    dicom(tmp_path / "a.dcm", GREY, **{name: values})
    with pytest.raises(ValueError, match=rf"a\.dcm.*{name} has {np.size(values)} values, expected"):
        seen(tmp_path / "a.dcm")


def test_a_dicom_slice_and_a_nifti_mask_of_the_same_place_belong_together(tmp_path):
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1]}
    dicom(tmp_path / "a.dcm", GREY, **place)
    in_space(tmp_path / "m.nii", (GREY > 200).astype(np.uint8).T[..., None], LPS)
    _, inside = files.picture(str(tmp_path / "a.dcm"), 64, mask_path=str(tmp_path / "m.nii"))
    assert (inside == (GREY > 200)).all()


# --- what only looks like a volume, an empty mask or a flat image ---


@pytest.mark.parametrize(
    ("stored", "number"), [(GREY[..., None], None), (VOLUME[..., None], 2), (GREY[None, None], None)]
)
def test_one_channel_may_have_a_place_in_the_shape(tmp_path, stored, number):
    as_numpy(tmp_path / "a.npy", stored)
    as_numpy(tmp_path / "b.npy", stored.squeeze())
    settings = {} if number is None else {"number": number}
    assert (seen(tmp_path / "a.npy", **settings) == seen(tmp_path / "b.npy", **settings)).all()


@pytest.mark.parametrize("axis", [1, 2])
def test_lines_of_one_image_are_no_slices(tmp_path, axis):
    as_picture(tmp_path / "a.png", GREY)
    with pytest.raises(ValueError, match=rf"a\.png: is one image.*axis {axis}"):
        seen(tmp_path / "a.png", number=5, axis=axis)


def test_percentiles_of_one_value_leave_an_image_its_contrast(tmp_path):
    spot = np.zeros((64, 64), np.uint8)
    spot[5, 5:8] = 200
    as_picture(tmp_path / "a.png", spot)
    files.notes()
    assert (seen(tmp_path / "a.png", percentiles=(1, 99)) == spot / 200).all()
    assert any("percentiles" in note for note in files.notes())


@pytest.mark.parametrize("padding", [-2048, 2048, 63488])
def test_padding_of_twelve_bits_with_a_sign_may_be_written_without(tmp_path, padding):
    values = GREY.astype(np.int16) - 100
    values[:, :8] = -2048
    tags = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1, "PixelPaddingValue": 0}
    dicom(tmp_path / "a.dcm", (values & 0xFFF).astype(np.uint16), **tags)
    file = pydicom.dcmread(tmp_path / "a.dcm")
    file["PixelPaddingValue"] = pydicom.DataElement("PixelPaddingValue", "SS" if padding < 0 else "US", padding)
    file.save_as(tmp_path / "a.dcm")
    right = GREY[:, 8:].astype(float)
    right = (right - right.min()) / np.ptp(right)
    image = seen(tmp_path / "a.dcm")
    assert (image[:, :8] == 0).all() and image[:, 8:] == pytest.approx(right, abs=1e-6)


@pytest.mark.parametrize("bits", [2, 4])
def test_labels_of_few_bits_are_those_that_are_stored(tmp_path, bits):
    labels = np.where(AREA, np.where(np.arange(64) < 32, 1, 2), 0).astype(np.uint8)
    packed = sum(labels[:, at :: 8 // bits] << (8 - bits * (at + 1)) for at in range(8 // bits)).astype(np.uint8)
    header = (64).to_bytes(4, "big") * 2 + bytes([bits, 0, 0, 0, 0])
    with (tmp_path / "m.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        lines = zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))
        for name, content in ((b"IHDR", header), (b"IDAT", lines), (b"IEND", b"")):
            PngImagePlugin.putchunk(file, name, content)
    as_picture(tmp_path / "scan.png", GREY)
    for settings, right in (({}, labels > 0), ({"inside": (2.0,)}, labels == 2)):
        _, inside = files.picture(str(tmp_path / "scan.png"), 64, mask_path=str(tmp_path / "m.png"), **settings)
        assert (inside == right).all()


@pytest.mark.parametrize("settings", [{"inside": (255.0,)}, {"regions": ((255,), (128,))}])
def test_values_of_a_lossy_mask_cannot_be_looked_up(tmp_path, settings):
    Image.fromarray(np.where(AREA, np.uint8(255), np.uint8(0))).save(tmp_path / "m.jpg", quality=75)
    as_picture(tmp_path / "scan.png", GREY)
    with pytest.raises(ValueError, match=r"m\.jpg.*lossy.*values"):
        files.picture(str(tmp_path / "scan.png"), 64, mask_path=str(tmp_path / "m.jpg"), **settings)


def test_a_jpeg_is_known_by_its_other_suffixes(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.jpg")
    for suffix in ("jfif", "jpe"):
        (tmp_path / f"a.{suffix}").write_bytes((tmp_path / "a.jpg").read_bytes())
        assert (seen(tmp_path / f"a.{suffix}") == seen(tmp_path / "a.jpg")).all()


# --- what a mask has inside ---

AREA = disk(64, 20) > 0


def drawn(tmp_path, mask, suffix="npy", **settings):
    """The mask of a file, and what was noted of it."""
    as_picture(tmp_path / "scan.png", GREY)
    if isinstance(mask, Image.Image):
        mask.save(tmp_path / f"m.{suffix}")
    else:
        as_numpy(tmp_path / f"m.{suffix}", mask)
    files.notes()
    _, inside = files.picture(str(tmp_path / "scan.png"), 64, mask_path=str(tmp_path / f"m.{suffix}"), **settings)
    (note,) = files.notes()
    return inside, note


@pytest.mark.parametrize(
    ("mask", "note"),
    [
        (AREA * np.uint8(1), "inside is 1"),
        (AREA * np.uint8(255), "inside is 255"),
        (AREA, "inside is 1"),
        (-AREA.astype(np.int8), "inside is -1"),
        (np.where(AREA, 1, -1), "inside is 1"),
        (AREA * 1.0 + 1e-7 * np.random.default_rng(0).standard_normal(AREA.shape), "inside is 1"),
        (np.where(AREA, np.where(GREY > 99, 4, 1), 0), "0, 1, 4: inside is all but 0"),
    ],
)
def test_inside_is_found_whatever_its_coding(tmp_path, mask, note):
    inside, noted = drawn(tmp_path, mask)
    assert (inside == AREA).all() and note in noted


def test_255_in_eight_bits_with_a_sign_is_inside(tmp_path):
    assert (drawn(tmp_path, (AREA * np.uint8(255)).view(np.int8))[0] == AREA).all()


@pytest.mark.parametrize("inside", [1e-5, 1 / 65535, 5e-4])
def test_a_small_value_of_its_own_is_inside(tmp_path, inside):
    assert (drawn(tmp_path, AREA * inside)[0] == AREA).all()


def test_ringing_around_nothing_is_nothing(tmp_path):
    noise = 1e-7 * np.random.default_rng(0).standard_normal(AREA.shape)
    assert not drawn(tmp_path, noise)[0].any()


def test_label_one_in_colours_is_inside(tmp_path):
    colours = np.zeros((64, 64, 3), np.uint8)
    colours[AREA, 2] = 1
    assert (drawn(tmp_path, Image.fromarray(colours), "png")[0] == AREA).all()


@pytest.mark.parametrize("area", [AREA, AREA & False])
def test_opacity_alone_may_outline(tmp_path, area):
    colours = np.full((64, 64, 4), 255, np.uint8)
    colours[..., 3] = area * 255
    assert (drawn(tmp_path, Image.fromarray(colours), "png")[0] == area).all()


@pytest.mark.parametrize(
    "palette", [[0, 0, 0, 0, 0, 0], [0, 0, 0, 200, 0, 0], [255, 255, 255, 200, 0, 0], [0, 0, 0, 1, 1, 1]]
)
def test_entries_of_a_palette_are_labels_whatever_their_colours(tmp_path, palette):
    picture = Image.fromarray(AREA.astype(np.uint8))
    picture = picture.convert("P")
    picture.putdata(AREA.astype(np.uint8).ravel().tolist())
    picture.putpalette(palette)
    assert (drawn(tmp_path, picture, "png")[0] == AREA).all()


@pytest.mark.parametrize("quality", [40, 75, 95])
def test_a_lossy_mask_is_cut_at_half(tmp_path, quality):
    as_picture(tmp_path / "scan.png", GREY)
    Image.fromarray(AREA * np.uint8(255)).save(tmp_path / "m.jpg", quality=quality)
    _, inside = files.picture(str(tmp_path / "scan.png"), 64, mask_path=str(tmp_path / "m.jpg"))
    assert (inside != AREA).mean() < 0.01


def test_a_resampled_mask_is_cut_at_half(tmp_path):
    smooth = gaussian_filter(AREA.astype(np.float32), 1)
    assert (drawn(tmp_path, smooth)[0] == (smooth > 0.5)).all()


def test_few_shades_along_an_edge_are_cut_at_half(tmp_path):
    shades = np.round(resize(AREA[::2, ::2].astype(float), (64, 64), order=1) * 4) * 60
    assert 3 <= len(np.unique(shades)) <= 5
    assert (drawn(tmp_path, shades.astype(np.uint8))[0] == (shades > 120)).all()


@pytest.mark.parametrize(
    "mask",
    [
        GREY,  # an image
        np.where(AREA, np.where(GREY > 20, 1, 255), 0),  # 255 may be void
        np.where(AREA, np.where(GREY > 99, 1, -1), 0),
        np.where(AREA, 2, 1),
        np.where(AREA, np.where(np.arange(64) < 32, 255, 128), 0),
        np.where(np.arange(64) < 32, 255, 128) * np.ones((64, 1), np.uint8),
    ],
)
def test_an_ambiguous_mask_is_refused_and_may_be_explained(tmp_path, mask):
    with pytest.raises(ValueError, match=r"m\.npy: .*ambiguous: its values are .*dataset\.mask\.inside"):
        drawn(tmp_path, mask)
    value = float(mask[32, 33])
    assert (drawn(tmp_path, mask, inside=(value,))[0] == (mask == value)).all()


@pytest.mark.parametrize("kind", ["white ground", "jpg of labels", "colours and opacity", "palette"])
def test_a_picture_that_outlines_two_things_is_refused(tmp_path, kind):
    suffix = "jpg" if kind == "jpg of labels" else "png"
    if kind == "white ground":
        colours = np.full((64, 64, 3), 255, np.uint8)
        colours[AREA, 1:] = 0
        picture = Image.fromarray(colours)
    elif kind == "jpg of labels":
        picture = Image.fromarray(AREA.astype(np.uint8) * 40)
    elif kind == "colours and opacity":
        colours = np.zeros((64, 64, 4), np.uint8)
        colours[AREA, :3], colours[:32, :, 3] = 255, 255
        picture = Image.fromarray(colours)
    else:
        picture = Image.fromarray(AREA.astype(np.uint8)).convert("P")
        picture.putpalette([255, 255, 255, 0, 0, 0])
    with pytest.raises(ValueError, match=rf"m\.{suffix}: .*ambiguous"):
        drawn(tmp_path, picture, suffix)
