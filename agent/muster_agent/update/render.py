"""The update's table as a page shows it: ``python -m muster_agent.update.render docs/update.md``.

Replaces what stands between the page's two marks; ``--check`` only says whether it is current.
"""

import argparse
import sys
from itertools import groupby
from pathlib import Path

from muster_agent.update.table import BOUNDED, HOLDS, ON_ENTRY, ON_RESUME, TABLE, Act, Cause, State
from muster_protocol.wire.limits import JOURNAL_RESUMES_MAX

BEGIN = "<!-- table: begin -->"
END = "<!-- table: end -->"


def diagram() -> str:
    """The table as a Mermaid state diagram, one arrow for each pair of states."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> idle"]
    for state, row in TABLE.items():
        by_target = sorted(row.items(), key=lambda item: list(State).index(item[1]))
        for target, causes in groupby(by_target, key=lambda item: item[1]):
            label = ", ".join(cause for cause, _ in causes)
            lines.append(f"    {state} --> {target}: {label}")
    return "\n".join([*lines, "```"])


def states() -> str:
    """What each state guarantees, does when entered, and does after a restart."""
    lines = [
        "| State | What holds while it lasts | Entered | After a restart |",
        "|---|---|---|---|",
    ]
    for state in State:
        bound = f", at most {JOURNAL_RESUMES_MAX} times without progress"
        resumed = f"{ON_RESUME[state]}{bound if state in BOUNDED else ''}"
        lines.append(f"| `{state}` | {HOLDS[state]} | {ON_ENTRY[state]} | {resumed} |")
    return "\n".join(lines)


def terms(heading: str, kind: type[Cause] | type[Act]) -> str:
    """A table of the members of an enumeration and what they mean."""
    lines = [f"| {heading} | |", "|---|---|"]
    lines += [f"| {member} | {member.meaning} |" for member in kind]
    return "\n".join(lines)


def block() -> str:
    """Everything that the page quotes from the code."""
    return "\n\n".join([diagram(), states(), terms("Cause", Cause), terms("Act", Act)])


def renewed(page: str) -> str:
    """``page`` with the table as it is now; raises ValueError when a mark is missing."""
    head, rest = page.split(BEGIN, 1)
    _, tail = rest.split(END, 1)
    return f"{head}{BEGIN}\n{block()}\n{END}{tail}"


def main(arguments: list[str] | None = None) -> int:
    """Rewrite the page; 1 when it has no place for the table."""
    parser = argparse.ArgumentParser(description="Render the update's table into a page.")
    parser.add_argument("page", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 when stale")
    options = parser.parse_args(arguments)
    path: Path = options.page
    before = path.read_text(encoding="utf-8")
    try:
        after = renewed(before)
    except ValueError:
        print(f"{path}: lacks the marks {BEGIN} and {END}", file=sys.stderr)
        return 2
    if options.check:
        return int(before != after)
    path.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
