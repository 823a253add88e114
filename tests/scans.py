"""Small scans in the formats that hospitals use, written by the libraries that define them."""

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def stored(path):
    """A picture as it is stored."""
    with Image.open(path) as file:
        return np.asarray(file)


def nifti(path, volume, orientation="RAS"):
    """Write a volume given as (right to left, back to front, feet to head) reversed: index 0 is left, back, feet."""
    to = nibabel.orientations.axcodes2ornt(orientation)
    image = nibabel.Nifti1Image(volume, np.eye(4))
    turned = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(np.eye(4)), to))
    nibabel.save(turned, path)


def dicom(path, pixels, **tags):
    """Write an image (rows, columns), frames (frames, rows, columns) or, of colours, (rows, columns, 3)."""
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    file = pydicom.Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.Rows, file.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    file.SamplesPerPixel = 3 if colour else 1
    file.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 8 * pixels.itemsize
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    if colour:
        file.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        file.NumberOfFrames = len(pixels)
    for tag, value in tags.items():
        setattr(file, tag, value)
    file.PixelData = pixels.tobytes()
    file.save_as(path, enforce_file_format=True)


def compress(source, path, syntax, *frames):
    """Write the file `source` with its pixels replaced by compressed frames."""
    file = pydicom.dcmread(source)
    file.file_meta.TransferSyntaxUID = syntax
    file.PixelData = pydicom.encaps.encapsulate(list(frames))
    file["PixelData"].VR = "OB"
    file.save_as(path)


def lossless_jpeg(image, bits):
    """Encode as most X-ray machines do: each pixel as its difference from the one to its left (ITU-T T.81, annex H)."""
    rows, columns = image.shape
    wide = image.astype(np.int64)
    guess = np.empty_like(wide)
    guess[:, 1:], guess[1:, 0], guess[0, 0] = wide[:, :-1], wide[:-1, 0], 1 << (bits - 1)
    stream = ""
    for change in ((wide - guess + 32768) % 65536 - 32768).ravel().tolist():
        size = abs(change).bit_length()
        stream += f"{size:05b}"  # of the 17 sizes each has a code of five bits
        if 0 < size < 16:
            stream += f"{change if change > 0 else change + (1 << size) - 1:0{size}b}"
    stream += "1" * (-len(stream) % 8)
    coded = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\0")

    def segment(marker, content):
        return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content

    frame = segment(0xC3, bytes([bits]) + rows.to_bytes(2, "big") + columns.to_bytes(2, "big") + b"\1\1\x11\0")
    codes = segment(0xC4, bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)]))
    return b"\xff\xd8" + frame + codes + segment(0xDA, b"\1\1\0\1\0\0") + coded + b"\xff\xd9"
