"""What installed bundles let be sampled, read anew from files whose hash release keys signed."""

from muster_agent.storage.content import Store, StoreRefused, decode_manifest
from muster_protocol.wire import chunks, sampling
from muster_protocol.wire.errors import ProtocolError, Refusal
from muster_protocol.wire.sampling import SamplingLimits


class BundleLimits:
    """Implements ``sampler.Releases``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def sampling(self, manifest: str) -> SamplingLimits | None:
        """Raises StoreRefused, ProtocolError or OSError for a file that isn't as signed."""
        data, bundle = self._store.manifest(manifest), self._store.bundle(manifest)
        if data is None or bundle is None:
            raise ProtocolError(f"bundle {manifest[:12]} is not installed any more")
        listing = decode_manifest(data)
        if all(file.path != sampling.FILE for file in listing.files):
            return None
        path = bundle / sampling.FILE
        if path.stat().st_size != listing.file(sampling.FILE).size_bytes:
            raise StoreRefused(Refusal.FILE_MISMATCH, f"{path}: not what the manifest says")
        content = path.read_bytes()
        if chunks.sha256_hex(content) != listing.file(sampling.FILE).sha256:
            raise StoreRefused(Refusal.FILE_MISMATCH, f"{path}: not what the manifest says")
        found = sampling.decode_limits(content)
        sampling.check_limits(found, listing)
        return found
