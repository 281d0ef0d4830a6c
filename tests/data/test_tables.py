"""Tables: what each kind of column becomes, what is refused and warned of, and that everything comes back."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vaekit.data import DataFormatError, named, named_table, table
from vaekit.data.catalog import find_files
from vaekit.data.columns import Category, Columns, Constant, Number, TableRestore
from vaekit.data.delimited import read_frame
from vaekit.data.entries import ENTRIES
from vaekit.data.schema import TableWishes, infer
from vaekit.data.tables import columns_of
from vaekit.errors import ConfigError

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

N = 60


def everything(seed: int = 0, n: int = N) -> Any:
    """A frame with a column of every kind."""
    rng = np.random.default_rng(seed)
    some = rng.random(n) < 0.3
    return pd.DataFrame(
        {
            "city": rng.choice(["Bonn", "Rome", "=1+1"], n),
            "age": rng.integers(17, 90, n).astype(np.int64),
            "small": rng.integers(-100, 100, n).astype(np.int8),
            "price": np.round(rng.gamma(2.0, 3.0, n), 2),
            "real": rng.normal(size=n).astype(np.float32),
            "gap": np.where(some, np.nan, rng.normal(size=n)),
            "children": pd.array(np.where(some, None, rng.integers(0, 9, n)), dtype="Int64"),
            "member": rng.random(n) < 0.4,
            "maybe": pd.array(np.where(some, None, rng.random(n) < 0.5), dtype="boolean"),
            "shop": pd.Series(np.where(some, None, rng.choice(["a", "b"], n)), dtype=object),
            "rank": pd.Categorical(rng.choice(["low", "high"], n), ["low", "mid", "high"], ordered=True),
            "day": pd.date_range("2020-01-01", periods=n, freq="D").astype("datetime64[ns]"),
            "noon": pd.date_range("2020-01-01 12:00", periods=n, freq="h", tz="Europe/Berlin"),
            "form": [f"2021-03-{1 + day % 28:02d}" for day in range(n)],
            "grade": rng.integers(1, 4, n),
            "one": np.full(n, 7),
        }
    )


WISHES = TableWishes(categories=("grade",))


def columns(frame: Any, wishes: TableWishes = TableWishes(), train: np.ndarray | None = None) -> Columns:  # noqa: B008
    train = np.arange(len(frame)) if train is None else train
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return infer(frame, train, wishes, "these")


def same(actual: Any, expected: Any, **tolerance: Any) -> None:
    pd.testing.assert_frame_equal(actual, expected, check_categorical=True, **tolerance)


def test_a_frame_comes_back_with_its_values_types_and_order() -> None:
    frame = everything()
    schema = columns(frame, WISHES)
    back = schema.decode(schema.encode(frame).numpy())
    same(back, frame, rtol=1e-6)
    exact = [name for name in frame.columns if name not in ("gap", "real")]
    same(back[exact], frame[exact], check_exact=True)


def test_the_schema_goes_through_json() -> None:
    frame = everything()
    schema = columns(frame, TableWishes(categories=("grade",), log=("price",)))
    again = Columns.from_state(json.loads(json.dumps(schema.state(), allow_nan=False)))
    assert again == schema
    same(again.decode(schema.encode(frame).numpy()), schema.decode(schema.encode(frame).numpy()), check_exact=True)
    with pytest.raises(ValueError, match="version 99"):
        Columns.from_state({"version": 99})


def test_numbers_are_standardised_on_the_training_rows_alone() -> None:
    frame = everything()
    train = np.arange(20)
    schema = columns(frame, TableWishes(log=("price",)), train)
    z = schema.encode(frame).numpy().astype(np.float64)
    for name in ("age", "price"):
        at = schema.labels.index(name)
        x = frame[name].to_numpy(np.float64)
        x = np.log1p(x) if name == "price" else x
        np.testing.assert_allclose(z[:, at], (x - x[:20].mean()) / x[:20].std(), rtol=1e-5, atol=1e-6)
    assert abs(z[:20, schema.labels.index("age")].std() - 1) < 1e-6
    assert abs(z[20:, schema.labels.index("age")].mean()) > 1e-3


def test_what_a_model_sees_of_categories_and_missing_values() -> None:
    frame = pd.DataFrame({"c": ["b", None, "a", "b"], "x": [1.0, np.nan, 3.0, np.nan]})
    schema = columns(frame)
    assert schema.layout == (3, -1)
    assert schema.labels == ("c=a", "c=b", "c=missing", "x", "x observed")
    expected = torch.tensor([[0, 1, 0, -1, 1], [0, 0, 1, 0, 0], [1, 0, 0, 1, 1], [0, 1, 0, 0, 0]], dtype=torch.float32)
    assert torch.equal(schema.encode(frame), expected)


def test_means_of_a_model_decode_to_the_most_probable() -> None:
    """The mean of a number that may be missing is its value times the probability that it is observed."""
    frame = pd.DataFrame({"c": ["b", None, "a", "b"], "x": [10.0, np.nan, 30.0, np.nan]})
    schema = columns(frame)
    mean = np.array([[0.2, 0.5, 0.3, 0.8 * 0.5, 0.8], [0.1, 0.2, 0.7, 0.4 * 2.0, 0.4]])
    back = schema.decode(mean)
    assert back["c"].tolist()[0] == "b"
    assert back["c"].isna().tolist() == [False, True]
    assert back["x"].tolist()[0] == pytest.approx(20 + 10 * 0.5)
    assert math.isnan(back["x"].tolist()[1])


def test_generated_numbers_stay_in_the_range_of_the_training_rows() -> None:
    frame = everything()
    schema = columns(frame, TableWishes(log=("price",)))
    wild = 50.0 * torch.randn(300, len(schema.labels), generator=torch.Generator().manual_seed(0)).numpy()
    made = schema.generated(wild)
    assert made.dtypes.equals(frame.dtypes)
    for name in ("age", "price", "small", "day"):
        assert frame[name].min() <= made[name].min()
        assert made[name].max() <= frame[name].max()
    assert np.allclose(made["price"], np.round(made["price"], 2), atol=1e-12)
    assert schema.decode(wild)["age"].min() < 0  # the way back itself moves nothing


def test_dense_rows_are_those_of_the_frame_in_any_order() -> None:
    frame = everything()
    schema = columns(frame, WISHES)
    coded, index = schema.coded(frame), torch.tensor([5, 0, 59, 5])
    expected = schema.encode(frame)[index]
    assert torch.equal(coded.index_select(0, index), expected)
    assert torch.equal(coded.part(index).index_select(0, torch.arange(4)), expected)
    assert coded.shape == (N, len(schema.labels))


# ---------------------------------------------------------------------------- what is refused, warned of, or masked
CASES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "infinite": ([1.0, math.inf, 2.0, 3.0], {}, "column 'x' is infinite in 1 of 4 rows"),
    "minus infinity": ([1.0, -math.inf, 2.0, 3.0], {}, "column 'x' is infinite"),
    "beyond 2**53": ([1, 2, 3, 2**53 + 1], {}, "column 'x' has whole numbers.*beyond 2.*data.drop"),
    "unsigned beyond 2**53": (np.array([1, 2, 3, 2**64 - 1], dtype=np.uint64), {}, "column 'x' has whole numbers"),
    "huge integers": (pd.Series([1, 2, 3, 10**30], dtype=object), {}, "column 'x' has whole numbers"),
    "mixed types": (pd.Series(["a", 1, 2.5, "b"], dtype=object).map(lambda v: (v,)), {}, "column 'x' has .* of type tuple"),
    "log of negatives": ([1.0, -2.0, 3.0, 4.0], {"log": ("x",)}, "column 'x' has values below 0"),
    "log of text": (["a", "b", "c", "a"], {"log": ("x",)}, "data.log names 'x', which is a category"),
    "log of nothing": ([np.nan] * 4, {"log": ("x",)}, "data.log names 'x'"),
    "numbers as target": ([1.5, 2.5, 3.5, 4.5], {"target": "x"}, "data.target=x is no category"),
    "overflow": ([1e308, -1e308, 1e308, 0.5], {}, "column 'x' has values in .*standardise"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_column_that_cannot_be_modelled_is_refused_by_name(case: tuple[Any, dict[str, Any], str]) -> None:
    values, wishes, message = case
    frame = pd.DataFrame({"x": values, "other": [1.0, 2.0, 3.0, 5.0]})
    with pytest.raises(ValueError, match=message), np.errstate(all="ignore"):
        columns(frame, TableWishes(**wishes))


def test_a_number_that_is_missing_in_every_training_row_is_refused() -> None:
    frame = pd.DataFrame({"x": [np.nan, np.nan, 1.0, 2.0], "y": [1.0, 2.0, 3.0, 4.0]})
    with pytest.raises(ValueError, match="column 'x' has no value in any training row"):
        columns(frame, train=np.array([0, 1]))


def test_names_that_tell_rows_apart_are_refused() -> None:
    frame = pd.DataFrame({"id": [f"row {k}" for k in range(100_000)], "y": np.arange(100_000) % 7})
    with pytest.raises(ValueError, match=r"column 'id' has 100,000 levels.*data\.drop=\[id\]"):
        columns(frame)


def test_constant_and_empty_columns_are_set_aside_with_a_warning_and_come_back() -> None:
    frame = pd.DataFrame(
        {"void": [np.nan] * 4, "k": [7] * 4, "name": ["x"] * 4, "t": ["2020-01-01"] * 4, "y": [1.0, 2.0, 3.0, 5.0]}
    )
    with pytest.warns(UserWarning, match="these: columns") as caught:
        schema = infer(frame, np.arange(4), TableWishes(), "these")
    said = " ".join(str(warning.message) for warning in caught)
    assert "columns void have no value" in said
    assert "columns k, name, t have one value" in said
    assert schema.layout == (0,)
    assert [type(column) for column in schema.columns[:4]] == [Constant] * 4
    same(schema.decode(schema.encode(frame).numpy()), frame)


def test_a_table_of_constants_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to model"):
        columns(pd.DataFrame({"a": [1, 1], "b": ["x", "x"]}))


def test_levels_that_no_training_row_has_are_warned_of_and_strange_ones_refused() -> None:
    frame = pd.DataFrame({"c": ["a", "b", "a", "rare"], "y": [1.0, 2.0, 3.0, 4.0]})
    with pytest.warns(UserWarning, match=r"columns c \(1\) have levels that no training row has"):
        schema = infer(frame, np.array([0, 1, 2]), TableWishes(), "these")
    assert schema["c"].levels == ("a", "b", "rare")
    with pytest.raises(ValueError, match=r"column 'c' has 'new', which is not among its 3 levels: 'a', 'b', 'rare'"):
        schema.encode(pd.DataFrame({"c": ["new"], "y": [1.0]}))
    with pytest.raises(ValueError, match="column 'c' has missing values"):
        schema.encode(pd.DataFrame({"c": [None], "y": [1.0]}))
    with pytest.raises(ValueError, match="column 'y' is missing in 1 of 1 rows"):
        schema.encode(pd.DataFrame({"c": ["a"], "y": [np.nan]}))
    with pytest.raises(ValueError, match=r"there is no column 'y'.*closest: yy"):
        schema.encode(pd.DataFrame({"c": ["a"], "yy": [1.0]}))


def test_a_value_or_none_is_a_category() -> None:
    schema = columns(pd.DataFrame({"x": [3.0, np.nan, 3.0, np.nan], "y": [1.0, 2.0, 3.0, 4.0]}))
    assert schema["x"].levels == (3.0, None)


def test_identifiers_may_be_categories_by_choice_and_stay_exact() -> None:
    frame = pd.DataFrame({"x": [2**60 + 1, 2**60, 2**60 + 1, 5], "y": [1.0, 2.0, 3.0, 4.0]})
    schema = columns(frame, TableWishes(categories=("x",)))
    assert schema["x"].levels == (5, 2**60, 2**60 + 1)
    same(schema.decode(schema.encode(frame).numpy()), frame)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_frame_comes_back_or_is_refused_by_name(data: st.DataObject) -> None:
    """Nothing that a model sees is NaN or infinite, and the way back is the inverse."""
    n = data.draw(st.integers(4, 12))
    texts = st.one_of(st.none(), st.text(st.characters(exclude_categories=("Cs",)), max_size=4))
    floats = st.one_of(st.just(math.nan), st.floats(-1e6, 1e6, width=32), st.integers(-5, 5).map(float))
    kinds: dict[str, Callable[[], Any]] = {
        "text": lambda: pd.Series(data.draw(st.lists(texts, min_size=n, max_size=n)), dtype=object),
        "float": lambda: pd.Series(data.draw(st.lists(floats, min_size=n, max_size=n)), dtype=np.float64),
        "int": lambda: pd.Series(
            data.draw(st.lists(st.integers(-(2**20), 2**20), min_size=n, max_size=n)), dtype=np.int64
        ),
        "bool": lambda: pd.Series(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool),
        "Int64": lambda: pd.Series(
            data.draw(st.lists(st.one_of(st.none(), st.integers(-9, 9)), min_size=n, max_size=n)), dtype="Int64"
        ),
    }
    names = data.draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=4))
    frame = pd.DataFrame({f"{kind} {place}": kinds[kind]() for place, kind in enumerate(names)})
    try:
        schema = columns(frame)
    except ValueError as error:
        if "column" not in str(error):
            raise
        return
    x = schema.encode(frame)
    assert x.isfinite().all()
    back = schema.decode(x.numpy())
    assert list(back.columns) == list(frame.columns)
    for name in frame.columns:
        if name.startswith("float"):
            spread = np.nanmax(np.abs(frame[name])) if frame[name].notna().any() else 0.0
            np.testing.assert_allclose(back[name].to_numpy(np.float64), frame[name], rtol=1e-6, atol=2e-6 * spread)
        else:
            assert back[name].tolist() == frame[name].tolist() or back[name].equals(
                frame[name].where(frame[name].notna(), None)
            )
            assert back[name].dtype == frame[name].dtype


# ---------------------------------------------------------------------------- files
def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path: Path, **wishes: Any) -> Any:
    """The data set of a file, silently."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return table(path, **wishes)


def frame_of(dataset: Any) -> Any:
    schema = columns_of(dataset)
    assert schema is not None
    parts = [schema.decode(part.batch(torch.arange(len(part))).x.numpy()) for part in dataset.splits]
    return pd.concat(parts)


PLAIN = "age,city,paid\n" + "\n".join(f"{20 + k},{'ab'[k % 2]},{k % 7}.50" for k in range(30)) + "\n"


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "parquet"])
def test_all_formats_give_the_same_data(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"shop.{ending}"
    frame = pd.read_csv(written(tmp_path / "plain.csv", PLAIN))
    if ending == "parquet":
        frame.to_parquet(path)
    else:
        text = PLAIN.replace(",", "\t") if ending == "tsv" else PLAIN
        written(path, gzip.compress(text.encode()) if ending.endswith("gz") else text)
    dataset = read(path, target="city")
    assert dataset.name == "shop"
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (24, 3, 3)
    assert dataset.columns == (0, 2, 0)
    assert dataset.event_shape == (4,)
    assert dataset.class_names == ("a", "b")
    assert dataset.num_classes == 2
    back = frame_of(dataset).sort_values("age").reset_index(drop=True)
    same(back, frame.astype(back.dtypes.to_dict()))
    assert str(back["age"].dtype) == "int64"
    assert dataset.fingerprint() == read(path, target="city").fingerprint()
    assert dataset.fingerprint() != read(path, target="city", seed=1).fingerprint()


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("a,b\n1,x\n2,y\n,x\n4,\n5,y\n", ("Int64", "object")),
        ("\ufeffa,b\r\n1,x\r\n2,y\r\n3,x\r\n4,y\r\n", ("int64", "object")),
        ('a;b\n1;"x;1"\n2;y\n3;y\n4;x\n', ("int64", "object")),
        ("a,b\n01,x\n02,y\n10,x\n02,y\n", ("object", "object")),
        ("a,b\n1e3,True\n2.5,False\n-.5,True\n4,False\n", ("float64", "bool")),
        ("a,b\n 1 , x\n 2, y\n3 ,x\n4,x\n", ("int64", "object")),
        ("a,b\nNaN,yes\n2.5,no\n-1,yes\n4,no\n", ("float64", "object")),
    ],
)
def test_types_of_text(tmp_path: Path, text: str, kinds: tuple[str, str]) -> None:
    dataset = read(written(tmp_path / "t.csv", text), validation=0.2, test=0.2)
    found = frame_of(dataset).dtypes.astype(str).replace("str", "object")
    assert tuple(found) == kinds


def test_another_word_for_missing(tmp_path: Path) -> None:
    text = "a,b\n1,?\n?,x\n3,y\n4,x\n-999,y\n6,x\n"
    dataset = read(written(tmp_path / "t.csv", text), missing=["?", "-999"], validation=0.2, test=0.2)
    assert dataset.columns == (-1, 3)
    back = frame_of(dataset)
    assert back["a"].isna().sum() == 2
    assert back["b"].isna().sum() == 1


def test_another_word_for_missing_in_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "f": np.r_[np.arange(29.0) ** 2, -999.0],
            "i": np.r_[np.arange(29) % 9, -999].astype(np.int16),
            "t": ["?", *"xyz" * 9, "x", "y"],
            "c": pd.Categorical(["?", *"xyz" * 9, "x", "y"]),
            "b": [True, False] * 15,
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    back = frame_of(read(tmp_path / "t.parquet", missing=["?", "-999", "1"])).sort_values("f")
    assert back.isna().sum().tolist() == [2, 5, 1, 1, 0]
    assert [str(kind) for kind in back.dtypes][1] == "Int16"


REFUSED: dict[str, tuple[bytes, str]] = {
    "latin-1": (b"a,b\n1,x\n2,\xe9\n", r"not UTF-8 text: line 3, byte 3 is 0xe9\. Save it as UTF-8"),
    "NUL": (b"a,b\n1,x\n2,\0\n", "NUL in line 3"),
    "ragged": (b"a,b\n1,x\n2,y,z\n3,x\n", r"not a table: .*Expected 2 columns, got 3"),
    "too short": (b"a,b\n1,x\n2\n", "Expected 2 columns, got 1"),
    "duplicate": (b"a,b,a\n1,x,2\n", "'a' more than once in its first line"),
    "unnamed": (b"a,,c\n1,x,2\n", r"no name for column 2 .* for each column\.$"),
    "index of pandas": (b",a,c\n0,x,2\n", r"no name for column 1 .* for each column; .* write the table with index=False\.$"),
    "no names": (b"1,2,3\n4,5,6\n", "only numbers in its first line"),
    "a row for names": (b"1,x\n2,y\n3,x\n", r"a row in its first line, .*: '1' is a number, and 'x' a value of its own column"),
    "empty": (b"", "is empty"),
    "no rows": (b"a,b\n", "no rows below its first line|is not a table"),
    "mixed": (b"a,b\n1,x\n2,y\nn/a,x\n4,y\n", r"column 'a' has numbers in 3 rows and other text in 1, first 'n/a' in row 3"),
    "wide": (b",".join(b"c%d" % k for k in range(2001)) + b"\n" + b"1," * 2000 + b"1\n", "2,001 columns, expected at most 2,000"),
    "very wide": (b",".join(b"c%d" % k for k in range(100_000)) + b"\n", "about 100,000 columns"),
}  # fmt: skip


@pytest.mark.parametrize(
    "text", [b"2019,kind\n2019,x\n3,y\n", b"mail,call\nmail,call\n,call\nmail,\n"], ids=["a year", "ticked"]
)
def test_names_that_could_be_values_are_names(tmp_path: Path, text: bytes) -> None:
    first = text.split(b"\n")[0].decode().split(",")
    assert list(read_frame(written(tmp_path / "t.csv", text), (), ()).columns) == first


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, case: tuple[bytes, str]) -> None:
    path = written(tmp_path / "t.csv", case[0])
    with pytest.raises(DataFormatError, match=case[1]) as caught:
        table(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_utf_16_is_read(tmp_path: Path) -> None:
    assert frame_of(read(written(tmp_path / "t.csv", PLAIN.encode("utf-16")))).shape == (30, 3)


def test_archives_that_are_cut_off_or_swell_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(PLAIN.encode())
    with pytest.raises(DataFormatError, match="cannot be unpacked"):
        table(written(tmp_path / "cut.csv.gz", packed[:-20]))
    monkeypatch.setattr("vaekit.data.delimited._FREE", 1000)
    with pytest.raises(DataFormatError, match="becomes more than"):
        table(written(tmp_path / "bomb.csv.gz", gzip.compress(b"a,b\n" + b"1,x\n" * 10**6)))
    frame = pd.DataFrame({"a": np.zeros(10**6), "b": np.zeros(10**6)})
    frame.to_parquet(tmp_path / "bomb.parquet", use_dictionary=False, compression="zstd")
    with pytest.raises(DataFormatError, match="its size does not justify"):
        table(tmp_path / "bomb.parquet")


def test_parquet_of_other_things_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"a": [[1, 2], [3]], "b": [1, 2]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataFormatError, match="column 'a' has type list"):
        table(tmp_path / "t.parquet")
    with pytest.raises(DataFormatError, match="cannot be read"):
        table(written(tmp_path / "no.parquet", b"PAR1 not at all"))


def test_a_named_index_is_a_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"y": np.arange(30.0) ** 2}, index=pd.Index(np.arange(30) % 5, name="k"))
    frame.to_parquet(tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").feature_names == ("k", "y")


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"target": "citi"}, "data.target names 'citi', which is no column of shop; closest: city"),
        ({"log": ["pay"]}, "data.log names 'pay'.*closest: paid"),
        ({"drop": ["age", "city", "paid"]}, "leaves no column"),
        ({"drop": ["city"], "target": "city"}, "data.target and data.drop both name 'city'"),
        ({"target": "paid"}, "data.target=paid is no category"),
        ({"validation": 0.0}, "data.validation is 0.0"),
    ],
)
def test_wishes_that_cannot_be_met(tmp_path: Path, wishes: dict[str, Any], message: str) -> None:
    path = written(tmp_path / "shop.csv", PLAIN)
    with pytest.raises(ValueError, match=message):
        table(path, **wishes)
    with pytest.raises(FileNotFoundError, match=r"data\.path=FILE"):
        table(tmp_path / "none.csv")
    with pytest.raises(DataFormatError, match=r"ends in '\.xls'"):
        table(written(tmp_path / "t.xls", b""))


@pytest.mark.parametrize("package", ["pandas", "pyarrow.csv"])
def test_without_its_packages_a_table_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'vaekit[tables]'")) as caught:
        table(written(tmp_path / "shop.csv", PLAIN))
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------- on output
def test_a_table_is_written_for_people_and_for_programs(tmp_path: Path) -> None:
    frame = everything()
    schema = columns(frame, WISHES)
    values = schema.encode(frame).numpy()
    path = TableRestore(schema).write(values, tmp_path / "samples.npy")
    assert path == tmp_path / "samples.csv"
    same(pd.read_parquet(tmp_path / "samples.parquet"), schema.decode(values), check_exact=False)
    text = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert list(text.columns) == list(frame.columns)
    assert text["city"].tolist() == [f"'{city}" if city.startswith("=") else city for city in frame["city"]]
    assert text["small"].tolist() == frame["small"].astype(str).tolist()  # a number is no formula
    assert text["children"].tolist() == [("" if value is pd.NA else str(value)) for value in frame["children"]]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_are_neutralised_in_cells_and_names(tmp_path: Path, start: str) -> None:
    frame = pd.DataFrame({f"{start}name": [f"{start}cmd", "x", "x", f"{start}cmd"]})
    schema = columns(frame)
    path = TableRestore(schema).write(schema.encode(frame).numpy(), tmp_path / "s.npy")
    with path.open(newline="") as file:
        cells = [row[0] for row in csv.reader(file)]
    assert cells == [f"'{start}name", f"'{start}cmd", "x", "x", f"'{start}cmd"]
    assert pd.read_parquet(tmp_path / "s.parquet").iloc[:, 0].tolist() == frame.iloc[:, 0].tolist()


# ---------------------------------------------------------------------------- adult
@pytest.fixture(scope="module")
def adult() -> Any:
    if find_files(ENTRIES["adult"], None)[1].missing:
        pytest.skip("the files of adult are not on this machine: set VAEKIT_DATA to their folder")
    return named_table("adult")


def test_adult_has_its_official_parts(adult: Any) -> None:
    assert (len(adult.train) + len(adult.validation), len(adult.test)) == (32_561, 16_281)
    assert adult.columns == (0, 9, 0, 16, 0, 7, 15, 6, 5, 2, 0, 0, 0, 42, 2)
    assert adult.class_names == ("<=50K", ">50K")
    assert adult.test.labels.bincount().tolist() == [12_435, 3_846]
    assert (adult.train.labels.bincount() + adult.validation.labels.bincount()).tolist() == [24_720, 7_841]
    assert adult.target == "income"
    schema = columns_of(adult)
    assert schema is not None
    assert [column.name for column in schema.seen if isinstance(column, Number) and column.log] == [
        "capital-gain",
        "capital-loss",
    ]
    missing = [column.name for column in schema.seen if isinstance(column, Category) and None in column.levels]
    assert missing == ["workclass", "occupation", "native-country"]


def test_adult_comes_back_as_published(adult: Any) -> None:
    _, found = find_files(ENTRIES["adult"], None)
    path = next(path for name, path in found.found.items() if name.startswith("adult.test"))
    text = pd.read_csv(path, header=None, skiprows=1, skipinitialspace=True, na_values="?", keep_default_na=False)
    text[14] = text[14].str.removesuffix(".")
    back = frame_of(adult).iloc[-16_281:].reset_index(drop=True)
    text.columns = back.columns
    missing = text.isna().any(axis=1)
    assert missing.sum() == back.isna().any(axis=1).sum() == 1_221
    assert (back[~missing] == text[~missing]).all().all()
    assert (back.isna() == text.isna()).all().all()
    assert [str(kind) for kind in back.dtypes].count("int64") == 6


def test_adult_by_the_other_door_is_told_where_to_go(adult: Any) -> None:
    with pytest.raises(ValueError, match=r"data\.named_table"):
        named("adult")
    with pytest.raises(ValueError, match="table is 'mnist', expected one of adult"):
        named_table("mnist")
