"""Stand-in: whatever answers in the place of a model and under its name, so that questions have the keys they would have."""

from __future__ import annotations

from penchant.lm import LanguageModel

__all__ = ["StandIn"]


class StandIn:
    """Takes name, revision and context from a model; nobody outside is asked."""

    where = ""

    def __init__(self, of: LanguageModel) -> None:
        self.of = of

    @property
    def name(self) -> str:
        return self.of.name

    @property
    def revision(self) -> str:
        return self.of.revision

    @property
    def context(self) -> int:
        return self.of.context
