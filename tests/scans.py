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
