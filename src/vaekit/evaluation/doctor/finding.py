"""One thing that the doctor has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that a reader of the numbers should know.

    Attributes:
        severity: "error" where there is no model to speak of, "warning" for a fault of the model or of its training, "note" for
            what limits the meaning of its numbers or could be better.
        title: In a few words.
        evidence: The numbers that show it.
        cause: Why, in one sentence.
        remedies: Commands that can be run as they stand, the most promising first.
        name: The same for all findings of a kind, for programs.
        explains: Names of findings that follow from this one, and are left out beside it.
    """

    severity: str
    title: str
    evidence: str
    cause: str
    remedies: tuple[str, ...]
    name: str = ""
    explains: tuple[str, ...] = ()

    @property
    def serious(self) -> bool:
        """Whether it is more than a note."""
        return self.severity != "note"

    def brief(self) -> str:
        """As lines of text with the first remedy only."""
        return "\n".join([self._said, *(f"  try: {remedy}" for remedy in self.remedies[:1])])

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "name": self.name,
            "severity": self.severity,
            "title": self.title,
            "evidence": self.evidence,
            "cause": self.cause,
            "remedies": list(self.remedies),
        }

    @property
    def _said(self) -> str:
        return f"{self.severity}: {self.title}. {self.evidence} {self.cause}"

    def __str__(self) -> str:
        """As lines of text."""
        return "\n".join([self._said, *(f"  try: {remedy}" for remedy in self.remedies)])
