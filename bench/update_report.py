# ruff: noqa: E501 (a table's row is one line)
"""The tables of updates in ``bench/README.md``, from the results."""

from typing import Any

from bench.signals_report import README, put

RUNTIMES = {"swap_onnx": "ONNX Runtime", "swap_tflite": "LiteRT"}
SIZED = RUNTIMES | {
    f"{part}_{word}": runtime for word in ("small", "large") for part, runtime in RUNTIMES.items()
}
P99_RATIO_MAX = 2
RESTARTED = {"restart_uvicorn": "plain uvicorn", "restart_mlserver": "MLServer"}
RETRAINED = {
    "fine_tuned_head": "last layer only",
    "full_retrain": "all layers",
    "quantised_int8": "weights quantised to int8",
}
FETCHED = {
    "muster_unstored": "an agent, each chunk verified",
    "muster": "an agent, each chunk verified, synced every 8 MiB",
    "raw_mqtt": "plain MQTT: all pieces subscribed at once, one file, synced at the end",
    "http": "HTTPS: one GET of one file, synced at the end",
}
LARGE = {
    "fetched": "fetched in ranges of 1 MiB, each chunk verified, synced every 8 MiB",
    "fetched_unstored": "the same, kept in memory",
    "disk": "the disk alone: one file from beginning to end, synced every 8 MiB",
    "chunk_by_chunk": "the disk alone: a file for each chunk, each synced",
}
FROM_HUB = {
    "ranges": "in ranges of 1 MiB, each chunk verified, synced every 8 MiB",
    "one_by_one": "chunk by chunk, each verified, synced every 8 MiB",
    "ranges_unstored": "in ranges of 1 MiB, each chunk verified",
    "one_by_one_unstored": "chunk by chunk, each verified",
    "one_get": "one GET of the whole file, synced at the end, nothing verified",
}


def write(results: dict[str, Any]) -> None:
    """Replace what stands between the marks."""
    lines = swaps(results) + gaps(results) + fetch(results)
    lines += (
        fetch_http(results)
        + fetch_large(results)
        + fleet(results)
        + delta(results)
        + isolation(results)
    )
    put(README, "updates", lines)


def where(part: dict[str, Any]) -> str:
    machine = part["machine"]
    return f"({machine['cpus']} cores, load before {machine['load_before']}, Python {machine['python']})"


def swaps(results: dict[str, Any]) -> list[str]:
    lines = [
        "| swaps under load | swaps | failed requests | steady p50, p99 | during p50, p99 | p99 ratio | ready after | supervisor, worker RSS at the 5th and last swap |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, runtime in SIZED.items():
        if (own := results.get(name)) is None:
            continue
        steady, during = own["steady"], own["during_swaps"]
        ours, theirs = own["supervisor_rss_mib"], own["worker_rss_mib"]
        lines.append(
            f"| {runtime}, {own['megabytes']} MB, {own['requests_per_second']:g}/s | {own['swaps']} "
            f"| {own['failed_requests']} | {steady['p50_ms']}, {steady['p99_ms']} ms "
            f"| {during['p50_ms']}, {during['p99_ms']} ms of {during['requests']} | {own['p99_ratio']} "
            f"| {own['ready_seconds_median']} s | {ours[0]} → {ours[1]}, {theirs[0]} → {theirs[1]} MiB |"
        )
    measured = [name for name in SIZED if name in results]
    loads = ", ".join(str(results[name]["machine"]["load_before"]) for name in measured)
    missed = [
        f"{SIZED[name]}'s p99 ratio at {results[name]['megabytes']} MB is above the "
        f"{P99_RATIO_MAX} aimed at."
        for name in measured
        if results[name]["p99_ratio"] > P99_RATIO_MAX
    ]
    footnote = (
        f"Load before each, in this order: {loads}. {where(results[measured[0]])}"
        if measured
        else ""
    )
    return [*lines, "", footnote, *missed, ""]


def isolation(results: dict[str, Any]) -> list[str]:
    """What isolating a candidate costs its start."""
    lines = ["", "| from process to ready | isolated | not isolated |", "|---|---|---|"]
    for part, runtime in (("isolation_onnx", "ONNX Runtime"), ("isolation_tflite", "LiteRT")):
        if (own := results.get(part)) is not None:
            seconds = [own[f"{rung}_ready_seconds_median"] for rung in ("full", "none")]
            lines.append(
                f"| {runtime}, {own['megabytes']} MB | {seconds[0]:.3f} s | {seconds[1]:.3f} s |"
            )
    if len(lines) == 3:
        return []
    return [*lines, "", "Medians, by turns.", ""]


def gaps(results: dict[str, Any]) -> list[str]:
    lines = [
        "| new model of the same size | times | failed requests | longest time without an answer: median, most |",
        "|---|---|---|---|",
    ]
    named = {name: f"Muster's swap, {runtime}" for name, runtime in RUNTIMES.items()}
    named |= {name: f"{peer}, stopped and started" for name, peer in RESTARTED.items()}
    for name, title in named.items():
        own = results.get(name, {})
        if "gap_ms_median" not in own:
            continue
        lines.append(
            f"| {title} | {own.get('swaps') or own['restarts']} | {own['failed_requests']} "
            f"| {own['gap_ms_median']:,}, {own['gap_ms_max']:,} ms |"
        )
    return [*lines, ""]


def fetch(results: dict[str, Any]) -> list[str]:
    if (own := results.get("fetch")) is None:
        return []
    lines = [f"| one device fetches {own['megabytes']} MB | MiB/s |", "|---|---|"]
    lines += [f"| {title} | {own['mib_per_second'][way]} |" for way, title in FETCHED.items()]
    footnote = f"Medians of {own['rounds']}, taking turns; verified in memory {own['of_raw_mqtt']} of plain MQTT and {own['of_http']} of HTTPS. {where(own)}"
    return [*lines, "", footnote, ""]


def fetch_http(results: dict[str, Any]) -> list[str]:
    if (own := results.get("fetch_http")) is None:
        return []
    lines = [
        f"| one device fetches {own['megabytes']} MB from the hub's API over HTTPS | MiB/s | requests |",
        "|---|---|---|",
    ]
    lines += [
        f"| {title} | {own['mib_per_second'][way]} | {own['requests'][way]} |"
        for way, title in FROM_HUB.items()
    ]
    return [*lines, "", f"Medians of {own['rounds']}, taking turns. {where(own)}", ""]


def fetch_large(results: dict[str, Any]) -> list[str]:
    if (own := results.get("fetch_large")) is None:
        return []
    lines = [
        f"| {own['megabytes']} MB, more than the broker keeps, over HTTPS | MiB/s |",
        "|---|---|",
    ]
    lines += [f"| {title} | {own['mib_per_second'][way]} |" for way, title in LARGE.items()]
    footnote = (
        f"Medians of {own['rounds']}, taking turns. The fetch reaches {own['of_disk']:.0%} of the disk's "
        f"rate, {own['of_the_slower_of_disk_and_link']:.0%} of the slower of disk and link. {where(own)}"
    )
    return [*lines, "", footnote, ""]


def fleet(results: dict[str, Any]) -> list[str]:
    if (own := results.get("fleet")) is None:
        return []
    lines = [
        f"| {own['megabytes']} MB to a fleet of | all have it after | hub's CPU | hub's bytes to the broker | chunks read | asked the hub |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['agents']} | {row['seconds_until_all_have_it']} s | {row['hub_cpu_seconds']} s "
        f"| {row['hub_bytes_sent']:,} | {row['hub_chunks_read']} | {row['asked_the_hub']} |"
        for row in own["rows"]
    ]
    footnote = f"The largest fleet cost the hub {own['egress_ratio']} times the bytes of one device. {where(own)}"
    return [*lines, "", footnote, ""]


def delta(results: dict[str, Any]) -> list[str]:
    if (own := results.get("delta")) is None:
        return []
    lines = ["| retrained | cut at 128 KiB | cut at tensors too |", "|---|---|---|"]
    lines += [
        f"| {title} | {own[case]['fixed_share_sent']:.1%} | {own[case]['tensor_aligned_share_sent']:.1%} |"
        for case, title in RETRAINED.items()
    ]
    return lines
