"""What strangers bring: scans, masks, tables and params files of many kinds, each with the value that is right.

Run ``python benchmarks/strange.py``; it takes one to four minutes. Every input is made in a temporary folder, in the formats
and with the habits that public bug reports of imaging libraries tell of, and read as a study reads it. It should give
the right value, or be refused in a sentence that names its file or key. The table has a row for each kind:

right, refused
    As they should be.
refused_right
    Refused in a sentence, although it has a right value.
misread_silently
    Another value than the right one, or any value where a refusal is right.
tracebacks
    Another exception than a ValueError, or one that does not name the file or the key.

Then a small cohort and its noisy images are made in a process that is killed at one of its file-system steps, at each
in turn, and made to the end in another. ``killed_equal`` counts the kills after which all files are, byte for byte,
those of a process that nobody killed, and the stamps vouch for them. ``--write`` brings the table into
docs/reliability.md.
"""

# ruff: noqa: E501 - tables of cases read best a case a line

import os
import signal

os.environ |= {"OMP_NUM_THREADS": "1"}

import argparse
import json
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from functools import partial
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import openpyxl
import pandas as pd
import pydicom
import tifffile
from PIL import Image, ImageCms, PngImagePlugin
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from scans import compress, dicom, lossless_jpeg, nifti

from reconfair import data, noise, params, store
from reconfair.data import files
from reconfair.entries import Sheet
from reconfair.run.judge import read_scores

SIZE = 48
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (SIZE, SIZE), np.uint8)
SMOOTH = np.tile(np.linspace(0, 255, SIZE).astype(np.uint8), (SIZE, 1))
FILM = RNG.integers(300, 3000, (SIZE, SIZE)).astype(np.uint16)
VOLUME = RNG.integers(0, 1000, (5, SIZE, SIZE), np.int16)
SPOT = np.add.outer(*[(np.arange(SIZE) - at) ** 2 for at in (20, 28)]) < 150
REFUSED = "refused"
START, END = "<!-- of benchmarks/strange.py -->", "<!-- end -->"


def unit(values):
    """Values on the scale of their least and greatest."""
    values = np.asarray(values, float)
    return (values - values.min()) / (np.ptp(values) or 1)


def image(path, **settings):
    return files.picture(str(path), SIZE, **settings)[0]


def outline(scan, drawn, **settings):
    return files.picture(str(scan), SIZE, mask_path=str(drawn), **settings)[1]


def close(value, right, tolerance=2e-3):
    return np.shape(value) == np.shape(right) and np.abs(np.asarray(value, float) - right).max() <= tolerance


# Each function yields (name, the name that a refusal must hold, the right value or REFUSED, how to read it, tolerance).


def pictures(folder):
    profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    base = Image.fromarray(SMOOTH)
    modes = {
        "L": base, "LA": base.convert("LA"), "RGB": base.convert("RGB"), "RGBA": base.convert("RGBA"),
        "P": base.convert("RGB").quantize(256), "CMYK": base.convert("RGB").convert("CMYK"),
        "YCbCr": base.convert("RGB").convert("YCbCr"), "I;16": Image.fromarray(SMOOTH.astype(np.uint16) * 257),
        "LAB": ImageCms.profileToProfile(base.convert("RGB"), *profiles, outputMode="LAB"),
        "F": Image.fromarray(SMOOTH.astype(np.float32)), "I": Image.fromarray(SMOOTH.astype(np.int32) * 100),
    }  # fmt: skip
    able = {
        "png": ("L", "LA", "RGB", "RGBA", "P", "I;16"),
        "tif": tuple(modes),
        "jpg": ("L", "RGB", "CMYK", "YCbCr"),
        "bmp": ("L", "RGB", "P"),
    }
    for suffix, names in able.items():
        for mode in names:
            path = folder / f"{mode.replace(';', '')}.{suffix}"
            modes[mode].save(path)
            yield f"{mode} in {suffix}", path.name, unit(SMOOTH), partial(image, path), 0.03
    Image.fromarray(SPOT).save(folder / "bits.png")
    yield "1 bit, percentiles", "bits.png", SPOT, partial(image, folder / "bits.png", percentiles=(1, 99)), 0.01
    base.save(folder / "CAPITALS.PNG")
    yield "suffix in capitals", "CAPITALS.PNG", unit(SMOOTH), partial(image, folder / "CAPITALS.PNG"), 0.01
    (folder / "wrong.png").write_bytes((folder / "L.jpg").read_bytes())
    yield "JPEG called PNG", "wrong.png", unit(SMOOTH), partial(image, folder / "wrong.png"), 0.03
    chunks = PngImagePlugin.PngInfo()
    for name, content in ((b"gAMA", b"\0\0\x80\0"), (b"sBIT", b"\5")):
        chunks.add(name, content)
    base.save(folder / "gamma.png", pnginfo=chunks)
    yield "gamma and significant bits", "gamma.png", unit(SMOOTH), partial(image, folder / "gamma.png"), 0.01
    deep = FILM.astype(">u2")
    for suffix in ("jfif", "jpe", "dib"):
        base.save(folder / f"other.{suffix}", format="BMP" if suffix == "dib" else "JPEG")
        yield f"suffix {suffix}", f"other.{suffix}", unit(SMOOTH), partial(image, folder / f"other.{suffix}"), 0.03
    speck = np.zeros((SIZE, SIZE), np.uint8)
    speck[5, 5:8] = 200
    Image.fromarray(speck).save(folder / "speck.png")
    read = partial(image, folder / "speck.png", percentiles=(1, 99))
    yield "percentiles that are one value", "speck.png", speck / 200, read, 1e-3
    for axis in (1, 2):
        read = partial(image, folder / "speck.png", number=5, axis=axis)
        yield f"lines across axis {axis} of one image", "speck.png", REFUSED, read, 0
    for name, kind, samples in (
        ("16 bits with opacity", 4, (deep, deep * 0 + 65535)),
        ("16 bits of colours", 2, (deep,) * 3),
    ):
        path = folder / f"deep{kind}.png"
        png(path, kind, np.stack(samples, -1).astype(">u2"))
        yield name, path.name, REFUSED, partial(image, path), 0
    png(folder / "deep0.png", 0, deep[..., None])
    yield "16 bits of grey", "deep0.png", unit(FILM), partial(image, folder / "deep0.png"), 1e-3
    shades = [Image.fromarray(np.full((SIZE, SIZE), at, np.uint8)) for at in (0, 90, 200)]
    for suffix, options in {"gif": {}, "png": {"default_image": False}, "webp": {}, "jp2": None}.items():
        path = folder / f"moving.{suffix}"
        if options is None:
            shades[1].save(path)
        else:
            shades[0].save(path, save_all=True, append_images=shades[1:], duration=50, **options)
        yield (
            f"several frames in {suffix}" if options is not None else suffix,
            path.name,
            REFUSED,
            partial(image, path),
            0,
        )
    grey = base.convert("RGB").quantize(8)
    grey.info["transparency"] = 0
    grey.save(folder / "clear index.png", transparency=0)
    yield (
        "palette with a clear entry",
        "clear index.png",
        unit(np.asarray(grey.convert("L"))),
        partial(image, folder / "clear index.png"),
        0.02,
    )
    base.convert("RGB").save(
        folder / "profile.jpg", icc_profile=ImageCms.ImageCmsProfile(profiles[0]).tobytes(), quality=95
    )
    yield "with a colour profile", "profile.jpg", unit(SMOOTH), partial(image, folder / "profile.jpg"), 0.03
    base.save(folder / "progressive.jpg", progressive=True, quality=95)
    yield "progressive JPEG", "progressive.jpg", unit(SMOOTH), partial(image, folder / "progressive.jpg"), 0.03
    base.save(folder / "name with blank, comma; \u00fc\u4e2d.png")
    path = folder / "name with blank, comma; \u00fc\u4e2d.png"
    yield "blank, comma and letters of any script in the name", path.name, unit(SMOOTH), partial(image, path), 0.01
    Image.new("L", (9_000, 9_000)).save(folder / "huge.png")
    yield "81 million pixels", "huge.png", REFUSED, partial(image, folder / "huge.png"), 0
    Image.fromarray(np.full((SIZE, SIZE), 77, np.uint8)).save(folder / "flat.png")
    yield "constant", "flat.png", np.zeros((SIZE, SIZE)), partial(image, folder / "flat.png"), 0


def png(path, kind, samples, bits=16, columns=None):
    """Write a PNG of 16 bits, or of fewer that are packed; kind 0 is grey, 2 colours, 4 grey with opacity."""
    rows, columns = len(samples), columns or samples.shape[1]
    header = columns.to_bytes(4, "big") + rows.to_bytes(4, "big") + bytes([bits, kind, 0, 0, 0])
    lines = b"".join(b"\0" + row.tobytes() for row in samples)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")):
            PngImagePlugin.putchunk(file, name, content)


def orientations(folder):
    upright = np.kron(np.array([[255, 100], [0, 40]], np.uint8), np.ones((SIZE // 2, SIZE // 2), np.uint8))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    for suffix, orientation in product(("jpg", "png", "tif"), range(1, 9)):
        stored, exif = Image.fromarray(upright), Image.Exif()
        exif[0x0112] = orientation
        path = folder / f"{orientation}.{suffix}"
        (stored.transpose(Image.Transpose(back[orientation])) if orientation > 1 else stored).save(path, exif=exif)
        yield f"{orientation} in {suffix}", path.name, unit(upright), partial(image, path), 0.1
        if suffix == "jpg" and orientation > 1:
            seen = upright > 60
            for how, turn in (("turned", True), ("upright", False)):
                drawn = Image.fromarray(seen * np.uint8(255))
                drawn = drawn.transpose(Image.Transpose(back[orientation])) if turn else drawn
                drawn.save(folder / f"{how}{orientation}.png", **({"exif": exif} if turn else {}))
                read = partial(outline, path, folder / f"{how}{orientation}.png")
                yield f"{orientation} in jpg, {how} mask", f"{how}{orientation}.png", seen, read, 0


def tiffs(folder):
    for bits, white, order in product((8, 16), ("minisblack", "miniswhite"), "<>"):
        stored = GREY.astype(f"{order}u{bits // 8}") * (257 if bits == 16 else 1)
        stored = (2**bits - 1 - stored).astype(stored.dtype) if white == "miniswhite" else stored
        path = folder / f"{bits}{white}{'le' if order == '<' else 'be'}.tif"
        tifffile.imwrite(path, stored, photometric=white, byteorder=order)
        yield path.stem, path.name, unit(GREY), partial(image, path), 1e-3
    colour = np.stack([GREY, GREY.T, GREY[::-1]], -1)
    luma = unit(colour @ files.LUMA)
    for name, options in {
        "tiles": {"tile": (16, 16)}, "deflate": {"compression": "zlib"}, "strips": {"rowsperstrip": 5}, "big": {"bigtiff": True},
    }.items():  # fmt: skip
        tifffile.imwrite(folder / f"{name}.tif", colour, photometric="rgb", **options)
        yield name, f"{name}.tif", luma, partial(image, folder / f"{name}.tif"), 0.01
    tifffile.imwrite(folder / "planes.tif", colour.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    yield "planes apart", "planes.tif", luma, partial(image, folder / "planes.tif"), 0.01
    for dtype in (np.float32, np.int16, np.uint16, np.int32):
        path = folder / f"stack{np.dtype(dtype).name}.tif"
        tifffile.imwrite(path, VOLUME.astype(dtype), photometric="minisblack")
        right = (VOLUME[3] - VOLUME.min()) / np.ptp(VOLUME)
        yield path.stem, path.name, right, partial(image, path, number=3), 1e-3
    pages = [Image.fromarray(GREY), Image.fromarray(GREY[::4, ::4])]
    pages[0].save(folder / "thumbnail.tif", save_all=True, append_images=pages[1:])
    yield "a small second page", "thumbnail.tif", REFUSED, partial(image, folder / "thumbnail.tif"), 0
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[:1])
    yield "two pages, and no slice is named", "pages.tif", REFUSED, partial(image, folder / "pages.tif"), 0
    tifffile.imwrite(folder / "rgb16.tif", np.repeat(FILM[..., None], 3, -1), photometric="rgb")
    yield "16 bits of colours", "rgb16.tif", REFUSED, partial(image, folder / "rgb16.tif"), 0
    for name, value in (("nan", np.nan), ("inf", -np.inf)):
        floats = GREY.astype(np.float32)
        floats[4, 4] = value
        tifffile.imwrite(folder / f"{name}.tif", floats, photometric="minisblack")
        yield f"floats with {name}", f"{name}.tif", REFUSED, partial(image, folder / f"{name}.tif"), 0
    tifffile.imwrite(folder / "below.tif", GREY.astype(np.int16) - 200, photometric="minisblack")
    yield "values below zero", "below.tif", unit(GREY), partial(image, folder / "below.tif"), 1e-3
    for white, order in product(("minisblack", "miniswhite"), "<>"):
        name = f"deflate {white} {'le' if order == '<' else 'be'}"
        stored = (65535 - GREY.astype("u2") * 257 if white == "miniswhite" else GREY.astype("u2") * 257).astype(
            f"{order}u2"
        )
        tifffile.imwrite(
            folder / f"{name}.tif", stored, photometric=white, byteorder=order, compression="zlib", predictor=True
        )
        yield name, f"{name}.tif", unit(GREY), partial(image, folder / f"{name}.tif"), 1e-3
    for name, values in (("int8", (GREY - 128).view(np.int8)), ("uint32", GREY * np.uint32(16_000_000))):
        right = unit(GREY if name == "uint32" else values)
        tifffile.imwrite(folder / f"{name}.tif", values, photometric="minisblack")
        yield f"{name} of its whole range", f"{name}.tif", right, partial(image, folder / f"{name}.tif"), 1e-3
    for name, values, options in (
        ("two channels", np.stack([GREY, GREY], -1), {"planarconfig": "contig", "extrasamples": ["unspecified"]}),
        ("ImageJ, one directory", VOLUME.astype(np.uint16), {"imagej": True, "truncate": True}),
        ("OME, channels and slices", np.stack([VOLUME, VOLUME]), {"ome": True, "metadata": {"axes": "CZYX"}}),
        ("floats of 16 bits", GREY.astype(np.float16), {}), ("whole numbers of 64 bits", GREY.astype(np.int64), {}),
    ):  # fmt: skip
        tifffile.imwrite(folder / f"{name}.tif", values, photometric="minisblack", **options)
        yield name, f"{name}.tif", REFUSED, partial(image, folder / f"{name}.tif", number=0), 0
    Image.fromarray(SPOT).save(folder / "fax.tif", compression="group4")
    yield "1 bit, compressed as a fax", "fax.tif", SPOT, partial(image, folder / "fax.tif"), 0
    tifffile.imwrite(folder / "white32.tif", GREY.astype(np.float32), photometric="miniswhite")
    yield "floats, white is zero", "white32.tif", REFUSED, partial(image, folder / "white32.tif"), 0


def dicoms(folder):
    scales = {"own": {}, "window": {"window": (500, 2500)}, "percentiles": {"percentiles": (5, 75)}}
    for bits, (scale, settings), slope in product((12, 16), scales.items(), (1, 2)):
        tags = {"BitsStored": bits, "HighBit": bits - 1, "RescaleSlope": slope, "RescaleIntercept": -100}
        values = FILM.astype(float) * slope - 100
        low, high = settings.get("window", np.percentile(values, settings.get("percentiles", (0, 100))))
        right = ((values - low) / (high - low)).clip(0, 1)
        for photometry in ("MONOCHROME1", "MONOCHROME2"):
            path = folder / f"{photometry}{bits}{scale}{slope}.dcm"
            stored = 2**bits - 1 - FILM if photometry == "MONOCHROME1" else FILM
            dicom(path, stored.astype(np.uint16), PhotometricInterpretation=photometry, **tags)
            yield path.stem, path.name, right, partial(image, path, **settings), 1e-3
    for photometry, padding, limit in (("MONOCHROME1", 0, None), ("MONOCHROME2", 4000, 4090), ("MONOCHROME2", 0, None)):
        padded, path = FILM.copy(), folder / f"padded{photometry}{padding}.dcm"
        padded[:, :9] = limit or padding
        tags = {"PixelPaddingValue": padding} | ({"PixelPaddingRangeLimit": limit} if limit else {})
        dicom(path, padded, PhotometricInterpretation=photometry, BitsStored=12, HighBit=11, **tags)
        right = np.zeros(FILM.shape)
        right[:, 9:] = 1 - unit(FILM[:, 9:]) if photometry == "MONOCHROME1" else unit(FILM[:, 9:])
        yield path.stem, path.name, right, partial(image, path), 1e-3
    signed = FILM.astype(np.int16) - 1500
    dicom(folder / "signed.dcm", signed)
    yield "signed", "signed.dcm", unit(signed), partial(image, folder / "signed.dcm"), 1e-3
    overlay = FILM.copy()
    overlay[:20] += 4096
    dicom(folder / "overlay.dcm", overlay, BitsStored=12, HighBit=11)
    yield "overlay in high bits", "overlay.dcm", unit(FILM), partial(image, folder / "overlay.dcm"), 1e-3
    for bits in (8, 12, 16):
        stored = np.repeat((FILM >> (4 if bits == 8 else 0))[..., None], 3, -1).astype(
            np.uint8 if bits == 8 else np.uint16
        )
        dicom(folder / f"rgb{bits}.dcm", stored, BitsStored=bits, HighBit=bits - 1)
        yield (
            f"RGB of {bits} bits",
            f"rgb{bits}.dcm",
            unit(stored[..., 0]),
            partial(image, folder / f"rgb{bits}.dcm"),
            1e-3,
        )
    ycc = np.stack([GREY, np.full_like(GREY, 128), np.full_like(GREY, 128)], -1)
    dicom(folder / "ycc.dcm", ycc, PhotometricInterpretation="YBR_FULL")
    yield "YBR_FULL", "ycc.dcm", unit(GREY), partial(image, folder / "ycc.dcm"), 0.01
    bright = RNG.permutation(256).astype(np.uint16) * 257
    lookup = {f"{colour}PaletteColorLookupTableData": bright.tobytes() for colour in ("Red", "Green", "Blue")}
    lookup |= {f"{colour}PaletteColorLookupTableDescriptor": [256, 0, 16] for colour in ("Red", "Green", "Blue")}
    dicom(folder / "palette.dcm", GREY, PhotometricInterpretation="PALETTE COLOR", **lookup)
    yield "PALETTE COLOR", "palette.dcm", unit(bright[GREY]), partial(image, folder / "palette.dcm"), 1e-3
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 16], (np.arange(4096, dtype=np.uint16)[::-1] * 16).tobytes()
    table.LUTExplanation = "falling"
    shown = {"window": {"WindowCenter": 900, "WindowWidth": 80}, "several windows": {"WindowCenter": [900, 40], "WindowWidth": [80, 400]},
             "sigmoid": {"WindowCenter": 900, "WindowWidth": 80, "VOILUTFunction": "SIGMOID"}, "VOI table": {"VOILUTSequence": [table]}}  # fmt: skip
    for name, tags in shown.items():  # how a viewer shows it; the values are the same
        dicom(folder / f"{name}.dcm", FILM, BitsStored=12, HighBit=11, **tags)
        yield f"{name} of the viewer", f"{name}.dcm", unit(FILM), partial(image, folder / f"{name}.dcm"), 1e-3
    table.ModalityLUTType = "US"
    for photometry in ("MONOCHROME1", "MONOCHROME2"):
        path = folder / f"modality {photometry}.dcm"
        dicom(path, FILM, BitsStored=12, HighBit=11, PhotometricInterpretation=photometry, ModalityLUTSequence=[table])
        yield (
            path.stem,
            path.name,
            unit(FILM) if photometry == "MONOCHROME1" else 1 - unit(FILM),
            partial(image, path),
            1e-3,
        )
    dicom(folder / "inverse.dcm", FILM, BitsStored=12, HighBit=11, PresentationLUTShape="INVERSE")
    yield "MONOCHROME2, shown inverted", "inverse.dcm", REFUSED, partial(image, folder / "inverse.dcm"), 0
    dicom(folder / "middle.dcm", (FILM << 2) | 0xC003, BitsStored=12, HighBit=13)
    yield "12 bits in the middle of 16", "middle.dcm", unit(FILM), partial(image, folder / "middle.dcm"), 1e-3
    colours = np.stack([GREY, GREY.T, GREY[::-1]], -1)
    for name, stored, tags in (
        ("a slope of 0", FILM, {"RescaleSlope": 0, "RescaleIntercept": 0}), ("one sample called RGB", GREY, {"PhotometricInterpretation": "RGB"}),
        ("one sample called HSV", GREY, {"PhotometricInterpretation": "HSV"}), ("colours called MONOCHROME2", colours, {"PhotometricInterpretation": "MONOCHROME2"}),
        ("colours called YBR_PARTIAL_422", colours, {"PhotometricInterpretation": "YBR_PARTIAL_422"}), ("pixels of too few rows", GREY, {"Rows": 2 * SIZE}),
        ("an orientation of three numbers", FILM, {"ImageOrientationPatient": [1, 0, 0]}), ("a spacing of one number", FILM, {"PixelSpacing": 0.5}),
        ("groups of fewer frames", FILM[None], {"PerFrameFunctionalGroupsSequence": [pydicom.Dataset()] * 2}),
    ):  # fmt: skip
        dicom(folder / f"{name}.dcm", stored, **tags)
        yield name, f"{name}.dcm", REFUSED, partial(image, folder / f"{name}.dcm"), 0
    dicom(folder / "left.dcm", FILM << 4, BitsStored=12, HighBit=15)
    yield "12 bits at the upper end of 16", "left.dcm", unit(FILM), partial(image, folder / "left.dcm"), 1e-3
    padded = FILM.astype(np.int16) - 1500
    padded[:, :9], limits = -2000, {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}
    right = np.zeros(FILM.shape)
    right[:, 9:] = unit(FILM[:, 9:])
    for name, tags in {"padding range": limits, "padding": {"PixelPaddingValue": -2000}}.items():
        dicom(folder / f"{name}.dcm", padded, **tags)
        yield f"signed, {name}", f"{name}.dcm", right, partial(image, folder / f"{name}.dcm"), 1e-3
    short = np.where(padded == -2000, -2048, padded) & 0xFFF
    for written in (2048, 63488):
        tags = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}
        dicom(folder / f"short{written}.dcm", short.astype(np.uint16), **tags)
        file = pydicom.dcmread(folder / f"short{written}.dcm")
        file["PixelPaddingValue"] = pydicom.DataElement("PixelPaddingValue", "US", written)
        file.save_as(folder / f"short{written}.dcm")
        read = partial(image, folder / f"short{written}.dcm")
        yield f"12 bits with a sign, padding written as {written}", f"short{written}.dcm", right, read, 1e-3
    for dtype, name in ((np.float32, "Float"), (np.float64, "DoubleFloat")):
        path, values = folder / f"{name}.dcm", FILM.astype(dtype) / 7
        values[:, :9] = -9999
        dicom(path, values, **{f"{name}PixelPaddingValue": -9999.0})
        file = pydicom.dcmread(path)
        setattr(file, f"{name}PixelData", file.PixelData)
        del file.PixelData
        file.save_as(path)
        yield f"{name}PixelData with padding", path.name, right, partial(image, path), 1e-3
    planes = np.stack([GREY, GREY.T, GREY[::-1]])
    dicom(folder / "planes.dcm", planes.transpose(1, 2, 0), PlanarConfiguration=1)
    file = pydicom.dcmread(folder / "planes.dcm")
    file.PixelData = planes.tobytes()
    file.save_as(folder / "planes.dcm")
    luma = unit(planes.transpose(1, 2, 0) @ files.LUMA)
    yield "colours, planes apart", "planes.dcm", luma, partial(image, folder / "planes.dcm"), 1e-3
    dicom(
        folder / "bits.dcm",
        np.packbits(SPOT, bitorder="little")[None],
        Rows=SIZE,
        Columns=SIZE,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
    )
    yield "1 bit", "bits.dcm", SPOT, partial(image, folder / "bits.dcm"), 0
    for name, tags in {
        "no rows": {"Rows": 0},
        "more frames than pixels": {"NumberOfFrames": 9},
        "24 bits": {"BitsAllocated": 24},
    }.items():
        dicom(folder / f"{name}.dcm", GREY, **tags)
        yield name, f"{name}.dcm", REFUSED, partial(image, folder / f"{name}.dcm"), 0
    sequence = pydicom.uid.JPEGLosslessSV1
    if pydicom.pixels.get_decoder(sequence).is_available:
        dicom(folder / "film.dcm", FILM, BitsStored=12, HighBit=11)
        compress(folder / "film.dcm", folder / "lossless.dcm", sequence, lossless_jpeg(FILM, 12))
        yield "JPEG Lossless", "lossless.dcm", unit(FILM), partial(image, folder / "lossless.dcm"), 1e-3
    groups = []
    for slope, shift in ((1, 0), (2, 100), (0.5, -50)):
        inner, outer = pydicom.Dataset(), pydicom.Dataset()
        inner.RescaleSlope, inner.RescaleIntercept = slope, shift
        outer.PixelValueTransformationSequence = [inner]
        groups.append(outer)
    frames = VOLUME[:3].astype(np.uint16)
    values = np.stack([frames[0], frames[1] * 2.0 + 100, frames[2] * 0.5 - 50])
    dicom(folder / "enhanced.dcm", frames, PerFrameFunctionalGroupsSequence=groups)
    for number in range(3):
        right = (values[number] - values.min()) / np.ptp(values)
        read = partial(image, folder / "enhanced.dcm", number=number)
        yield f"enhanced, frame {number}", "enhanced.dcm", right, read, 1e-3
    dicom(folder / "plain.dcm", GREY)
    for implicit, little in ((True, True), (False, True), (False, False)):
        bare, path = pydicom.dcmread(folder / "plain.dcm"), folder / f"bare{implicit}{little}.dcm"
        bare.preamble = None
        del bare.file_meta
        pydicom.dcmwrite(path, bare, implicit_vr=implicit, little_endian=little, force_encoding=True)
        yield f"no preamble, implicit {implicit}, little {little}", path.name, unit(GREY), partial(image, path), 1e-3
    for syntax in (pydicom.uid.RLELossless, pydicom.uid.DeflatedExplicitVRLittleEndian):
        file, path = pydicom.dcmread(folder / "plain.dcm"), folder / f"{syntax.keyword}.dcm"
        if syntax.is_compressed and syntax.is_encapsulated:
            file.compress(syntax)
        file.file_meta.TransferSyntaxUID = syntax
        file.save_as(path)
        yield syntax.name, path.name, unit(GREY), partial(image, path), 1e-3
    for syntax in (pydicom.uid.JPEGLosslessSV1, pydicom.uid.JPEGLSLossless, pydicom.uid.JPEG2000Lossless):
        if not pydicom.pixels.get_decoder(syntax).is_available:
            file, path = pydicom.dcmread(folder / "plain.dcm"), folder / f"{syntax.keyword}.dcm"
            file.file_meta.TransferSyntaxUID = syntax
            file.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
            file.save_as(path)
            yield f"{syntax.name}, no decoder", path.name, REFUSED, partial(image, path), 0
    compress(folder / "plain.dcm", folder / "film.mpg.dcm", pydicom.uid.MPEG2MPML, bytes(8))
    yield "a video", "film.mpg.dcm", REFUSED, partial(image, folder / "film.mpg.dcm"), 0
    dicom(folder / "lying.dcm", GREY, Rows=60_000, Columns=60_000)
    yield "60,000 rows in the header", "lying.dcm", REFUSED, partial(image, folder / "lying.dcm"), 0


def arrays(folder):
    def turned(values):
        return values.transpose(2, 1, 0)[::-1, ::-1]

    right = (VOLUME[3] - VOLUME.min()) / np.ptp(VOLUME)
    for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, np.complex64):
        values, path = (
            (VOLUME // 4 if dtype == np.uint8 else VOLUME).astype(dtype),
            folder / f"{np.dtype(dtype).name}.nii",
        )
        nifti(path, turned(values))
        expected = (values[3].real - values.real.min()) / np.ptp(values.real)
        yield f"NIfTI of {path.stem}", path.name, expected, partial(image, path, number=3), 1e-3
    for orientation in ("RAS", "LPS", "LAS", "RPI", "PIR", "SAL", "ASR", "IPL"):
        path = folder / f"{orientation}.nii.gz"
        nifti(path, turned(VOLUME), orientation)
        yield f"NIfTI in {orientation}", path.name, right, partial(image, path, number=3), 1e-3
    scaled = nibabel.Nifti1Image(turned(VOLUME), np.eye(4))
    scaled.header.set_slope_inter(2, -50)
    nibabel.save(scaled, folder / "slope.nii")
    yield "NIfTI with slope", "slope.nii", right, partial(image, folder / "slope.nii", number=3), 1e-3
    turns = np.exp(1j * np.linspace(0, 6, VOLUME.size).reshape(VOLUME.shape))
    nifti(folder / "phase.nii", turned(VOLUME * turns).astype(np.complex64))
    yield "NIfTI with phase", "phase.nii", right, partial(image, folder / "phase.nii", number=3), 1e-3
    for name, slope in (("0", 0.0), ("nan", np.nan)):
        nibabel.save(nibabel.Nifti1Image(turned(VOLUME), np.eye(4)), folder / f"slope {name}.nii")
        raw = bytearray((folder / f"slope {name}.nii").read_bytes())
        raw[112:116] = np.float32(slope).tobytes()
        (folder / f"slope {name}.nii").write_bytes(raw)
        read = partial(image, folder / f"slope {name}.nii", number=3)
        yield f"NIfTI with a slope of {name}", f"slope {name}.nii", right, read, 1e-3
    forms = nibabel.Nifti1Image(turned(VOLUME), np.eye(4))
    for name, other, expected in (
        ("apart", np.diag([-1.0, 1, 1, 1]), REFUSED),
        ("alike", np.diag([1.01, 1, 1, 1]), right),
    ):
        forms.set_sform(np.eye(4), 1), forms.set_qform(other, 1)
        nibabel.save(forms, folder / f"forms {name}.nii")
        read = partial(image, folder / f"forms {name}.nii", number=3)
        yield f"NIfTI, sform and qform {name}", f"forms {name}.nii", expected, read, 1e-3
    nifti(folder / "one of 4d.nii", turned(VOLUME)[..., None])
    yield (
        "NIfTI of one volume in four dimensions",
        "one of 4d.nii",
        right,
        partial(image, folder / "one of 4d.nii", number=3),
        1e-3,
    )
    empty = turned(VOLUME).astype(np.float32)
    empty[0, 0, 0] = np.nan
    nifti(folder / "nan.nii", empty)
    yield "NIfTI with nan", "nan.nii", REFUSED, partial(image, folder / "nan.nii", number=3), 0
    nibabel.save(nibabel.Nifti1Pair(turned(VOLUME), np.eye(4)), folder / "pair.img")
    nibabel.save(nibabel.MGHImage(turned(VOLUME).astype(np.int32), np.eye(4)), folder / "brain.mgz")
    np.savez(folder / "several.npz", VOLUME)
    for name in ("pair.img", "pair.hdr", "brain.mgz", "several.npz"):
        yield f"{name[-3:]}, which is no known suffix", name, REFUSED, partial(image, folder / name, number=3), 0
    nibabel.save(nibabel.Nifti2Image(turned(VOLUME), np.eye(4)), folder / "second.nii.gz")
    yield "NIfTI-2", "second.nii.gz", right, partial(image, folder / "second.nii.gz", number=3), 1e-3
    (folder / "plain.nii.gz").write_bytes((folder / "int16.nii").read_bytes())
    yield (
        "NIfTI called .gz and not compressed",
        "plain.nii.gz",
        REFUSED,
        partial(image, folder / "plain.nii.gz", number=3),
        0,
    )
    nifti(folder / "4d.nii", np.repeat(turned(VOLUME)[..., None], 2, -1))
    yield "NIfTI of two volumes", "4d.nii", REFUSED, partial(image, folder / "4d.nii", number=3), 0
    colours = np.zeros((SIZE, SIZE, 1), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name in "RGB":
        colours[name] = GREY.T[::-1, ::-1, None]
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), folder / "rgb.nii")
    yield "NIfTI of colours", "rgb.nii", unit(GREY), partial(image, folder / "rgb.nii"), 1e-3
    for dtype in (bool, np.int8, np.uint64, np.float16, ">f8", np.complex128):
        values, path = (SPOT if dtype is bool else GREY // 2).astype(dtype), folder / f"a{np.dtype(dtype).name}.npy"
        np.save(path, values)
        yield f"NPY of {np.dtype(dtype)}", path.name, unit(values.real), partial(image, path), 2e-3
    for name, values in {
        "last": GREY[..., None],
        "last of a batch": GREY[None, ..., None],
        "second": GREY[None, None],
    }.items():
        np.save(folder / f"channel {name}.npy", values)
        read = partial(image, folder / f"channel {name}.npy")
        yield f"NPY, one channel {name}", f"channel {name}.npy", unit(GREY), read, 1e-3
    np.save(folder / "slices last.npy", np.moveaxis(VOLUME[:3], 0, -1))
    read = partial(image, folder / "slices last.npy", number=1, axis=2)
    yield "NPY, three slices last, which may be colours", "slices last.npy", REFUSED, read, 0
    np.save(folder / "fortran.npy", np.asfortranarray(VOLUME))
    yield "NPY in Fortran's order", "fortran.npy", right, partial(image, folder / "fortran.npy", number=3), 1e-3
    np.save(folder / "rgb.npy", np.repeat(GREY[..., None], 3, -1))
    yield "NPY of colours", "rgb.npy", unit(GREY), partial(image, folder / "rgb.npy"), 1e-3
    np.save(folder / "offset.npy", GREY.astype(np.int64) + 10**12)
    yield "NPY far from zero", "offset.npy", unit(GREY), partial(image, folder / "offset.npy"), 1e-3
    for name, values in (("2**62", GREY + np.int64(2**62)), ("1e308 apart", np.where(SPOT, 1e308, -1e308))):
        np.save(folder / f"{name}.npy", values)
        yield f"NPY of values {name}", f"{name}.npy", REFUSED, partial(image, folder / f"{name}.npy"), 0
    holes = GREY.astype(float)
    holes[3, 3] = np.nan
    for name, values in {
        "nan": holes, "inf": np.where(np.isnan(holes), np.inf, holes), "objects": np.array([{}]), "text": np.array([["a"]]),
        "line": np.zeros(5), "4d": np.zeros((2, 5, 6, 7)), "empty": np.zeros((0, 5)), "records": np.zeros((5, 5), "i4,f4"),
    }.items():  # fmt: skip
        np.save(folder / f"{name}.npy", values, allow_pickle=True)
        yield f"NPY, {name}", f"{name}.npy", REFUSED, partial(image, folder / f"{name}.npy", percentiles=(1, 99)), 0


def masks(folder):
    Image.fromarray(GREY).save(folder / "scan.png")
    read = partial(outline, folder / "scan.png")
    noise = 1e-7 * RNG.standard_normal(SPOT.shape)
    codings = {
        "1": SPOT * 1, "255": SPOT * 255, "truth": SPOT, "-1": -1 * SPOT, "plus or minus 1": np.where(SPOT, 1, -1),
        "1000": SPOT * 1000, "0.5": SPOT * 0.5, "1 of 255": SPOT / 255, "ringing": SPOT + noise, "2 and 5": SPOT * np.where(GREY > 99, 5, 2),
    }  # fmt: skip
    for name, values in codings.items():
        np.save(folder / f"{name}.npy", values)
        yield f"NPY coded {name}", f"{name}.npy", SPOT, partial(read, folder / f"{name}.npy"), 0
    for name, inside in (("1e-5", 1e-5), ("1 of 65535", 1 / 65535)):
        np.save(folder / f"{name}.npy", SPOT * inside)
        yield f"NPY coded {name}", f"{name}.npy", SPOT, partial(read, folder / f"{name}.npy"), 0
    np.save(folder / "int8.npy", (SPOT * np.uint8(255)).view(np.int8))
    yield "255 as int8", "int8.npy", SPOT, partial(read, folder / "int8.npy"), 0
    np.save(folder / "nothing.npy", noise)
    yield "ringing around nothing", "nothing.npy", SPOT & False, partial(read, folder / "nothing.npy"), 0
    soft = gaussian_filter(SPOT.astype(float), 1)
    np.save(folder / "soft.npy", soft)
    yield "resampled", "soft.npy", soft > 0.5, partial(read, folder / "soft.npy"), 0
    channel = np.zeros((SIZE, SIZE, 3), np.uint8)
    channel[SPOT, 2] = 1
    clear = np.full((SIZE, SIZE, 4), 255, np.uint8)
    clear[..., 3] = SPOT * 255
    for name, picture in {
        "label 1 in blue": channel,
        "opacity": clear,
        "grey": SPOT * np.uint8(255),
        "1": SPOT * np.uint8(1),
    }.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
        yield f"PNG, {name}", f"{name}.png", SPOT, partial(read, folder / f"{name}.png"), 0
    for name, palette in {
        "black": [0] * 6,
        "red": [0, 0, 0, 255, 0, 0],
        "white ground": [255, 255, 255, 255, 0, 0],
    }.items():
        picture = Image.fromarray(SPOT.astype(np.uint8)).convert("P")
        picture.putpalette(palette)
        picture.save(folder / f"palette {name}.png")
        yield f"palette, {name}", f"palette {name}.png", SPOT, partial(read, folder / f"palette {name}.png"), 0
    for quality in (50, 75, 95):
        Image.fromarray(SPOT * np.uint8(255)).save(folder / f"{quality}.jpg", quality=quality)
        yield (
            f"JPEG of quality {quality}",
            f"{quality}.jpg",
            SPOT,
            partial(share, read, folder / f"{quality}.jpg"),
            0.02,
        )
    clear[..., 3] = 0
    Image.fromarray(clear).save(folder / "clear.png")
    yield "PNG, clear throughout", "clear.png", SPOT & False, partial(read, folder / "clear.png"), 0
    edge = np.repeat(np.repeat(SPOT[::2, ::2], 2, 0), 2, 1)
    shades = np.round(gaussian_filter(edge.astype(float), 0.5) * 4) * 60
    np.save(folder / "shades.npy", shades)
    yield "few shades", "shades.npy", shades > 120, partial(read, folder / "shades.npy"), 0
    dicom(folder / "mask.dcm", SPOT.astype(np.uint8))
    yield "DICOM", "mask.dcm", SPOT, partial(read, folder / "mask.dcm"), 0
    for value in (254, 128, 7):
        Image.fromarray(SPOT * np.uint8(value)).save(folder / f"inside {value}.png")
        yield f"0 and {value}", f"inside {value}.png", SPOT, partial(read, folder / f"inside {value}.png"), 0
    np.save(folder / "65535.npy", SPOT * np.uint16(65535))
    yield "0 and 65535", "65535.npy", SPOT, partial(read, folder / "65535.npy"), 0
    Image.fromarray(SPOT).save(folder / "bits.png")
    yield "1 bit", "bits.png", SPOT, partial(read, folder / "bits.png"), 0
    Image.fromarray(SPOT).save(folder / "bits.tif", compression="group4")
    yield "1 bit in TIFF", "bits.tif", SPOT, partial(read, folder / "bits.tif"), 0
    tifffile.imwrite(folder / "white.tif", ~SPOT * np.uint8(255), photometric="miniswhite")
    yield "TIFF whose white is zero", "white.tif", SPOT, partial(read, folder / "white.tif"), 0
    tifffile.imwrite(folder / "pages.tif", np.stack([SPOT, SPOT]).astype(np.uint8), photometric="minisblack")
    yield "a mask of two pages", "pages.tif", REFUSED, partial(read, folder / "pages.tif"), 0
    np.save(folder / "below.npy", np.where(SPOT, 0, -1024).astype(np.int16))
    yield "0 inside -1024", "below.npy", REFUSED, partial(read, folder / "below.npy"), 0
    for name, settings in {"a value": {"inside": (255.0,)}, "regions": {"regions": ((255,), (128,))}}.items():
        yield f"{name} of a JPEG", "75.jpg", REFUSED, partial(read, folder / "75.jpg", **settings), 0
    halves = SPOT * np.where(np.arange(SIZE) < 28, 1, 2).astype(np.uint8)
    for bits in (2, 4):
        packed = sum(halves[:, at :: 8 // bits] << (8 - bits * (at + 1)) for at in range(8 // bits)).astype(np.uint8)
        png(folder / f"{bits} bits.png", 0, packed[..., None], bits, SIZE)
        for name, settings, right in (("labels", {}, SPOT), ("label 2", {"inside": (2.0,)}, halves == 2)):
            yield (
                f"{name} of {bits} bits",
                f"{bits} bits.png",
                right,
                partial(read, folder / f"{bits} bits.png", **settings),
                0,
            )
    strange = {
        "an image": GREY, "-1, 0, 1": np.where(SPOT, np.where(GREY > 99, 1, -1), 0), "1 and 2": np.where(SPOT, 2, 1),
        "0, 128, 255": np.where(SPOT, np.where(np.arange(SIZE) < 25, 255, 128), 0), "nan": np.where(SPOT, 1, np.nan),
        "another shape": SPOT[:-8], "0, 1, 255": np.where(SPOT, np.where(GREY > 99, 255, 1), 0), "117 labels": np.where(SPOT, GREY % 117, 0),
        "a trimap": np.where(SPOT, 1, np.where(np.arange(SIZE) < 40, 2, 3)),
    }  # fmt: skip
    for name, values in strange.items():
        np.save(folder / f"{name}.npy", values)
        yield f"ambiguous: {name}", f"{name}.npy", REFUSED, partial(read, folder / f"{name}.npy"), 0
    Image.fromarray(SPOT * np.uint8(3)).save(folder / "labels.jpg")
    yield "labels in a JPEG", "labels.jpg", REFUSED, partial(read, folder / "labels.jpg"), 0
    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    white[SPOT, 1:] = 0
    Image.fromarray(white).save(folder / "red on white.png")
    yield "red on white", "red on white.png", REFUSED, partial(read, folder / "red on white.png"), 0


def share(read, path):
    """A mask in which up to one pixel in a hundred may differ."""
    inside = read(path)
    return SPOT if (inside != SPOT).mean() < 0.01 else inside


def places(folder):
    volume = np.zeros((SIZE, SIZE, 4), np.uint8)
    volume[:12, :20] = 200
    lps, drawn = np.diag([-1.0, -1.0, 1.0, 1.0]), (volume > 0).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(volume, lps), folder / "scan.nii")
    right = image(folder / "scan.nii", number=1) > 0.5
    moved, wide = lps.copy(), np.diag([-1.0, -1.0, 3.0, 1.0])
    moved[0, 3] = 4
    for name, affine, expected in (
        ("same", lps, right), ("identity", np.eye(4), REFUSED), ("moved", moved, REFUSED), ("wide", wide, REFUSED),
        ("mirrored", np.diag([1.0, -1, 1, 1]), REFUSED), ("none", None, REFUSED),
    ):  # fmt: skip
        path = folder / f"{name}.nii"
        nibabel.save(nibabel.Nifti1Image(drawn, affine), path)
        read = partial(outline, folder / "scan.nii", path, number=1)
        yield f"NIfTI, {name}", path.name, expected, read, 0
        if name in ("identity", "none"):
            yield f"NIfTI, {name}, ignored", path.name, right, partial(read, geometry="ignore"), 0
    for orientation in ("RAS", "PIR", "SAL"):
        path = folder / f"{orientation}.nii"
        to = nibabel.orientations.axcodes2ornt(orientation)
        source = nibabel.Nifti1Image(drawn, lps)
        turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(lps), to)
        nibabel.save(source.as_reoriented(turn), path)
        yield f"NIfTI in {orientation}", path.name, right, partial(outline, folder / "scan.nii", path, number=1), 0
    place = {
        "ImagePositionPatient": [0, 0, 5],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.5],
    }
    place |= {"FrameOfReferenceUID": "1.2.3"}
    dicom(folder / "scan.dcm", GREY, **place)
    for name, tags, expected in (
        ("same", {}, SPOT), ("another frame", {"FrameOfReferenceUID": "1.2.4"}, REFUSED), ("moved", {"ImagePositionPatient": [0, 9, 5]}, REFUSED),
        ("spacing", {"PixelSpacing": [0.5, 0.7]}, REFUSED), ("turned", {"ImageOrientationPatient": [-1, 0, 0, 0, 1, 0]}, REFUSED),
        ("no position", {"ImagePositionPatient": None}, REFUSED),
    ):  # fmt: skip
        path = folder / f"{name}.dcm"
        dicom(path, SPOT.astype(np.uint8), **(place | tags))
        yield f"DICOM, {name}", path.name, expected, partial(outline, folder / "scan.dcm", path), 0


def links(folder):
    away = folder / "away.png"
    Image.fromarray(GREY).save(away)

    def read(name, root, file, **settings):
        dataset = params.study(dataset={"name": name, "root": str(root), "size": SIZE, **settings}).dataset
        return data.images_of(pd.DataFrame({"path": [str(root / file)], "mask_path": "", "slice": 0}), dataset)[0][0]

    metadata = {
        "table": "cohort.csv",
        "nih": "Data_Entry_2017_v2020.csv",
        "lgg": "kaggle_3m/data.csv",
        "ucsf_pdgm": "UCSF-PDGM-metadata_v5.csv",
        "chexpert": "CheXpert-v1.0-small/train.csv",
    }
    for name, file in metadata.items():
        root = folder / name
        (root / file).parent.mkdir(parents=True)
        for one in (file, "CHEXPERT DEMO.xlsx"):
            (root / one).touch()
        (root / "out.png").symlink_to(away)
        (root / "folder").symlink_to(folder)
        (root / "loop.png").symlink_to(root / "loop.png")
        (root / "lost.png").symlink_to(root / "nowhere.png")
        for at in ("out.png", "folder/away.png", "loop.png", "lost.png"):
            yield f"{name}, {at}", at, REFUSED, partial(read, name, root, at), 0
    Image.fromarray(GREY).save(folder / "table" / "there.png")
    (folder / "table" / "within.png").symlink_to(folder / "table" / "there.png")
    yield (
        "a link within the folder",
        "within.png",
        unit(GREY),
        partial(read, "table", folder / "table", "within.png"),
        1e-3,
    )
    yield (
        "a link that may be followed",
        "out.png",
        unit(GREY),
        partial(read, "table", folder / "table", "out.png", links="follow"),
        1e-3,
    )


def damage(folder):
    makers = {
        "png": lambda path: Image.fromarray(GREY).save(path), "jpg": lambda path: Image.fromarray(GREY).save(path),
        "tif": lambda path: Image.fromarray(GREY).save(path), "npy": lambda path: np.save(path, GREY), "dcm": lambda path: dicom(path, GREY),
        "nii": lambda path: nifti(path, GREY[..., None]), "nii.gz": lambda path: nifti(path, GREY[..., None]),
    }  # fmt: skip
    for suffix, make in makers.items():
        make(folder / f"whole.{suffix}")
        whole = (folder / f"whole.{suffix}").read_bytes()
        for name, content in {
            "empty": b"", "cut at a third": whole[: len(whole) // 3], "cut at the end": whole[: -len(whole) // 10], "text": b"no image\n" * 40,
        }.items():  # fmt: skip
            path = folder / f"{name}.{suffix}"
            path.write_bytes(content)
            yield f"{suffix}, {name}", path.name, REFUSED, partial(image, path), 0
        (folder / f"folder.{suffix}").mkdir()
        yield f"{suffix}, a folder", f"folder.{suffix}", REFUSED, partial(image, folder / f"folder.{suffix}"), 0
        yield f"{suffix}, missing", f"missing.{suffix}", REFUSED, partial(image, folder / f"missing.{suffix}"), 0
    for name, content in {
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n", "zip.npy": b"PK\x03\x04" + bytes(60),
        "html.dcm": b"<html>not found</html>", "pickle.npy": b"\x80\x04}.", "gif.png": b"GIF89a" + bytes(40),
    }.items():  # fmt: skip
        (folder / name).write_bytes(content)
        yield name, name, REFUSED, partial(image, folder / name), 0
    with (folder / "lying.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (90_000, 90_000)})
    header = nibabel.Nifti1Header()
    header.set_data_shape((30_000, 30_000, 30_000))
    (folder / "lying.nii").write_bytes(header.binaryblock + bytes(4))
    for suffix in ("npy", "nii"):
        yield f"{suffix}, lying header", f"lying.{suffix}", REFUSED, partial(image, folder / f"lying.{suffix}"), 0


def tables(folder):
    def dataset(**settings):
        return params.study(dataset={"name": "table", "root": str(folder), **settings}).dataset

    def column(name, text, file, **settings):
        (folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())
        values = dataset(file=file, **settings).read_table()[name]
        return ["?" if pd.isna(value) else value for value in values]

    def csv(**columns):
        rows = {"path": [f"{at}.png" for at in range(4)], "patient_id": list("abcd"), "sex": list("FMFM"), "age": list("4567"),
                "race": list("AABB"), "label": list("0101")}  # fmt: skip
        return pd.DataFrame(rows | columns)

    def entry(name, right, what, settings=None, text=None, suffix="csv", **columns):
        file = f"{len(list(folder.iterdir()))}.{suffix}"
        text = csv(**columns).to_csv(index=False) if text is None else text
        (folder / file).touch()
        return what, file, right, partial(column, name, text, file, **(settings or {})), 0

    sexes = ["female", "male", "female", "male"]
    for mark, coding, end in product(",;\t", ("utf-8", "utf-8-sig", "utf-16"), ("\n", "\r\n")):
        text = csv().to_csv(index=False, sep=mark, lineterminator=end).encode(coding)
        yield entry("sex", sexes, f"columns parted by {mark!r}, {coding}, {end!r}", text=text)
    trailing = "".join(f"{line},\n" for line in csv().to_csv(index=False).splitlines())
    yield entry("patient_id", list("abcd"), "trailing commas", text=trailing)
    yield entry(
        "patient_id",
        list("abcd"),
        "trailing commas below the header alone",
        text=trailing.replace("label,", "label", 1),
    )
    yield entry("sex", sexes, "blank rows", text=csv().to_csv(index=False).replace("\n", "\n,,,,,\n\n"))
    yield entry("sex", REFUSED, "a row too long", text=csv().to_csv(index=False) + "e,e,F,5,A,0,1\n")
    yield entry("sex", REFUSED, "a row too short", text=csv().to_csv(index=False) + "e,e,F\n")
    yield entry("sex", REFUSED, "latin-1", text=csv(race=["é"] * 4).to_csv(index=False).encode("latin-1"))
    yield entry("sex", REFUSED, "empty", text="")
    yield entry("sex", REFUSED, "a header alone", text=csv()[:0].to_csv(index=False))
    yield entry("sex", REFUSED, "two columns of one name", text=csv().to_csv(index=False).replace("race", "sex"))
    yield entry(
        "sex",
        REFUSED,
        "two columns but for case",
        text=csv().to_csv(index=False).replace("race", "Sex"),
        settings={"race": None},
    )
    for given in ("F,M,F,M", "f,m,female,male", " Female,MALE ,F ,m", "F\u00a0,M,F,M"):
        yield entry("sex", sexes, f"sex {given!r}", sex=given.split(","))
    yield entry("sex", REFUSED, "an unexplained sex", sex=["F", "M", "div", "M"])
    for unknown in ("", "NA", "nan", "None", "unknown", " N/A"):
        yield entry("sex", ["?", "male", "female", "male"], f"sex {unknown!r}", sex=[unknown, "M", "F", "M"])
    for given in (["a", "a ", "A", "d"], [" a", "a", "a\u200b", "d"]):
        same = {"sex": list("FFFM"), "age": ["4", "4", "4", "7"], "race": list("AAAB"), "label": list("0001")}
        yield entry(
            "patient_id",
            [given[-1] if at == 3 else "a" for at in range(4)],
            f"patients {given}",
            patient_id=given,
            **same,
        )
    for nobody in ("", " ", "nan", "NaN", "None", "null"):
        yield entry("patient_id", REFUSED, f"a patient called {nobody!r}", patient_id=["a", nobody, "c", "d"])
    yield entry("patient_id", ["007", "7", "c", "d"], "leading zeros", patient_id=["007", "7", "c", "d"])
    yield entry(
        "race",
        ["White"] * 2 + ["B"] * 2,
        "White and white",
        race=["White", "white ", "B", "b"],
        settings={"patient": "path"},
    )
    values = {"column": "race", "values": {"NA": "Native", "None": "none", "B": "B"}}
    yield entry(
        "race",
        ["Native", "none", "B", "B"],
        "groups called NA and None",
        race=["NA", "None", "B", "B"],
        settings={"race": values},
    )
    for given, right in {"058Y": 58, "18M": 1.5, "58,5": 58.5, "58.0": 58, " 58": 58, "unknown": "?"}.items():
        yield entry("age", [right, 5, 6, 7], f"age {given!r}", age=[given, "5", "6", "7"])
    for given, right in {"45yo": 45, "6 mos": 0.5, "18 mo": 1.5}.items():
        yield entry("age", [right, 5, 6, 7], f"age {given!r}", age=[given, "5", "6", "7"])
    for given in ("000Y", "0", "-1", "414", "old", "1e3"):
        yield entry("age", REFUSED, f"age {given!r}", age=[given, "5", "6", "7"])
    yield entry(
        "age",
        ["?", 5, 6, 7],
        "000Y: null",
        age=["000Y", "5", "6", "7"],
        settings={"age": {"column": "age", "values": {"000Y": None}}},
    )
    for given, right in {"1.0": 1, "0": 0, "-1": "?", "": "?"}.items():
        yield entry("label", [right, 1, 0, 1], f"label {given!r}", label=[given, "1", "0", "1"])
    for given in ("2", "yes", "0.5"):
        yield entry("label", REFUSED, f"label {given!r}", label=[given, "1", "0", "1"])
    for given in ("../b.png", "/etc/b.png", "x/../../b", r"C:\b.png", "", "0.png"):
        yield entry("path", REFUSED, f"path {given!r}", path=["0.png", given, "2.png", "3.png"])
    yield entry("sex", ["female"], "rows that are wanted", view=["PA", "ap", "LL", "PA"], settings={"where": {"view": "AP"}, "sex": "race", "race": None},
                race=["M", "F", "M", "M"])  # fmt: skip
    yield entry("sex", REFUSED, "rows that nobody has", settings={"where": {"race": ["C"]}})
    yield entry("sex", REFUSED, "a column that is not there", settings={"keep": ["Scanner"]})
    yield entry("label", [0, 1, 0, 1], "line ends of old Macs", text=csv().to_csv(index=False, lineterminator="\r"))
    yield entry("age", [58, 5, 6, 7], "digits of full width", age=["\uff15\uff18", "5", "6", "7"])
    yield entry("label", REFUSED, "a row that differs twice", path=["0.png", "1.png", "2.png", "1.png"])
    twice = pd.concat([csv(), csv()[1:2]]).to_csv(index=False)
    yield entry("label", [0, 1, 0, 1], "a row that is there twice", text=twice)
    yield entry("label", REFUSED, "labels of a patient that differ", patient_id=["a", "a ", "c", "d"], sex=list("FFFM"))
    yield entry("race", ["A, B", "A, B", "C;D", "C;D"], "separators in quotes", race=["A, B", "A, B", "C;D", "C;D"])
    yield entry(
        "race", ["<img src=x>", "=1+1", "$x$", "\u00e9"], "markup", race=["<img src=x>", "=1+1", "$x$", "e\u0301"]
    )
    yield entry("sex", REFUSED, "a quote that is left open", text=csv().to_csv(index=False).replace("0.png", '"0.png'))
    yield entry("sex", REFUSED, "NUL", text=csv().to_csv(index=False).replace("0.png", "0\0.png"))
    same = {"patient_id": ["a"] * 2 + ["c", "d"], "sex": list("FFFM"), "age": list("4467"), "label": list("0001")}
    for one, other in (("12", "12.0"), ("P-1", "P\u20131"), ("P1", "p1\u200f"), ("P\u00a01", "P 1"), ("\uff301", "P1")):
        given = [one, other, "c", "d"]
        text = csv(**same | {"patient_id": given}).to_csv(index=False)
        file, read = "entry", partial(lambda text, file: len(set(column("patient_id", text, file))), text)
        file = f"{len(list(folder.iterdir()))}.csv"
        (folder / file).touch()
        yield f"patients {given[:2]}", file, 3, partial(read, file), 0
    for given in ("#N/A", "-", ".", "1.23457E+11", "not reported"):
        yield entry("patient_id", REFUSED, f"a patient called {given!r}", patient_id=["a", given, "c", "d"])
    for given in ("#N/A", "#REF!", "-", ".", "?", "n.a.", "missing", "\u200b"):
        yield entry("race", ["?", "A", "B", "B"], f"race {given!r}", race=[given, "A", "B", "B"])
    for given in ("wh\u00adite", "White\u200e", "White\u3000", "\uff37hite", "W\u200bhite", "WHITE\u2028"):
        yield entry(
            "race",
            ["White", "White", "White", "B"],
            f"White and {given!r}",
            race=["White", "White", given, "B"],
            patient_id=list("abcd"),
        )
    dashes = ["Non-Hispanic", "Non\u2011Hispanic", "Non-Hispanic", "Non\u2013Hispanic"]
    yield entry("race", ["Non-Hispanic"] * 4, "four dashes", race=dashes)
    for given, right in {
        "45Y": 45,
        "45 years": 45,
        "45 yrs": 45,
        "6 months": 0.5,
        "\uff14\uff15": 45,
        "\u0664\u0665": 45,
        "45,50": 45.5,
    }.items():
        yield entry("age", [right, 5, 6, 7], f"age {given!r}", age=[given, "5", "6", "7"])
    for given in ("90+", ">89", "40-50", "1975-03-02", "-45", "45 50", "4\u00bd", "forty", "999", "inf", "1975"):
        yield entry("age", REFUSED, f"age {given!r}", age=[given, "5", "6", "7"])
    for given in ("w", "weiblich", "1", "0", "X", "F/M", "femme", "\u2640"):
        yield entry("sex", REFUSED, f"sex {given!r}", sex=[given, "M", "F", "M"])
    for given, right in {"TRUE": 1, "false": 0, "\u22121": "?", "1,0": 1, " 0 ": 0, "#N/A": "?"}.items():
        yield entry("label", [right, 1, 0, 1], f"label {given!r}", label=[given, "1", "0", "1"])
    for given in ("positive", "10", "1e0", "+", "1;0", "0.999"):
        yield entry("label", REFUSED, f"label {given!r}", label=[given, "1", "0", "1"])
    yield entry(
        "age",
        [58.5, 5, 6, 7],
        "semicolons and decimal commas",
        text=csv(age=["58,5", "5", "6", "7"]).to_csv(index=False, sep=";"),
    )
    for given in (
        "Whit\u0435",
        "Wh\u0456te",
        "Whi\x07te",
        "White\x7f",
        "White\ufe0f",
        "White\u3164",
        "White\u2800",
        "W\u034fhite",
    ):
        yield entry("race", ["White"] * 3 + ["B"], f"White and {given!r}", race=["White", "White", given, "B"])
    for given in ("O\u02bcBrien", "O\u2018Brien", "O\u00b4Brien", "O`Brien"):
        yield entry("race", ["O'Brien"] * 3 + ["B"], f"O'Brien and {given!r}", race=["O'Brien", "O'Brien", given, "B"])
    for given in (
        "\\N",
        "(null)",
        "<null>",
        "#N/A N/A",
        "1.#QNAN",
        "(blank)",
        "\u2026",
        "??",
        "unk",
        "not known",
        "#SPILL!",
    ):
        yield entry("race", ["?", "A", "B", "B"], f"race {given!r}", race=[given, "A", "B", "B"])
        yield entry("patient_id", REFUSED, f"a patient called {given!r}", patient_id=["a", given, "c", "d"])
    for given in ("1.2e+11", "1e+05"):
        yield entry("patient_id", REFUSED, f"a patient called {given!r}", patient_id=["a", given, "c", "d"])
    for given, right in {".5": 0.5, "58.": 58, "\u0665\u0668 years": 58}.items():
        yield entry("age", [right, 5, 6, 7], f"age {given!r}", age=[given, "5", "6", "7"])
    yield entry("sex", ["male", "male", "female", "male"], "a Cyrillic M", sex=["\u041c", "M", "F", "M"])
    for one, other in (("0.png", "./0.png"), ("x/0.png", "x//0.png"), ("x/0.png", "x\\0.png")):
        yield entry("path", REFUSED, f"paths {one!r} and {other!r}", path=[one, other, "2.png", "3.png"])
    numbers = {"attributes": {"bmi": {"column": "bmi", "cuts": "median"}}}
    for given, right in (
        (["12,500", "1,000", "3", "4"], REFUSED), (["12,500", "0,5", "3", "4"], [12.5, 0.5, 3, 4]), (["inf", "2", "3", "4"], REFUSED),
        (["1e400", "2", "3", "4"], REFUSED), (["1.234,5", "2", "3", "4"], REFUSED), (["1'000", "2", "3", "4"], REFUSED),
    ):  # fmt: skip
        yield entry("bmi_value", right, f"numbers {given}", settings=numbers, bmi=given)
    plain = csv().to_csv(index=False)
    for name, text in {
        "a title above the header": "Export of the clinic\n" + plain, "a comment above the header": "# 2024-01-01, v2\n" + plain,
        "bars between columns": plain.replace(",", "|"), "UTF-16 without a mark": plain.encode("utf-16-le"), "UTF-32": plain.encode("utf-32"),
        "commas above, semicolons below": plain.split("\n")[0] + "\n" + plain.split("\n", 1)[1].replace(",", ";"), "cp1252": plain.replace("A", "\u2019").encode("cp1252"),
        "decimal commas without quotes": plain.replace(",4,", ",4,5,"), "a page of HTML": "<html><body><table><tr><td>path</td></tr></table></body></html>",
        "JSON": csv().to_json(orient="records"), "quotes escaped by a bar": plain.replace("a,F", '"a\\"b",F'), "sex and SEX": plain.replace("race", "SEX"),
        "units in the header": plain.replace("age", "age (years)"), "a header that is repeated below": plain + plain.split("\n")[0] + "\n",
    }.items():  # fmt: skip
        yield entry("sex", REFUSED, name, text=text)
    for name, text in {
        "blanks around names of columns": plain.replace("sex,", " sex ,"), "a column without a name": "\n".join(f"{at if at else ''},{line}" for at, line in enumerate(plain.splitlines())),
        "quotes around everything": csv().to_csv(index=False, quoting=1), "a mark of UTF-8 and quotes": "\ufeff" + csv().to_csv(index=False, quoting=1),
        "no last line end": plain.rstrip(), "blank lines first": "\n\n" + plain, "blanks after separators": plain.replace(",", ", "), "a column that is empty": "".join(f"{line},{'more' if not at else ''}\n" for at, line in enumerate(plain.splitlines())),
        "line ends within quotes": csv(race=["A\nA"] * 4).to_csv(index=False), "quotes within quotes": csv(race=['A "A"'] * 4).to_csv(index=False),
        "a line that names the separator": "sep=;\n" + plain.replace(",", ";"), "the letters of Windows": csv(race=["\u00e9"] * 4).to_csv(index=False).encode("utf-8-sig"),
    }.items():  # fmt: skip
        yield entry("sex", sexes, name, text=text)
    for given in ("not applicable", "Declined", "Unknown or Not Reported", "no data", "Patient Refused"):
        yield entry("race", ["?", "A", "B", "B"], f"race {given!r}", race=[given, "A", "B", "B"])
    for given in ('"', "\u3003", "ditto", "''"):
        yield entry("race", REFUSED, f"race {given!r}", race=["A", given, "B", "B"])
    yield entry("race", ["?", "A", "B", "B"], "race '####'", race=["####", "A", "B", "B"])
    for given in ("ANONYMOUS", "anon", "####", "***", "xxx"):
        yield entry("patient_id", REFUSED, f"a patient called {given!r}", patient_id=["a", given, "c", "d"])
    quoted = csv(patient_id=[f'="{patient}"' for patient in "abcd"]).to_csv(index=False, quoting=3, escapechar="\\")
    yield entry("patient_id", list("abcd"), "text for a spreadsheet", text=quoted.replace("\\", ""))
    yield entry("sex", sexes, "the end of a file of DOS", text=plain + "\x1a")
    header, *lines = plain.splitlines()
    for at, name in ((4, "a column within"), (5, "the last column"), (1, "the second column")):
        marked = [line.split(",") for line in lines]
        for row in marked[1:3]:
            row[at] = '"'
        yield entry(
            "patient_id",
            REFUSED,
            f"quotes for what stands above, {name}",
            text="\n".join([header, *map(",".join, marked)]) + "\n",
        )
    yield entry("label", [0, 1, 0, 1], "labels that YAML takes for truth", label=["off", "on", "off", "on"],
                settings={"tasks": {"label": {"column": "label", "labels": {False: 0, True: 1}}}})  # fmt: skip
    for name, change in {"formula": ("F3", "=IF(D3>4,1,0)"), "merged": ("E3", None)}.items():
        book = openpyxl.Workbook()
        for row in [csv().columns.tolist(), *csv().to_numpy().tolist()]:
            book.active.append(row)
        book.active[change[0]] = change[1]
        if name == "merged":
            book.active.merge_cells("E2:E3")
        book.save(folder / f"{name}.xlsx")
        right = ["A", "A", "B", "B"] if name == "merged" else REFUSED
        read = partial(column, "race", (folder / f"{name}.xlsx").read_bytes(), f"{name}.xlsx")
        yield f"Excel, {name}", f"{name}.xlsx", right, read, 0
    book = openpyxl.Workbook()
    book.active.append(["path", "patient_id", "sex", "age", "race", "label"])
    book.active.append(["9.png", "z", "M", "99", "Z", "0"])
    book.active.sheet_state = "hidden"
    shown = book.create_sheet("people")
    for row in [csv().columns.tolist(), *csv().to_numpy().tolist()]:
        shown.append(row)
    book.active = 1
    book.save(folder / "hidden.xlsx")
    yield (
        "Excel, a hidden sheet first",
        "hidden.xlsx",
        sexes,
        partial(column, "sex", (folder / "hidden.xlsx").read_bytes(), "hidden.xlsx"),
        0,
    )
    dates = csv().assign(patient_id=pd.date_range("2024-03-01", periods=4))
    dates.to_excel(folder / "dates.xlsx", index=False)
    days = [f"2024-03-0{at}" for at in range(1, 5)]
    first = partial(
        lambda: [value[:10] for value in column("patient_id", (folder / "dates.xlsx").read_bytes(), "dates.xlsx")]
    )
    yield "Excel, days as ids", "dates.xlsx", days, first, 0
    numbers = csv().assign(patient_id=[1.0, 2.0, 3.0, 4.0], label=[False, True, False, True])
    numbers.to_excel(folder / "numbers.xlsx", index=False)
    whole = (folder / "numbers.xlsx").read_bytes()
    for name, right in {"patient_id": list("1234"), "label": [0, 1, 0, 1]}.items():
        yield (
            f"Excel, numbers and truth values as {name}",
            "numbers.xlsx",
            right,
            partial(column, name, whole, "numbers.xlsx"),
            0,
        )
    for share in (2, 20):
        yield (
            f"Excel, cut at 1 in {share}",
            f"cut{share}.xlsx",
            REFUSED,
            partial(column, "sex", whole[: len(whole) // share], f"cut{share}.xlsx"),
            0,
        )
    csv(label=[0, 1, 0, 1]).astype({"label": bool, "race": "category"}).to_parquet(folder / "categories.parquet")
    for name, right in {"label": [0, 1, 0, 1], "race": list("AABB")}.items():
        yield (
            f"Parquet, {name} of another type",
            "categories.parquet",
            right,
            partial(column, name, (folder / "categories.parquet").read_bytes(), "categories.parquet"),
            0,
        )
    csv(sex=[["F"], ["M"], ["F"], ["M"]]).to_parquet(folder / "lists.parquet")
    yield (
        "Parquet, a list in each cell",
        "lists.parquet",
        REFUSED,
        partial(column, "sex", (folder / "lists.parquet").read_bytes(), "lists.parquet"),
        0,
    )

    def drawn(text):
        (folder / "drawn.csv").write_text(text)
        return data.cohort_table(params.study(dataset={"name": "table", "root": str(folder), "file": "drawn.csv"}))

    many = pd.DataFrame(
        {
            "path": [f"{at}.png" for at in range(100)],
            "patient_id": range(100),
            "sex": list("FM") * 50,
            "age": 50,
            "race": "A",
        }
    )
    for name, named, changes in (
        ("labels of one value", "'label'", {"label": 1}), ("no label at all", "'label'", {"label": ""}), ("one patient", "split", {"patient_id": "a", "sex": "F", "label": 1}),
        ("a patient of two sexes", "'7'", {"patient_id": [7, 7, *range(10, 108)], "label": [0, 0, *[0, 1] * 49]}),
    ):  # fmt: skip
        yield name, named, REFUSED, partial(drawn, many.assign(**changes).to_csv(index=False)), 0
    typed = csv(age=[4.0, np.nan, 6.0, 7.0], label=[0.0, 1.0, np.nan, 1.0])
    typed.to_parquet(folder / "typed.parquet")
    typed.to_excel(folder / "typed.xlsx", index=False)
    for file in ("typed.parquet", "typed.xlsx"):
        read = partial(column, "age", (folder / file).read_bytes(), file)
        yield file, file, [4, "?", 6, 7], read, 0
        read = partial(column, "sex", b"no table", f"no.{file}")
        yield f"no {file}", f"no.{file}", REFUSED, read, 0


def scores(folder):
    def numbers(path, low, high):
        sheet = Sheet.open(path)
        sheet.need(["score"])
        values = sheet.numbers("score", low, high)
        sheet.check()
        return values.fillna(-1).tolist()

    texts = {
        "points": ("id,score\na,0.5\nb,\n", [0.5, -1]), "commas": ("id;score\na;0,5\nb;\n", [0.5, -1]), "tabs": ("id\tscore\na\t.5\nb\tNA\n", [0.5, -1]),
        "exponents": ("id,score\na,5e-1\nb,nan\n", [0.5, -1]), "quotes": ('id,score\n"a, b","0.5"\nb,\n', [0.5, -1]),
        "too large": ("id,score\na,1.5\n", REFUSED), "words": ("id,score\na,high\n", REFUSED), "inf": ("id,score\na,inf\n", REFUSED),
        "thousands": ("id;score\na;1,234,5\n", REFUSED), "no column": ("id,Score\na,1\n", REFUSED), "percent": ("id,score\na,50%\n", REFUSED),
        "percent with a comma": ("id;score\na;45,5%\n", REFUSED), "below zero": ("id,score\na,-0.1\n", REFUSED), "a minus of typesetters": ("id,score\na,\u22120.1\n", REFUSED),
        "truth values": ("id,score\na,True\n", REFUSED), "hexadecimal": ("id,score\na,0x1\n", REFUSED), "complex": ("id,score\na,1j\n", REFUSED), "errors of a spreadsheet": ("id,score\na,#DIV/0!\nb,0.5\n", [-1, 0.5]),
        "digits of full width": ("id,score\na,\uff10.\uff15\n", [0.5]), "blanks around": ("id,score\na, 0.5 \nb,1\n", [0.5, 1]), "exponents with a comma": ("id;score\na;5,0E-1\n", [0.5]),
        "an underscore": ("id,score\na,1_0\n", REFUSED), "bounds": ("id,score\na,less than 0.1\n", REFUSED), "many digits": ("id,score\na,0.30000000000000004\n", [0.30000000000000004]),
    }  # fmt: skip
    for name, (text, right) in texts.items():
        path = folder / f"{name}.csv"
        path.write_text(text, encoding="utf-8")
        yield name, path.name, right, partial(numbers, path, 0, 1), 1e-9

    def groups(change, file):
        people = pd.DataFrame(
            {"patient": list("abcd"), "sex": list("FMFM"), "label": [0, 1, 0, 1], "score": [0.1, 0.9, 0.2, 0.8]}
        )
        change(people).to_csv(folder / file, index=False)
        rows = read_scores(folder / file)[0]
        return [rows.label.tolist(), [name for name in rows if name in ("sex", "", "Unnamed: 0", "index")]]

    usual = [[0, 1, 0, 1], ["sex"]]
    for name, right, change in (
        ("labels of pandas", usual, lambda t: t.assign(label=t.label.astype(bool))), ("numbers of rows", usual, lambda t: t.reset_index().rename(columns={"index": ""})),
        ("numbers of rows, named by pandas", usual, lambda t: t.reset_index().rename(columns={"index": "Unnamed: 0"})), ("two columns of patients", REFUSED, lambda t: t.assign(patient_id=t.index)),
        ("a trait called class", REFUSED, lambda t: t.assign(**{"class": "I"})), ("a trait called kind", REFUSED, lambda t: t.assign(kind="a")),
        ("a trait called decision", REFUSED, lambda t: t.assign(decision=1)), ("scores that are all empty", REFUSED, lambda t: t.assign(score="")),
    ):  # fmt: skip
        yield f"judged, {name}", f"{name}.csv", right, partial(groups, change, f"{name}.csv"), 0


def publishers(folder):
    def read(name, column, root):
        rows = params.study(dataset={"name": name, "root": str(root)}).dataset.read_table()
        return ["?" if pd.isna(value) else value for value in rows[column]]

    clinical = {"gender": ["1", "2"], "age_at_initial_pathologic": ["30", "60"], "race": ["2", "3"], "neoplasm_histologic_grade": ["1", "2"],
                "histological_type": ["1", "3"], "Patient": ["TCGA_AA_1", "TCGA_AA_2"]}  # fmt: skip
    for number, (name, column, right, change) in enumerate((
        ("codes", "sex", ["female", "male"], {}), ("words", "sex", ["female", "male"], {"gender": ["Female ", "m"]}),
        ("decimals", "race", ["Black", "White"], {"race": ["2.0", "3.0"]}), ("words", "race", ["Black", "White"], {"race": ["black", "WHITE"]}),
        ("blanks", "sex", ["?", "male"], {"gender": ["", "2"]}), ("another code", "sex", REFUSED, {"gender": ["3", "2"]}),
        ("a patient twice", "sex", REFUSED, {"Patient": ["TCGA_AA_1", "TCGA_AA_1 "]}), ("barcodes", "sex", ["female", "male"], {"Patient": ["TCGA-AA-1", "tcga-aa-2"]}), ("another age", "age", REFUSED, {"age_at_initial_pathologic": ["old", "60"]}),
    )):  # fmt: skip
        root = folder / f"lgg{number}"
        for patient in ("TCGA_AA_1", "TCGA_AA_2"):
            (root / "kaggle_3m" / f"{patient}_1999").mkdir(parents=True)
            (root / "kaggle_3m" / f"{patient}_1999" / f"{patient}_1999_1.tif").touch()
        pd.DataFrame(clinical | change).to_csv(root / "kaggle_3m" / "data.csv", index=False)
        yield f"LGG, {name} of {column}", "data.csv", right, partial(read, "lgg", column, root), 0
    entries = {"Image Index": ["1_000.png", "2_000.png"], "Finding Labels": ["No Finding", "Effusion|Mass"], "Patient ID": ["1", "2"],
               "Patient Age": ["060Y", "58"], "Patient Gender": ["F", "M"]}  # fmt: skip
    for number, (name, column, right, change) in enumerate((
        ("letters", "sex", ["female", "male"], {}), ("words", "sex", ["female", "male"], {"Patient Gender": ["female", "Male "]}),
        ("another word", "sex", REFUSED, {"Patient Gender": ["F", "Mal"]}), ("ages", "age", [60, 58], {}), ("old ages", "age", [60, "?"], {"Patient Age": ["060Y", "414"]}),
        ("findings", "Effusion", [0, 1], {"Finding Labels": ["no finding", "effusion | mass"]}), ("nothing", "Effusion", ["?", 1], {"Finding Labels": ["", "Effusion"]}),
        ("another finding", "Effusion", REFUSED, {"Finding Labels": ["No Finding", "Effusions"]}), ("an image twice", "sex", REFUSED, {"Image Index": ["1.png", "1.png"]}),
        ("nobody", "sex", REFUSED, {"Patient ID": ["1", "nan"]}), ("no finding and one", "Abnormal", REFUSED, {"Finding Labels": ["No Finding|Mass", "Mass"]}),
    )):  # fmt: skip
        root = folder / f"nih{number}"
        root.mkdir()
        pd.DataFrame(entries | change).to_csv(root / "Data_Entry_2017_v2020.csv", index=False, sep=",;"[number % 2])
        yield f"NIH, {name} of {column}", "v2020.csv", right, partial(read, "nih", column, root), 0
    metadata = {"ID": ["UCSF-PDGM-004", "UCSF-PDGM-005"], "Sex": ["M", "F"], "Age at MRI": ["66", "80"], "WHO CNS Grade": ["4", "2"],
                "Final pathologic diagnosis (WHO 2021)": ["Glioblastoma", "Astrocytoma"]}  # fmt: skip
    for number, (name, column, right, change) in enumerate((
        ("letters", "sex", ["male", "female"], {}), ("words", "sex", ["male", "female"], {"Sex": ["Male", " female"]}), ("another word", "sex", REFUSED, {"Sex": ["W", "F"]}),
        ("another diagnosis", "type", REFUSED, {"Final pathologic diagnosis (WHO 2021)": ["GBM", "Astrocytoma"]}), ("decimals", "grade", [1, 0], {"WHO CNS Grade": ["4.0", "2.0"]}), ("another grade", "grade", REFUSED, {"WHO CNS Grade": ["5", "2"]}),
        ("a patient twice", "sex", REFUSED, {"ID": ["UCSF-PDGM-004", "UCSF-PDGM-0004"]}),
    )):  # fmt: skip
        root = folder / f"ucsf{number}"
        for patient in ("4", "5"):
            (root / f"UCSF-PDGM-000{patient}_nifti").mkdir(parents=True)
        pd.DataFrame(metadata | change).to_csv(root / "UCSF-PDGM-metadata_v5.csv", index=False)
        once = partial(lambda column, root: read("ucsf_pdgm", column, root)[::155], column, root)
        yield f"UCSF, {name} of {column}", "metadata_v5.csv", right, once, 0


def studies(folder):
    table = {"name": "table"}

    def built(**dataset):
        return params.study(dataset=table | dataset).dataset.name

    def loaded(text, key):
        path = folder / f"{abs(hash(text))}.yaml"
        path.write_text(text)
        value = params.load(path)
        for step in key.split("."):
            value = getattr(value, step)
        return value

    for key, right in (
        ("seed: true", REFUSED), ("seed: 1.5", REFUSED), ("seed: 1e3", 1000), ("seed: .inf", REFUSED), ("seed: 0x10", REFUSED), ("seed: 0o17", REFUSED), ("seed: 1_000", 1000), ("seed: \"7\"", REFUSED),
        ("seed: 2024-01-01", REFUSED), ("seed: [1]", REFUSED), ("seed: null", REFUSED), ("seed: -0", 0), ("seed: 7  # of the study", 7), ("{<<: {seed: 3}, name: table}", 3),
        ("<<: {seed: 3}", 3), ("<<: &usual {seed: 4}", 4), ("<<: [{seed: 5}, {seed: 6}]", 5), ("seed: 1\n  seed: 2", REFUSED), ("seed: !!int \"7\"", 7), ("seed: *nowhere", REFUSED),
        ("\tseed: 1", REFUSED), ("? seed\n  : 8", 8), ("\u200bseed: 1", REFUSED), ("seed : 9", 9), ("Seed: 9", REFUSED), ("seed\uff1a 9", REFUSED),
    ):  # fmt: skip
        text = f"dataset: {key}\n" if key.startswith("{") else f"dataset:\n  name: table\n  {key}\n"
        yield f"YAML, {key!r}", ".yaml", right, partial(loaded, text, "dataset.seed"), 0
    plain = "dataset:\n  name: table\n  seed: 5\n"
    for name, content, right in (
        ("latin-1", plain.encode() + "# caf\u00e9".encode("latin-1"), REFUSED), ("UTF-16", plain.encode("utf-16"), REFUSED), ("a mark of UTF-8", b"\xef\xbb\xbf" + plain.encode(), 5),
        ("line ends of Windows", plain.replace("\n", "\r\n").encode(), 5), ("two documents", (plain + "---\n" + plain).encode(), REFUSED), ("JSON", b'{"dataset": {"name": "table", "seed": 5}}', 5),
        ("NUL", plain.encode() + b"\0", REFUSED), ("an escape", plain.encode() + b"# \x1b[31m\n", REFUSED), ("a list of sections", b"[" + plain.encode() + b"]", REFUSED), ("an archive", b"PK\3\4" + bytes(40), REFUSED),
        ("a key of no name", plain.encode() + b"  : 1\n", REFUSED), ("a number as section", plain.encode() + b"noise: 8\n", REFUSED), ("a section that stands twice", (plain + plain).encode(), REFUSED),
    ):  # fmt: skip
        path = folder / f"{name}.yaml"
        path.write_bytes(content)
        yield name, path.name, right, partial(lambda path: params.load(path).dataset.seed, path), 0
    for name in (
        "with blank.yaml",
        "\u00fcber \u4e2d\u6587.yaml",
        "it's; $HOME & more.yaml",
        "-start.yaml",
        "no suffix",
    ):
        (folder / name).write_text(plain)
        yield (
            f"a params file called {name!r}",
            name,
            5,
            partial(lambda path: params.load(path).dataset.seed, folder / name),
            0,
        )
    (folder / "folder.yaml").mkdir()
    (folder / "loop.yaml").symlink_to(folder / "loop.yaml")
    for name in ("folder.yaml", "loop.yaml", "lost.yaml"):
        yield f"a params file called {name!r}", name, REFUSED, partial(params.load, folder / name), 0
    for word in ("image", "findings", "all", "kind", "group", "score", "split", "patient_id", "z_age"):
        yield f"a task called {word}", word, REFUSED, partial(built, tasks={word: "label"}), 0
    for word in ("path", "reader", "source", "Unit"):
        yield f"a column called {word}", word, REFUSED, partial(built, keep=[word]), 0
    yield "a task called label", "label", "table", partial(built, tasks={"label": "label"}), 0
    yield "tasks of one name", "Grade", REFUSED, partial(built, tasks={"Grade": "a", "grade": "b"}), 0
    yield "two meanings", "'m'", REFUSED, partial(built, sex={"column": "s", "values": {"M": "male", "m": "female"}}), 0
    yield "a file outside", "'../a.csv'", REFUSED, partial(built, file="../a.csv"), 0
    yield "a file of no known kind", "file", REFUSED, partial(built, file="a.doc"), 0
    yield "capitals", "file", "table", partial(built, file="A.CSV"), 0
    yield "no tasks", "tasks", REFUSED, partial(built, tasks={}), 0
    yield "an unknown fit", "fit", REFUSED, partial(built, fit="stretch"), 0
    yield "slices in disorder", "slices", REFUSED, partial(built, slices={"first": 5, "last": 2}), 0
    yield "an empty window", "range", REFUSED, partial(built, window=[5, 5]), 0
    for what, named, settings in (
        ("a brace without an end", "image", {"image": "{x"}), ("a brace without a name", "image", {"image": "{}"}), ("a fourth channel", "channel", {"channel": 3}),
        ("an age of 5000", "age", {"age": {"column": "a", "values": {"x": 5000}}}), ("a task of 99 letters", "tasks", {"tasks": {"x" * 99: "l"}}),
        ("a billion slices", "slices", {"slices": {"first": 0, "last": 10**9}}), ("a seed of 20 digits", "seed", {"seed": 10**20}),
    ):  # fmt: skip
        yield what, named, REFUSED, partial(built, **settings), 0
    for what, named, settings in (
        ("percentiles as shares", "[1, 99]", {"percentiles": [0.01, 0.99]}), ("a million folds", "1000", {"folds": 10**6}), ("a list of tasks", "{label: ...}", {"tasks": ["label"]}),
        ("a column that stands alone", "[site]", {"keep": "site"}),
    ):  # fmt: skip
        yield what, named, REFUSED, partial(built, **settings), 0
    for path in ("{stem:03d}.png", "{path!x}", "{stem:{slice}}.png"):
        noise_of = {"kind": "given", "folder": "theirs", "path": path}
        yield f"given images called {path}", path, REFUSED, partial(params.study, dataset=table, noise=noise_of), 0
    for what, named, sections in (
        ("an age", "'age_group'", {"fairness": {"attributes": ["age"]}}), ("a remedy in capitals", "'eodd'", {"mitigation": {"strategies": ["EODD"]}}),
        ("strategies in another order", "adv+eodd", {"mitigation": {"strategies": ["eodd+adv", "adv+eodd"]}}), ("a usual strength written out", "eodd@1", {"mitigation": {"strategies": ["eodd", "eodd@1"], "lam": 1}}),
        ("a strength of 1_0", "eodd@1_0", {"mitigation": {"strategies": ["eodd@1_0"]}}), ("a margin of 5", "tpr", {"fairness": {"margins": {"tpr": 5}}}),
        ("an intersection twice", "age_group*sex", {"fairness": {"attributes": ["sex*age_group", "age_group*sex"]}}), ("1e12 resamples", "resamples", {"fairness": {"resamples": 10**12}}),
        ("a training twice", "seeds", {"two_stages": {"seeds": [1, 1]}}),
    ):  # fmt: skip
        yield what, named, REFUSED, partial(params.study, dataset={"name": "phantom_mri"}, **sections), 0
    yield "a misspelt key", "wherre", REFUSED, partial(built, wherre={}), 0
    head = "dataset:\n  name: table\n"
    for name, text, key, right in (
        ("a key that stands twice", f"{head}  size: 64\n  size: 128\n", "dataset.size", REFUSED),
        ("yes and true", f"{head}  tasks: {{g: {{column: g, labels: {{yes: 1, true: 0}}}}}}\n", "dataset.name", REFUSED),
        ("1 and 1.0", f"{head}  sex: {{column: s, values: {{1: male, 1.0: female}}}}\n", "dataset.name", REFUSED), ("0 and no", f"{head}  tasks: {{g: {{column: g, labels: {{0: 0, 1: 1, no: 0}}}}}}\n", "dataset.name", REFUSED),
        ("a kind of noise alone", f"{head}noise: gaussian\n", "noise.kind", "gaussian"),
        ("0100", f"{head}  seed: 0100\n", "dataset.seed", REFUSED), ("1:30", f"{head}  seed: 1:30\n", "dataset.seed", REFUSED),
        ("1e-3", f"{head}diagnosis: {{classify: {{lr: 1e-3}}}}\n", "diagnosis.classify.lr", 1e-3),
        ("nested 5,000 deep", head + "noise: " + "[" * 5000 + "]" * 5000, "noise", REFUSED),
        ("a bomb", "a: &a [1,1,1,1]\n" + "".join(f"b{at}: &b{at} [{','.join(['*a'] * 9)}]\n" for at in range(20)) + head, "dataset", REFUSED),
        ("no YAML", "dataset: {name: table\n", "dataset", REFUSED), ("a list", "- dataset\n", "dataset", REFUSED), ("nothing", "", "dataset", REFUSED),
        ("a tag", f"{head}  label: !!python/object/apply:os.system [ls]\n", "dataset.label", REFUSED),
        ("a label that leads out", f"{head}  label: ../x\n", "dataset.label", REFUSED), ("a negative seed", f"{head}  seed: -1\n", "dataset.seed", REFUSED),
        ("one split", f"{head}  split: [1, 0, 0]\n", "dataset.split", REFUSED), ("nan", f"{head}  age_boundary: .nan\n", "dataset.age_boundary", REFUSED),
        ("yes and no", f"{head}  sex: {{column: s, values: {{yes: female, no: male}}}}\n", "dataset.name", "table"),
    ):  # fmt: skip
        yield name, ".yaml", right, partial(loaded, text, key), 0


KINDS = (
    pictures,
    orientations,
    tiffs,
    dicoms,
    arrays,
    masks,
    places,
    links,
    damage,
    tables,
    scores,
    publishers,
    studies,
)


def judged(named, right, read, tolerance) -> tuple[str, str]:
    """What became of an input, and a word on what is wrong with it."""
    try:
        value = read()
    except ValidationError as error:
        return "tracebacks", f"ValidationError: {error}"
    except ValueError as error:
        if named not in str(error):
            return "tracebacks", f"names no {named}: {error}"
        return ("refused", "") if isinstance(right, str) and right == REFUSED else ("refused_right", str(error))
    except Exception as error:
        return "tracebacks", f"{type(error).__name__}: {error}"
    if isinstance(right, str) and right == REFUSED:
        return "misread_silently", "it was read"
    same = close(value, right, tolerance) if isinstance(right, np.ndarray) else value == right
    return ("right", "") if same else ("misread_silently", f"another value than the right one: {str(value)[:60]}")


# Events of Python's audit hooks that change the file system; those of ``open`` count where they write.
STEPS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree", "open"}


def in_a_fork(work) -> int:
    """Do some work in a process of its own; returns its exit status, or minus the signal that ended it."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        work()
        status = 0
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(status)


def made(folder, kill_at=0):
    """Make the cohort and the noisy images of a small study; be killed at the step of that number."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the process ends soon
    os.environ["RECONFAIR_OUTPUTS"] = str(folder)
    step = 0

    def watch(event, arguments):
        nonlocal step
        if event not in STEPS or not str(arguments[0]).startswith(str(folder)):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        step += 1
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    if kill_at:
        sys.addaudithook(watch)
    dataset = {"name": "phantom_mri", "size": 64, "patients": 60, "slices": 1}
    whole = params.study(dataset=dataset, diagnosis={"tasks": ["grade"]}, compute={"workers": 1})
    store.make(data.product(whole))
    store.make(noise.product(whole))


def contents(folder):
    """Every visible file by name; of stamps, what does not depend on the time."""
    every = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            every[path.name] = path.read_bytes()
            if path.name.endswith(".product.json"):
                stamp = json.loads(every[path.name])
                every[path.name] = [stamp[key] for key in ("layout", "fingerprint", "files", "sums")]
    return every


def kills(folder, most=200) -> tuple[int, int]:
    """Kill the making at each file-system step in turn, and finish it; returns kills, and those that ended equal."""
    if in_a_fork(lambda: made(folder / "whole")):
        raise RuntimeError("the study that nobody kills fails")
    whole, killed, equal = contents(folder / "whole"), 0, 0
    for step in range(1, most):
        if in_a_fork(lambda step=step: made(folder / str(step), step)) != -signal.SIGKILL:
            break
        killed += 1
        left = contents(folder / str(step))
        early = any(left[name] != whole[name] for name in left if name.endswith(".product.json"))
        equal += not early and in_a_fork(lambda step=step: made(folder / str(step))) == 0
        equal -= not early and contents(folder / str(step)) != whole
    return killed, equal


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write what each input gave, too")
    parser.add_argument("--write", action="store_true", help="bring the table into docs/reliability.md")
    every, start = [], time.monotonic()
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in KINDS:
            (Path(folder) / kind.__name__).mkdir()
            for name, named, right, read, tolerance in kind(Path(folder) / kind.__name__):
                fate, why = judged(named, right, read, tolerance)
                every.append({"kind": kind.__name__, "input": name, "fate": fate, "why": why.replace(folder, "")})
    table = pd.DataFrame(every)
    fates = ["right", "refused", "refused_right", "misread_silently", "tracebacks"]
    counts = (
        table.groupby(["kind", "fate"], sort=False).size().unstack(fill_value=0).reindex(columns=fates, fill_value=0)
    )
    print(counts.assign(inputs=counts.sum(axis=1)).to_string(), end="\n\n")
    for row in table[table.fate.isin(fates[2:])].itertuples():
        print(f"{row.fate}: {row.kind}, {row.input}: {row.why[:300]}")
    with tempfile.TemporaryDirectory() as folder:
        killed, equal = kills(Path(folder))
    total = Counter(table.fate)
    results = {"inputs_tried": len(table)}
    results |= {fate: total[fate] for fate in ("misread_silently", "tracebacks", "refused_right")}
    results |= {"killed": killed, "killed_equal": equal}
    for name, value in results.items():
        print(f"{name}={value}")
    print(f"seconds={time.monotonic() - start:.0f}")
    if arguments.write:
        write(counts, killed, equal)
    if arguments.json:
        arguments.json.write_text(json.dumps(every, indent=1), encoding="utf-8")


def write(counts: pd.DataFrame, killed: int, equal: int) -> None:
    """Bring the counts by kind into the docs, between their markers."""
    page = store.PACKAGE.parent / "docs" / "reliability.md"
    rows = [*counts.iterrows(), ("in all", counts.sum())]
    lines = ["| kind | inputs | " + " | ".join(name.replace("_", " ") for name in counts) + " |"]
    lines += ["|---|" + "---:|" * (1 + counts.shape[1])]
    lines += [f"| {kind} | {sum(row)} | " + " | ".join(map(str, row)) + " |" for kind, row in rows]
    lines += ["", f"Killed at {killed} file-system steps and started again: {equal} of {killed} equal byte for byte."]
    before, rest = page.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    page.write_text("\n".join([f"{before}{START}", "", *lines, "", f"{END}{after}"]), encoding="utf-8")


if __name__ == "__main__":
    main()
