"""Make docs/results.md of the files in docs/results: `python docs/results.py`."""

from pathlib import Path

from vaekit.files import write_atomically
from vaekit.reproduce import PROTOCOLS, page, read_results

DOCS = Path(__file__).parent


def made() -> str:
    """The page."""
    return page(read_results(DOCS / "results"), PROTOCOLS.values())


if __name__ == "__main__":
    write_atomically(DOCS / "results.md", made().encode())
