"""Everything the demo releases: two versions, and four that no device may run."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from muster_hub.demo import bad_releases, bundles, digits
from muster_hub.demo.bad_releases import BadRelease
from muster_hub.demo.bundles import Bundle

PROBATION_SECONDS = 3.0


@dataclass(frozen=True)
class Second:
    """The second version, and what an outsider makes of both."""

    bundle: Bundle
    bad: list[BadRelease]


class Training:
    """Trains in the background while hub and agents start; the first version comes first."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="training")
        self.data = digits.load()
        self.first: Future[Bundle] = self._pool.submit(self._train_first)
        self.second: Future[Second] = self._pool.submit(self._train_second)

    def close(self) -> None:
        """End the processes that train."""
        self._pool.shutdown(cancel_futures=True)

    def _train_first(self) -> Bundle:
        return self._release("1", digits.train(self.data))

    def _train_second(self) -> Second:
        hardened = digits.train(self.data, digits.AUGMENTATIONS)
        bad = bad_releases.all_four(
            self._directory,
            good=bundles.files_of(hardened, self.data),
            layers=hardened.layers(),
        )
        return Second(self._release("2", hardened), bad)

    def _release(self, version: str, classifier: digits.Classifier) -> Bundle:
        return bundles.release(
            self._directory / version,
            version,
            classifier,
            self.data,
            probation_seconds=PROBATION_SECONDS,
        )
