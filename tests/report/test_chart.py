"""Numbers beside the axis of a curve stay within the picture."""

import re

import pytest

from vaekit.report.chart import LEFT, LONGEST, chart
from vaekit.report.history import panels


@pytest.mark.parametrize(("low", "long"), [(3.0, False), (30302.5, True)])
def test_a_long_number_is_set_narrower(low: float, long: bool) -> None:
    rows = [{"epoch": float(k), "train/kl_loss": low + k / 4} for k in range(1, 6)]
    drawn = chart(panels(rows)[0])
    labels = re.findall(r'<text[^>]*class="chart-tick"[^>]*text-anchor="end"[^>]*>([^<]*)<', drawn)
    assert labels
    for label in labels:
        (tag,) = re.findall(rf'<text[^>]*text-anchor="end"[^>]*>{re.escape(label)}<', drawn)
        assert ("textLength" in tag) == (len(label) > LONGEST)
    assert any(len(label) > LONGEST for label in labels) == long
    assert f'textLength="{LEFT - 9}"' in drawn or not long
