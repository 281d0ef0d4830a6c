"""Data: named sets, arrays and folders of images, each a `Dataset` of three splits held in its storage type."""

from vaekit.data.arrays import array
from vaekit.data.augment import Augmentation, RandomFlip, RandomResizedCrop
from vaekit.data.batch import Batch, Dataset, Split
from vaekit.data.catalog import fetch_named, named, names, status
from vaekit.data.celeba import celeba
from vaekit.data.cells import cells
from vaekit.data.errors import DataFormatError, DataNotFoundError, DownloadError
from vaekit.data.images import images
from vaekit.data.named_tables import named_table
from vaekit.data.synthetic import ProbabilisticPCA, probabilistic_pca
from vaekit.data.tables import table
from vaekit.data.transforms import BINARISATIONS, Binarisation, Dynamic, RealValued, Scale, Static, Threshold

__all__ = [
    "BINARISATIONS",
    "Augmentation",
    "Batch",
    "Binarisation",
    "DataFormatError",
    "DataNotFoundError",
    "Dataset",
    "DownloadError",
    "Dynamic",
    "ProbabilisticPCA",
    "RandomFlip",
    "RandomResizedCrop",
    "RealValued",
    "Scale",
    "Split",
    "Static",
    "Threshold",
    "array",
    "celeba",
    "cells",
    "fetch_named",
    "images",
    "named",
    "named_table",
    "names",
    "probabilistic_pca",
    "status",
    "table",
]
