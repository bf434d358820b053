"""Concept drift: a model's mistakes, as labels tell them, become more frequent.

Page–Hinkley over windows of labels. A window of m labels with e wrong ones is as many steps of the
textbook test on zeros and ones in any order, up to when within the window it fires.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class PageHinkley:
    """The test's settings and running state; ``feed`` returns the next one.

    ``delta`` is the change of the error rate that is tolerated, ``threshold`` how many mistakes
    beyond it, added up, are too many; ``labels_min`` come before any judgement. ``forgetting`` of 1
    keeps all of the sum.
    """

    delta: float = 0.005
    threshold: float = 50.0
    labels_min: int = 30
    forgetting: float = 0.9999
    labels: int = 0
    mean: float = 0.0
    total: float = 0.0
    least: float = 0.0
    drifting: bool = False

    def step(self, error: float) -> "PageHinkley":
        """One label: 1 for a mistake, 0 for a right answer, or any error of a regression."""
        labels = self.labels + 1
        mean = self.mean + (error - self.mean) / labels
        total = self.forgetting * self.total + (error - mean - self.delta)
        least = min(self.least, total)
        over = labels >= self.labels_min and total - least > self.threshold
        return replace(self, labels=labels, mean=mean, total=total, least=least, drifting=over)

    def feed(self, right: int, wrong: int) -> "PageHinkley":
        """A window's labels, mistakes spread evenly over it; ``drifting`` if it fired anywhere."""
        test, fired = self, False
        labels = right + wrong
        for step in range(labels):
            mistake = (step + 1) * wrong // labels - step * wrong // labels
            test = test.step(float(mistake))
            fired = fired or test.drifting
        return replace(test, drifting=fired)

    def restarted(self) -> "PageHinkley":
        """The same settings after a drift was dealt with, nothing remembered."""
        return PageHinkley(self.delta, self.threshold, self.labels_min, self.forgetting)
