"""One outage is one alert: what befalls many devices at once is told as that. Pure.

A device that has an alert of its own already keeps it: only those that come to it are put together.
"""

from collections.abc import Collection, Iterable, Mapping

from muster_hub.alerts import rules
from muster_hub.alerts.rules import Condition

FLEET_DEVICES_MIN, FLEET_SHARE_MIN = 20, 0.5
"""So many silent devices, and that share of all: the fleet is out of reach."""
SITE_DEVICES_MIN, SITE_SHARE_MIN = 5, 0.5
ALONE_MAX = 50
"""Alerts of one kind that devices have each for itself; further ones are one together."""


def silences(
    silent: Collection[str],
    alone: Collection[str],
    sites: Mapping[str, str],
    active: Mapping[str, int],
    allowed_seconds: float,
) -> list[Condition]:
    """Alerts about silent devices. ``alone``: those with an alert of their own; ``sites``: device →
    its site; ``active``: site → devices in all.
    """
    found = [rules.silence(name, allowed_seconds) for name in sorted(silent) if name in alone]
    left = sorted(name for name in silent if name not in alone)
    everybody = sum(active.values())
    if len(silent) >= max(FLEET_DEVICES_MIN, FLEET_SHARE_MIN * everybody) and left:
        return [*found, rules.silences("", left, everybody, allowed_seconds)]
    by_site: dict[str, list[str]] = {}
    for name in left:
        by_site.setdefault(sites.get(name, ""), []).append(name)
    single = by_site.pop("", [])
    for site, names in sorted(by_site.items()):
        if len(names) >= max(SITE_DEVICES_MIN, SITE_SHARE_MIN * active.get(site, 0)):
            found.append(rules.silences(site, names, active.get(site, 0), allowed_seconds))
        else:
            single += names
    if len(single) > ALONE_MAX:
        return [*found, rules.silences("", sorted(single), everybody, allowed_seconds)]
    return found + [rules.silence(name, allowed_seconds) for name in sorted(single)]


def refusals(refused: Iterable[Condition], alone: Collection[str]) -> list[Condition]:
    """Alerts about refused updates: one for all devices that refuse the same for the same reason,
    once they are many. ``alone``: keys of alerts that stand already.
    """
    alike: dict[tuple[str, str, str], list[Condition]] = {}
    found = []
    for condition in refused:
        if condition.key in alone:
            found.append(condition)
            continue
        about = condition.detail
        kind = (str(about["manifest"]), str(about["slot"]), str(about["refusal"]))
        alike.setdefault(kind, []).append(condition)
    for conditions in alike.values():
        if len(conditions) > ALONE_MAX:
            found.append(rules.refused_widely(conditions))
        else:
            found += conditions
    return found
