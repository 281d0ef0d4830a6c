"""The page: what the files say is shown as text, nothing is executed or fetched, and no state of a run breaks it."""

import base64
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from types import ModuleType

import numpy as np
import pytest
import yaml

from vaekit.report import animation, generated_samples, training_losses, write_page
from vaekit.report.private import without_home

PAYLOADS = [
    "<script>document.title='ran'</script>",
    "</style><script>document.title='ran'</script>",
    "</title><img src=x onerror=\"document.title='ran'\">",
    '" onmouseover="document.title=\'ran\'" x="',
    "' autofocus onfocus='document.title=1' x='",
    "<svg onload=document.title='ran'>",
    "</pre></details><iframe src='data:text/html,<script>1</script>'></iframe>",
    "<a href=\"javascript:document.title='ran'\">x</a>",
    "<link rel=stylesheet href=https://example.org/x.css>",
    "--><!-- ]]> &lt;script&gt; &#60;b&#62; & \x00\x1b\ud800\u202e",
    "<meta http-equiv=refresh content='0;url=https://example.org'>",
    "{{7*7}} ${7*7} <b>",
]


@dataclass(frozen=True)
class Estimate:
    value: float
    standard_error: float
    unit: str
    n: int
    estimator: str = ""


@dataclass(frozen=True)
class Finding:
    severity: str
    title: str
    evidence: str
    cause: str
    remedies: tuple[str, ...]


class Page(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text, self.title, self._inside = [], [], [], "", ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self._inside = tag

    def handle_data(self, data):
        self.text.append(data)
        if self._inside == "title" and not self.title:
            self.title = data


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def assert_harmless(page):
    assert not {"script", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "data", "poster"):
            allowed = ("data:image/png;base64,", "data:image/gif;base64,", "#")
            assert value.startswith(allowed) or value == "data:,"


@pytest.fixture
def diagnosis(monkeypatch):
    """Give the list that the diagnosis answers with, in place of the real one, which needs torch."""
    findings = []
    units, doctor = ModuleType("vaekit.evaluation.units"), ModuleType("vaekit.evaluation.doctor")
    units.Estimate = Estimate
    doctor.diagnose = lambda *_: findings
    monkeypatch.setitem(sys.modules, "vaekit.evaluation", ModuleType("vaekit.evaluation"))
    monkeypatch.setitem(sys.modules, units.__name__, units)
    monkeypatch.setitem(sys.modules, doctor.__name__, doctor)
    return findings


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """Give a folder of figures."""
    folder = tmp_path_factory.mktemp("figures")
    training_losses([{"epoch": 1, "train/elbo": -90.0}], folder / "training_losses.png")
    for name in ("zebra", "generated_samples", "aardvark"):
        generated_samples(np.zeros((4, 1, 8, 8)), folder / f"{name}.png")
    return folder


@pytest.fixture
def run(tmp_path, diagnosis, figures):
    """Give a complete run folder."""
    folder = tmp_path / "runs" / "digits" / "2025-03-14_09-26-53"
    folder.mkdir(parents=True)
    rows = [{"epoch": n, "train/elbo": -90.0 / n, "val/elbo": -99.0 / n, "val/kl_loss": 3.0 * n} for n in range(1, 6)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text("seed: 42\ndata:\n  name: digits\n  path: /home/alice/digits.npz\n")
    (folder / "environment.json").write_text(
        json.dumps(
            {
                "versions": {"torch": "2.6.0"},
                "started": "2025-03-14T09:26:53+00:00",
                "seconds": 247.3,
                "python": "/home/alice/venv/bin/python",
                "command": "/home/alice/venv/bin/vaekit train data.path=/home/alice/digits.npz",
            }
        )
    )
    metrics = {
        "elbo": {"value": -24.3123, "standard_error": 0.42, "unit": "nats", "n": 1360},
        "active_units": {"value": 11, "standard_error": 0, "unit": "1", "n": 1360},
        "iwae_100": {"value": float("nan"), "standard_error": 0.1, "unit": "nats", "n": 9, "estimator": "K = 100"},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    shutil.copytree(figures, folder / "figures")
    return folder


def test_the_page_tells_the_run(run, diagnosis):
    diagnosis.append(Finding("note", "Grey pixels", "0.3", "No density.", ("vaekit train a=b",)))
    diagnosis.append(Finding("warning", "Posterior collapse", "0.01", "Too weak.", ()))
    path = write_page(run)
    assert path == run / "report.html"
    page = read(path)
    text = " ".join(" ".join(page.text).split())
    for told in ("digits", "2025-03-14 09:26", "4 min 07 s", "-24.31", "± 0.42 nats", "1,360 examples", "not finite"):
        assert told in text
    for told in ("vaekit train a=b", "K = 100", "torch", "2.6.0", "runs/digits/2025-03-14_09-26-53", "seed: 42"):
        assert told in text
    assert text.index("Posterior collapse") < text.index("Grey pixels")
    assert text.index("Generated samples") < text.index("aardvark") < text.index("zebra")
    assert page.tags.count("img") == 4
    assert page.title == "digits · vaekit report"
    assert "not complete" not in text
    assert_harmless(page)


def test_the_page_is_sealed(run):
    page = read(write_page(run))
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert ("content", policy) in page.attributes
    assert "url(" not in (run / "report.html").read_text()
    assert "@import" not in (run / "report.html").read_text()


def test_a_point_of_a_curve_says_its_value(run):
    assert "validation, epoch 2: 49.5 nats" in read(write_page(run)).text


def test_the_home_folder_is_shown_only_where_the_configuration_has_it(run):
    page = write_page(run).read_text()
    assert "~/venv/bin/vaekit train data.path=/home/alice/digits.npz" in page
    assert "~/venv/bin/python" in page
    assert "/home/alice/venv" not in page


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/bo/x", "~/x"),
        ("/root/x", "~/x"),
        ("/Users/bo", "~"),
        ("C:\\Users\\bo\\x", "~\\x"),
        ("--a=/home/bo/x,/home/al/y", "--a=~/x,~/y"),
        ("file:///home/bo/x", "file://~/x"),
        ("/opt/home/bo", "/opt/home/bo"),
        ("/rootless/x", "/rootless/x"),
    ],
)
def test_home_paths(path, shown):
    assert without_home(path) == shown


def test_equal_folders_give_equal_bytes(run):
    first = write_page(run).read_bytes()
    assert write_page(run).read_bytes() == first
    assert not list(run.glob(".*"))


def hostile_run(run, diagnosis, payload):
    """Put the payload into every text that the page reads."""
    written = payload.encode("utf-8", "replace").decode()
    entry = {"value": 1.0, "standard_error": 0.1, "unit": payload, "n": 5, "estimator": payload}
    (run / "metrics.json").write_text(json.dumps({payload: entry, "elbo": entry, payload + "2": payload}))
    (run / "metrics.jsonl").write_text(
        json.dumps({"epoch": 1, "train/elbo": -1.0, payload: payload})
        + "\n"
        + payload.encode("utf-8", "replace").decode()
    )
    config = {"name": payload, "data": {"name": payload}, "model": payload, payload: [payload]}
    (run / "config.yaml").write_text(
        yaml.safe_dump(config) + "# " + "".join(c for c in written if c.isprintable()) + "\n", encoding="utf-8"
    )
    keys = ("command", "device", "started", "finished", "seconds", "threads", payload)
    (run / "environment.json").write_text(json.dumps({**dict.fromkeys(keys, payload), "versions": {payload: payload}}))
    name = written.replace("/", "∕").replace("\x00", "")[:60]
    shutil.copy(run / "figures" / "zebra.png", run / "figures" / f"{name}.png")
    (run / "figures" / f"{name}2.png").write_bytes(b"<script>")
    diagnosis[:] = [Finding(payload, payload, payload, payload, (payload, payload))]
    return run


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_is_shown_as_text(run, diagnosis, payload):
    harmless = set(read(write_page(run)).tags)
    page = read(write_page(hostile_run(run, diagnosis, payload)))
    assert_harmless(page)
    assert set(page.tags) <= harmless | {"dl", "dt", "dd", "span", "code", "strong", "circle"}
    shown = (
        payload.replace("\x00", "\ufffd")
        .replace("\x1b", "\ufffd")
        .replace("\ud800", "\ufffd")
        .replace("\u202e", "\ufffd")
    )
    assert "".join(page.text).count(shown) >= 15
    assert page.title == f"{shown} · vaekit report"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium on this machine")
def test_a_browser_runs_nothing_of_it(run, diagnosis, tmp_path):
    path = write_page(hostile_run(run, diagnosis, "".join(PAYLOADS)))
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom")
    answer = subprocess.run(["chromium", *options, path.as_uri()], capture_output=True, timeout=60, check=True)
    page = Page(answer.stdout.decode())
    assert_harmless(page)
    assert page.title.endswith("vaekit report")


FILES = ("config.yaml", "environment.json", "metrics.json", "metrics.jsonl", "figures/zebra.png")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
def test_a_file_that_ends_in_the_middle_costs_only_itself(run, name, share):
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: int(share * len(content))])
    page = read(write_page(run))
    assert_harmless(page)
    assert page.title == "digits · vaekit report"


@pytest.mark.parametrize("name", ["environment.json", "metrics.json", "metrics.jsonl", "figures/zebra.png"])
def test_a_damaged_file_is_named(run, name):
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: len(content) - 40])
    assert name.split("/")[-1] in "".join(read(write_page(run)).text)
    assert "not complete" in "".join(read(write_page(run)).text)


def test_a_killed_run_keeps_the_epochs_that_it_wrote(run):
    with (run / "metrics.jsonl").open("a") as rows:
        rows.write('{"epoch": 6, "train/el')
    page = read(write_page(run))
    assert "The last line of metrics.jsonl is incomplete: the run was stopped while it wrote." in page.text
    assert "validation, epoch 5: 19.8 nats" in page.text


def test_the_commands_name_the_folder_of_the_configuration(run):
    (run / "config.yaml").write_text("output_dir: else where/\nname: try 1\n")
    page = write_page(run).read_text()
    assert f"vaekit evaluate &#x27;else where/try 1/{run.name}&#x27;" in page.replace("&#39;", "&#x27;")


def test_only_an_unfinished_run_can_go_on(run):
    assert "vaekit resume" in write_page(run).read_text()
    known = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps({**known, "finished": "2025-03-14T09:31:00+00:00"}))
    assert "vaekit resume" not in write_page(run).read_text()


def test_every_picture_that_exists_is_shown_in_its_place_with_words(run):
    names = [
        "class_samples", "samples_gmm", "sample_stage0_4x4", "reconstructions_stage0_4x4", "sample_stage1_8x8", "traversal",
        "interpolation", "codebook_usage",
    ]  # fmt: skip
    for name in reversed(names):
        shutil.copy(run / "figures" / "zebra.png", run / "figures" / f"{name}.png")
    animation([np.zeros((20, 30, 3), np.uint8), np.ones((20, 30, 3), np.uint8)], run / "figures" / "training.gif")
    page = read(write_page(run))
    assert_harmless(page)
    alternatives = [value for name, value in page.attributes if name == "alt"]
    assert [text for text in alternatives if text != "training losses"] == [
        "Generated samples", "Samples by class", "Samples from a fitted prior: gmm", "Samples over the training",
        "Samples of stage 0, 4 x 4", "Reconstructions of stage 0, 4 x 4", "Samples of stage 1, 8 x 8",
        "Latent dimensions, one at a time", "From one example to another", "Use of the codebook", "aardvark", "zebra",
    ]  # fmt: skip
    moving = [value for name, value in page.attributes if name == "src" and value.startswith("data:image/gif")]
    assert len(moving) == 1
    assert base64.b64decode(moving[0].partition(",")[2]) == (run / "figures" / "training.gif").read_bytes()
    (run / "figures" / "training.gif").write_bytes(b"GIF89a")
    assert "figures/training.gif is no complete GIF" in "".join(read(write_page(run)).text)


def test_an_empty_folder_gives_a_page(tmp_path):
    page = read(write_page(tmp_path))
    text = "".join(page.text)
    for name in ("config.yaml", "environment.json", "metrics.json", "metrics.jsonl", "pictures"):
        assert name in text
    assert f"vaekit evaluate {tmp_path.name}" in text


def test_no_folder_is_an_error_that_says_what_to_give(tmp_path):
    with pytest.raises(NotADirectoryError, match="printed as its last line"):
        write_page(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "[]", "null", "3", '{"elbo": {"value": "much"}}', '{"elbo": null}', "\ufeff{}"]
)
@pytest.mark.parametrize("name", ["metrics.json", "environment.json", "config.yaml", "metrics.jsonl"])
def test_files_that_hold_something_else(run, name, content):
    (run / name).write_text(content, encoding="utf-8")
    assert_harmless(read(write_page(run)))


def test_a_diagnosis_that_fails_is_told(run, monkeypatch):
    def fail(*_):
        raise KeyError("training")

    monkeypatch.setattr(sys.modules["vaekit.evaluation.doctor"], "diagnose", fail)
    assert "The diagnosis failed: KeyError: 'training'" in read(write_page(run)).text
