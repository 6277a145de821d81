"""What random choices in train did to the numbers of some models: as report.json holds it, and as tables show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["AtRate", "Noise", "Noisy", "level"]


@dataclass(frozen=True)
class AtRate:
    """One model with `rate` times as many random choices as true ones; each field by metric.

    per_seed: means over users. mean: over seeds. relative_loss: the share of the mean at rate 0 that is lost (negative
    where more was reached), None where there is none to lose.
    """

    rate: float
    mean: Mapping[str, float]
    per_seed: Mapping[str, tuple[float, ...]]
    relative_loss: Mapping[str, float | None]


@dataclass(frozen=True)
class Noisy:
    """One model at every rate. marks: what a reader of any table must know of it, as of a report."""

    name: str
    per_rate: tuple[AtRate, ...]
    marks: tuple[str, ...] = ()

    @staticmethod
    def of(name: str, measured: Mapping[float, Sequence[Mapping[str, float]]], marks: tuple[str, ...] = ()) -> Noisy:
        """From the metrics of each seed at each rate."""
        found: list[AtRate] = []
        for rate, seeds in measured.items():
            per_seed = {metric: tuple(seed[metric] for seed in seeds) for metric in seeds[0]}
            mean = {metric: sum(values) / len(values) for metric, values in per_seed.items()}
            clean = found[0] if found else AtRate(rate, mean, per_seed, {})
            lost = {m: 1 - mean[m] / v if clean.rate == 0 and v else None for m, v in clean.mean.items()}
            found.append(AtRate(rate, mean, per_seed, lost))
        return Noisy(name, tuple(found), marks)


@dataclass(frozen=True)
class Noise:
    """metric: the main one, by which epochs were chosen where it was measured. rates: rising. models: the run's own first."""

    metric: str
    rates: tuple[float, ...]
    models: tuple[Noisy, ...]

    @property
    def compared(self) -> bool:
        """Whether there is a rate 0 and another, so that losses can be told."""
        return self.rates[0] == 0 and len(self.rates) > 1

    def metrics(self, most: int = 2) -> tuple[str, ...]:
        """The main metric, and others at the same cut-off."""
        at = self.metric.partition("@")[2]
        shown = [m for m in self.models[0].per_rate[0].mean if m == self.metric or m.partition("@")[2] == at]
        return tuple(sorted(shown, key=lambda m: m != self.metric)[:most])


def level(rate: float) -> str:
    """A rate as people read it: "none", "10 %", "2.5 %"."""
    return f"{100 * rate:.3g} %" if rate else "none"
