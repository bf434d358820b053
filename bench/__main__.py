"""``python -m bench NAME [options]`` runs ``bench/NAME.py``; without a name it lists them."""

import importlib
import sys
from pathlib import Path


def names() -> list[str]:
    found = Path(__file__).parent.glob("*.py")
    return sorted(path.stem for path in found if "def main(" in path.read_text())


if __name__ == "__main__":
    known = [name for name in names() if name != "__main__"]
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        sys.exit(f"usage: python -m bench NAME [options]; one of {', '.join(known)}")
    del sys.argv[0]
    # Imported, not run as __main__: what its processes are given must have a name to be found by.
    sys.exit(importlib.import_module(f"bench.{sys.argv[0]}").main())
