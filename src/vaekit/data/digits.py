"""The 8 x 8 digits that come with scikit-learn, read from its file: loading that library takes as long as loading torch."""

# N = 1,797 examples

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_FILE = ("datasets", "data", "digits.csv.gz")
_EXAMPLES = 1797
_WIDTH = 65  # 64 values from 0 to 16, and the class
# drawn once, with classes in equal proportion, by scikit-learn's train_test_split with seed 0; the split is part of the data set
_VALIDATION = """
    2 16 22 49 60 68 86 96 117 118 120 122 126 150 168 171 183 193 213 218 235 240 243 257 266 299 307 315 316 326
    330 336 347 352 356 361 367 377 387 391 392 412 415 418 419 436 464 474 480 485 486 489 492 505 511 541 546 553
    564 572 578 604 609 610 618 628 657 689 708 714 717 731 734 745 757 763 782 797 804 807 810 813 815 823 829 833
    845 848 849 864 886 909 912 913 917 922 935 941 943 956 957 978 984 992 1005 1021 1024 1028 1029 1032 1036 1040
    1043 1080 1084 1085 1089 1109 1137 1163 1172 1175 1184 1185 1202 1227 1228 1245 1257 1260 1266 1272 1278 1281
    1303 1324 1336 1337 1344 1347 1368 1395 1403 1412 1459 1460 1461 1469 1483 1492 1507 1525 1526 1528 1529 1540
    1552 1558 1573 1586 1588 1589 1619 1658 1663 1672 1687 1692 1704 1705 1718 1719 1745 1752 1762 1765 1766 1783
    1792 1793
"""
_TEST = """
    24 28 35 37 39 57 77 78 87 99 102 103 105 110 131 132 148 159 170 186 188 197 202 211 214 245 252 283 293 308
    312 335 344 364 372 374 376 386 393 397 405 407 413 417 430 440 442 452 454 500 520 565 569 573 587 593 608 619
    639 641 649 652 666 675 694 700 701 702 716 719 738 741 749 760 767 768 770 772 787 788 789 800 802 805 806 820
    822 854 855 876 885 899 908 918 926 937 945 985 997 1003 1009 1023 1049 1073 1081 1090 1096 1107 1108 1116 1121
    1123 1136 1148 1151 1161 1162 1168 1173 1180 1187 1204 1220 1232 1233 1242 1261 1264 1268 1270 1292 1312 1319
    1330 1331 1350 1351 1352 1364 1371 1405 1415 1482 1484 1497 1505 1509 1513 1520 1566 1567 1596 1602 1608 1610
    1614 1617 1634 1645 1650 1655 1660 1664 1666 1673 1696 1703 1716 1717 1726 1728 1734 1742 1750 1755 1767 1772
    1781 1787 1789
"""


def digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images, (N, 8, 8), and classes, (N,), in the order of scikit-learn."""
    table = _table()
    return np.ascontiguousarray(table[:, :-1]).reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def split() -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the 1,437 examples for training, the 180 for validation and the 180 for test, each in order."""
    validation, test = (torch.tensor([int(word) for word in words.split()]) for words in (_VALIDATION, _TEST))
    train = torch.ones(_EXAMPLES, dtype=torch.bool)
    train[validation], train[test] = False, False
    return train.nonzero().flatten(), validation, test


def _table() -> npt.NDArray[np.uint8]:
    library = find_spec("sklearn")  # finds it and does not load it
    file = Path(library.origin or "").parent.joinpath(*_FILE) if library else Path()
    if file.is_file():
        with suppress(ValueError):  # numbers of another kind
            table = np.loadtxt(file, delimiter=",", dtype=np.uint8, ndmin=2)
            if table.shape == (_EXAMPLES, _WIDTH):
                return table
    # another release may keep it elsewhere or otherwise, and then only the library knows where and how
    from sklearn.datasets import load_digits

    values, classes = load_digits(return_X_y=True)
    return np.column_stack([values, classes]).astype(np.uint8)
