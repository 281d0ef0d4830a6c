"""The table of named data sets: what their files are, where they come from, and how they are read and divided."""

# N examples, (C, H, W) image

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vaekit.data import cifar, digits, omniglot, published_cells, silhouettes
from vaekit.data.door import Parts
from vaekit.data.download import RemoteFile
from vaekit.data.errors import DataFormatError
from vaekit.data.idx import read_idx
from vaekit.data.matlab import read_matlab
from vaekit.data.splits import consecutive, divide, take
from vaekit.data.transforms import Scale

_HELD_OUT = 1000  # training images of MNIST and its kin that serve for validation
_HELD_OUT_IWAE = 400  # and in the paper on IWAE
_FREY_SPLIT_SEED = 0


@dataclass(frozen=True)
class Entry:
    """A named data set.

    Attributes:
        name: In the catalogue.
        files: As published; empty where the data come with a library. Without a SHA-256 they are not fetched.
        folders: Names that people give to its folder, ours first.
        mirrors: Addresses of folders that have the files.
        licence: As its makers state it.
        citation: Whom to cite.
        read: From the files, by published name, to the three splits; or, for a set that another function reads, what to say to
            who asks for it here.
        others: Sets of files that serve as well, as they are named elsewhere or unpacked; what is best first.
    """

    name: str
    files: tuple[RemoteFile, ...]
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    licence: str
    citation: str
    read: Callable[[Mapping[str, Path]], Parts] | str
    others: tuple[tuple[RemoteFile, ...], ...] = ()


_TABLE_ELSEWHERE = "a table of mixed columns; read it with data.named_table(NAME), or write data=NAME."
_CELLS_ELSEWHERE = "of cells; read it with data.cells(name=NAME), or write data=NAME."


def _digits(files: Mapping[str, Path]) -> Parts:
    images, target = digits.digits()
    stored, labels = torch.from_numpy(images).unsqueeze(1), torch.from_numpy(target)
    splits = divide(stored, labels, digits.split(), Scale(16))
    note = "split at random with classes in equal proportion, by a seed fixed in the catalogue"
    return Parts(splits, scaling="value / 16", splitting=note, class_names=tuple("0123456789"))


def _idx_reader(class_names: tuple[str, ...], held_out: int = _HELD_OUT) -> Callable[[Mapping[str, Path]], Parts]:
    def read(files: Mapping[str, Path]) -> Parts:
        images, labels = _idx_pair(files, "train", len(class_names))
        tested, tested_labels = _idx_pair(files, "t10k", len(class_names))
        kept = len(images) - held_out
        if kept < 1 or images.shape[1:] != tested.shape[1:]:
            raise DataFormatError(
                f"training images have shape {tuple(images.shape)} and test images {tuple(tested.shape)}, "
                f"expected more than {held_out} training images and one size."
            )
        train, validation, _ = consecutive(kept, held_out, 0)
        scale = Scale(255)
        splits = (
            take(images, labels, train, scale),
            take(images, labels, validation, scale),
            take(tested, tested_labels, torch.arange(len(tested)), scale),
        )
        return Parts(
            splits,
            scaling="value / 255",
            splitting=f"test is the official part, validation the last {held_out:,} training images",
            class_names=class_names,
        )

    return read


def _idx_pair(files: Mapping[str, Path], part: str, classes: int) -> tuple[Tensor, Tensor]:
    path = files[f"{part}-labels-idx1-ubyte.gz"]
    images = read_idx(files[f"{part}-images-idx3-ubyte.gz"], 3).unsqueeze(1)
    labels = read_idx(path, 1).to(torch.int64)
    if len(images) != len(labels) or labels.max() >= classes:
        raise DataFormatError(
            f"{path} has {len(labels):,} labels up to {labels.max()}, expected {len(images):,} below {classes}."
        )
    return images, labels


def _frames(files: Mapping[str, Path]) -> Tensor:
    path = files["frey_rawface.mat"]
    ff = read_matlab(path, "ff")
    if ff.dtype != "uint8" or ff.shape != (560, 1965):
        raise DataFormatError(f"{path} has ff of {ff.dtype} and shape {ff.shape}, expected uint8 and (560, 1965).")
    # pixels x frames; a frame is stored row by row and is upright, 28 high and 20 wide
    return torch.from_numpy(ff.T.copy()).reshape(-1, 1, 28, 20)


def _freyfaces(files: Mapping[str, Path]) -> Parts:
    splits = divide(_frames(files), None, consecutive(1670, 98, 197), Scale(255))
    # consecutive video frames: a random split would put near-duplicates of training frames into the test part
    note = (
        "split in the order of time: test is the last 197 frames, validation the 98 before them; "
        "neighbouring frames are alike, so standard errors over them are too small"
    )
    return Parts(splits, scaling="value / 255", splitting=note)


def _freyfaces_at_random(files: Mapping[str, Path]) -> Parts:
    order = torch.randperm(1965, generator=torch.Generator().manual_seed(_FREY_SPLIT_SEED))
    splits = divide(_frames(files), None, (order[:1565], order[1565:1765], order[1765:]), Scale(255))
    note = (
        "split at random, by a seed fixed in the catalogue, with the sizes of the paper on the VampPrior; frames of one video, so "
        "that the test part has near-duplicates of training frames"
    )
    return Parts(splits, scaling="value / 255", splitting=note)


def _remote(mirrors: tuple[str, ...], *files: tuple[str, int, str]) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(name, size, digest, tuple(m + name for m in mirrors)) for name, size, digest in files)


_MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
)
_FASHION_MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
_FREY_MIRRORS = (
    "https://cs.nyu.edu/~roweis/data/",
    "https://raw.githubusercontent.com/tauhidstanford/GSE/main/",
)
_OMNIGLOT_MIRRORS = ("https://raw.githubusercontent.com/bitsandscraps/omniglot/master/",)
_CHARDATA_MIRRORS = ("https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/",)
_SILHOUETTES_MIRRORS = (
    "https://people.cs.umass.edu/~marlin/data/",
    "https://raw.githubusercontent.com/Boltzxuann/RP-iRBM/master/",
)
_CIFAR_MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
_CELL_MIRRORS = ("https://falexwolf.de/data/",)
_SCANPY_MIRRORS = ("https://raw.githubusercontent.com/scverse/scanpy/1.11.5/src/scanpy/datasets/",)
_KANG_SOURCE = (
    "https://github.com/immunogenomics/harmony/raw/master/data/pbmc_stim.RData (two matrices, to be saved as .h5ad)",
)
_PBMC3K_FILES = (
    ("matrix.mtx.gz", 7364441, "ca6ac3fc0999ed4d85edb58b47e9a152a65e1fa5b4cbe988382979c6a51c650a"),
    ("genes.tsv.gz", 253105, "0ef726086a1a5a6d8793dbf1ff72322eb9c7b356c408f5e883c2b9636d07601a"),
    ("barcodes.tsv.gz", 11335, "5dc6a26ef32147adf36eb3effab76c0f40e0527e01262d4a680b4e532d1675a6"),
)
_PBMC3K_UNPACKED = (
    ("matrix.mtx", 28179564, "7d92358b9d29128a225c50f2a662d6ccca9c71bc665e0af82692ed1361eb94e4"),
    ("genes.tsv", 816952, "8778dd78085086be6dcafa8334f95f7cf76b25526e8ef2b63186db5127a1492c"),
    ("barcodes.tsv", 45900, "58c2a224a2b4258f7e8799a18890bda6d23824b247b80db2b08a0dcc36a4c660"),
)
_ADULT_MIRRORS = ("https://archive.ics.uci.edu/ml/machine-learning-databases/adult/",)
_FASHION_TRAIN = "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
_FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

_MNIST_FILES = _remote(
    _MNIST_MIRRORS,
    ("train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    ("train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ("t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ("t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
)
_FREY_FILES = _remote(
    _FREY_MIRRORS,
    ("frey_rawface.mat", 1100584, "265a83a23adb081755cd3de375509828e690324d1d60f076b8ecebc840d59c64"),
)

_TABLE = (
    Entry(
        name="digits",
        files=(),
        folders=(),
        mirrors=(),
        licence="CC BY 4.0 (UCI); shipped with scikit-learn, BSD-3",
        citation="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998",
        read=_digits,
    ),
    Entry(
        name="mnist",
        files=_MNIST_FILES,
        folders=("mnist", "MNIST", "MNIST/raw", "raw"),
        mirrors=_MNIST_MIRRORS,
        licence="CC BY-SA 3.0, as commonly stated",
        citation="LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998",
        read=_idx_reader(tuple("0123456789")),
    ),
    Entry(
        name="mnist_iwae",
        files=_MNIST_FILES,
        folders=("mnist", "MNIST", "MNIST/raw", "raw"),
        mirrors=_MNIST_MIRRORS,
        licence="CC BY-SA 3.0, as commonly stated",
        citation="LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998",
        read=_idx_reader(tuple("0123456789"), _HELD_OUT_IWAE),
    ),
    Entry(
        name="fashion_mnist",
        files=_remote(
            _FASHION_MIRRORS,
            ("train-images-idx3-ubyte.gz", 26421880, _FASHION_TRAIN),
            ("train-labels-idx1-ubyte.gz", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            ("t10k-images-idx3-ubyte.gz", 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            ("t10k-labels-idx1-ubyte.gz", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
        folders=("fashion_mnist", "fashion-mnist", "FashionMNIST", "FashionMNIST/raw", "raw"),
        mirrors=_FASHION_MIRRORS,
        licence="MIT (Zalando SE)",
        citation="Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017, https://arxiv.org/abs/1708.07747",
        read=_idx_reader(_FASHION_CLASSES),
    ),
    Entry(
        name="freyfaces",
        files=_FREY_FILES,
        folders=("freyfaces", "frey_face", "FreyFaces", "frey_faces", "freyface", "FreyFace"),
        mirrors=_FREY_MIRRORS,
        licence="none stated; for research, by way of Sam Roweis's page",
        citation="Frey faces, Brendan Frey and Sam Roweis, https://cs.nyu.edu/~roweis/data.html",
        read=_freyfaces,
    ),
    Entry(
        name="freyfaces_vampprior",
        files=_FREY_FILES,
        folders=("freyfaces", "frey_face", "FreyFaces", "frey_faces", "freyface", "FreyFace"),
        mirrors=_FREY_MIRRORS,
        licence="none stated; for research, by way of Sam Roweis's page",
        citation="Frey faces, Brendan Frey and Sam Roweis, https://cs.nyu.edu/~roweis/data.html",
        read=_freyfaces_at_random,
    ),
    Entry(
        name="omniglot",
        files=_remote(
            _OMNIGLOT_MIRRORS,
            (omniglot.BACKGROUND, 3340794, "8bf84167413cd00beacdce3fe582f780ab538d8dbef043a6d688f2527bbce199"),
            (omniglot.EVALUATION, 2415269, "0b84c7ffd94c4841c0040e529c86a82eaaccb986d8eadad5673f7991b7475276"),
        ),
        folders=("omniglot", "OMNIGLOT", "Omniglot"),
        mirrors=_OMNIGLOT_MIRRORS,
        licence="MIT (Brenden Lake); the two files are a repacking by a third party",
        citation="Lake, Salakhutdinov and Tenenbaum, Human-level concept learning through probabilistic program induction, 2015",
        read=omniglot.read_omniglot,
    ),
    Entry(
        name="omniglot_iwae",
        files=(RemoteFile(omniglot.CHARDATA, 0, ""),),
        folders=("omniglot_iwae", "omniglot", "OMNIGLOT", "Omniglot"),
        mirrors=_CHARDATA_MIRRORS,
        licence="MIT (Brenden Lake), for the images",
        citation="Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016, https://arxiv.org/abs/1509.00519",
        read=omniglot.read_omniglot_iwae,
    ),
    Entry(
        name="caltech101_silhouettes",
        files=_remote(
            _SILHOUETTES_MIRRORS,
            (silhouettes.FILE, 872124, "eb6735e8d84b1850fabc5590124aab1755e90c9fd28123585324398405e1e42a"),
        ),
        folders=("caltech101_silhouettes", "Caltech101Silhouettes", "caltech_silhouettes", "caltech"),
        mirrors=_SILHOUETTES_MIRRORS,
        licence="none stated for the silhouettes; made from the annotations of Caltech 101, CC BY 4.0",
        citation="Marlin, Swersky, Chen and de Freitas, Inductive principles for restricted Boltzmann machine learning, 2010",
        read=silhouettes.read_silhouettes,
    ),
    Entry(
        name="cifar10",
        files=_remote(
            _CIFAR_MIRRORS,
            (cifar.BINARY_ARCHIVE, 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
        ),
        folders=("cifar10", "CIFAR10", "cifar-10", "cifar-10-batches-bin", "cifar-10-batches-py"),
        mirrors=_CIFAR_MIRRORS,
        licence="none stated; its authors ask for a citation",
        citation="Krizhevsky, Learning multiple layers of features from tiny images, 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
        read=cifar.read_cifar10,
        others=(*cifar.WHOLE_FILES, *cifar.PARTIAL_FILES),
    ),
    Entry(
        name="adult",
        files=_remote(
            _ADULT_MIRRORS,
            ("adult.data", 3974305, "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d"),
            ("adult.test", 2003153, "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05"),
        ),
        folders=("adult", "Adult", "census_income"),
        mirrors=_ADULT_MIRRORS,
        licence="CC BY 4.0 (UCI)",
        citation="Becker and Kohavi, Adult, UCI Machine Learning Repository, 1996, https://doi.org/10.24432/C5XW20",
        read=_TABLE_ELSEWHERE,
        others=(
            (
                RemoteFile("adult.data.gz", 408969, "c7a2b4716a97f930123e0baf879188d701e798172631a654fc703d4b082907f3"),
                RemoteFile("adult.test.gz", 205254, "8a2c1bffa6e7ce5abfa43881ae5e87c4311ebc2b3cd526c9c40a43f19f06f799"),
            ),
        ),
    ),
    Entry(
        name="pbmc3k",
        files=_remote(
            _CELL_MIRRORS,
            (published_cells.PBMC3K, 5855727, "89a96f1beaa2dd83a687666d3f19a4513ac27a2a2d12581fcd77afed7ea653a1"),
        ),
        folders=("pbmc3k", *(f"{above}filtered_gene_bc_matrices/hg19" for above in ("pbmc3k/", ""))),
        mirrors=_CELL_MIRRORS,
        licence="CC BY 4.0 (10x Genomics)",
        citation="10x Genomics, 3k PBMCs from a Healthy Donor, 2016; Zheng et al., Nature Communications, 2017",
        read=_CELLS_ELSEWHERE,
        others=(_remote((), *_PBMC3K_UNPACKED), _remote((), *_PBMC3K_FILES)),
    ),
    Entry(
        name="paul15",
        files=_remote(
            _CELL_MIRRORS,
            (published_cells.PAUL15, 10297693, "6161984f758dd464992edc23f1a8ab89b2081600130c6aa93a1ab12b3ada5bfb"),
        ),
        folders=("paul15",),
        mirrors=_CELL_MIRRORS,
        licence="none stated; public data, GEO GSE72857",
        citation="Paul et al., Transcriptional heterogeneity and lineage commitment in myeloid progenitors, Cell, 2015",
        read=_CELLS_ELSEWHERE,
    ),
    Entry(
        name="kang_pbmc",
        files=_remote(
            (), (published_cells.KANG, 2636521, "b59348129c178a0eb013027426a2eceb6353810ee627664a8c20378ae7b774f6")
        ),
        folders=("kang_pbmc", "kang2018", "kang"),
        mirrors=_KANG_SOURCE,
        licence="public data, GEO GSE96583; 1,000 cells of each condition as the harmony package (GPL-3) has them",
        citation="Kang et al., Nature Biotechnology, 2018, https://doi.org/10.1038/nbt.4042",
        read=_CELLS_ELSEWHERE,
    ),
    Entry(
        name="pbmc68k_reduced",
        files=_remote(
            _SCANPY_MIRRORS,
            (published_cells.PBMC68K, 1772368, "e71d41e737c941559b7c57c9243bdb3d2c889c2adfdf00e3422ac6b46783676f"),
        ),
        folders=("pbmc68k_reduced", "scanpy/datasets"),
        mirrors=_SCANPY_MIRRORS,
        licence="CC BY 4.0 (10x Genomics), as reduced by scanpy, BSD-3",
        citation="Zheng et al., Nature Communications, 2017, https://doi.org/10.1038/ncomms14049",
        read=_CELLS_ELSEWHERE,
    ),
)
ENTRIES: dict[str, Entry] = {entry.name: entry for entry in _TABLE}
