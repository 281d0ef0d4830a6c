"""The examples that are looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.data.batch import Batch, Split
from vaekit.evaluation.passes import Plan, examples

# enough to tell apart what differs by a tenth of the spread over examples; a pass over them takes less than an epoch
_EXAMPLES = 512
# and as many values as these may have in all: images of 256 x 256 pixels must not need gigabytes
_VALUES, _FEWEST = 1 << 22, 16


def look(split: Split, plan: Plan) -> Batch:
    """Examples spread evenly over a split: 512, or fewer where there are no more or where they are large."""
    values = split.stored.shape[1:].numel()
    count = min(_EXAMPLES, len(split), max(_FEWEST, _VALUES // values))
    index: Tensor = torch.linspace(0, len(split) - 1, count, dtype=torch.float64).round().long()
    return examples(split, index.to(split.stored.device), plan)
