"""Everything the demo releases: two versions, and four that no device may run."""

from pathlib import Path

from muster_hub.demo import bad_releases, bundles, digits

PROBATION_SECONDS = 3.0


class Models:
    """Trains both versions and packs all six bundles; takes some seconds."""

    def __init__(self, directory: Path) -> None:
        self.data = digits.load()
        plain = digits.train(self.data)
        self.first = bundles.release(
            directory / "1", "1", plain, self.data, probation_seconds=PROBATION_SECONDS
        )
        hardened = digits.train(self.data, digits.AUGMENTATIONS)
        self.second = bundles.release(
            directory / "2", "2", hardened, self.data, probation_seconds=PROBATION_SECONDS
        )
        self.bad = bad_releases.all_four(
            directory,
            good=bundles.files_of(hardened, self.data),
            worse=bundles.files_of(plain, self.data),
        )
