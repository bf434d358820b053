"""The hub's metrics in Prometheus' words: what was read becomes metric families. Pure.

Names follow Prometheus' rules: base units, ``_total`` for counters, no series by device.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from muster_hub.metrics.delivery import DeliveryReading, Outcome
from muster_hub.metrics.looping import LoopReading
from muster_hub.metrics.reading import DeviceState, Reading
from muster_hub.settings.loop import LoopState
from muster_hub.storage.models import RolloutState


def families(
    reading: Reading,
    delivery: DeliveryReading,
    looping: LoopReading,
    *,
    expiries: Mapping[str, float],
    parts: Mapping[str, Mapping[str, Any]],
) -> Iterator[Metric]:
    """All families of one scrape.

    ``expiries``: role of the signed catalogue → end of its metadata in seconds since 1970.
    ``parts``: the hub's parts as ``GET /health`` shows them.
    """
    yield _gauge(
        "muster_devices", "Devices by state.", ("state",),
        (((state,), reading.devices[state]) for state in get_args(DeviceState)),
    )  # fmt: skip
    yield _gauge(
        "muster_model_devices", "Slots of devices in which a version runs, by their reports.",
        ("model", "version"), reading.running.items(),
    )  # fmt: skip
    yield _counter(
        "muster_inferences", "Inferences counted on devices and committed here, each once.",
        ("model", "version"), reading.inferences.items(),
    )  # fmt: skip
    yield _counter(
        "muster_inference_errors", "Requests that devices answered with an error.",
        ("model", "version"), reading.errors.items(),
    )  # fmt: skip
    yield _gauge(
        "muster_drift_devices", "Devices with an open drift alert, by feature.",
        ("model", "feature"), reading.drifting.items(),
    )  # fmt: skip
    yield _gauge(
        "muster_alerts_open", "Alerts that are open or acknowledged.",
        ("cause", "severity"), reading.alerts.items(),
    )  # fmt: skip
    yield _gauge(
        "muster_rollout_state", "1 for the state a rollout is in; ended ones stay for a week.",
        ("rollout", "model", "state"),
        (
            ((str(number), model, state), float(state == held))
            for (number, model), held in reading.rollouts.items()
            for state in get_args(RolloutState)
        ),
    )  # fmt: skip
    yield _gauge(
        "muster_loop_state", "1 for the state that a model's latest loop is in.",
        ("model", "state"),
        (
            ((model, state), float(state == held))
            for model, held in reading.loops.items()
            for state in get_args(LoopState)
        ),
    )  # fmt: skip
    yield from _loops(looping)
    yield _gauge(
        "muster_metadata_expiry_timestamp_seconds",
        "When a role's signed metadata end, in seconds since 1970.",
        ("role",), (((role,), at) for role, at in expiries.items()),
    )  # fmt: skip
    yield _gauge(
        "muster_messages_waiting", "Decided messages that the broker has not taken yet.",
        (), (((), reading.messages_waiting),),
    )  # fmt: skip
    yield from _delivery(delivery)
    ingest = parts.get("ingest", {})
    yield _gauge(
        "muster_ingest_messages_waiting", "Messages of devices that are to be committed yet.",
        (), (((), float(ingest.get("waiting", 0))),),
    )  # fmt: skip
    yield _gauge(
        "muster_ingest_lag_seconds", "For how long the oldest of them has waited.",
        (), (((), float(ingest.get("lag_seconds", 0.0))),),
    )  # fmt: skip
    process = parts.get("process", {})
    yield _gauge(
        "muster_hub_role", "1 for each part of the hub that this process has.",
        ("role",), (((role,), 1.0) for role in process.get("roles", ())),
    )  # fmt: skip
    yield _gauge(
        "muster_hub_lease_epoch", "Number of its term where this process leads; 0: it stands by.",
        ("role",), (((role,), float(epoch)) for role, epoch in process.get("leases", {}).items()),
    )  # fmt: skip
    yield _gauge(
        "muster_hub_part_up", "1 while a part of the hub works.",
        ("part",), (((name,), float(bool(part.get("ok")))) for name, part in parts.items()),
    )  # fmt: skip


def _loops(looping: LoopReading) -> Iterator[Metric]:
    for name, says, numbers in (
        ("muster_loop_since_timestamp_seconds",
         "When a model's open loop entered its state, in seconds since 1970.", looping.since),
        ("muster_loop_deadline_timestamp_seconds",
         "When it must have left its state, or it is abandoned.", looping.deadlines),
        ("muster_loop_close_seconds",
         "Median, from opening to closed, of the loops closed in 30 days.", looping.close_seconds),
        ("muster_loop_trainings_left",
         "Trainings that may still begin by the budget of 30 days.", looping.trainings_left),
    ):  # fmt: skip
        yield _gauge(name, says, ("model",), (((m,), value) for m, value in numbers.items()))
    yield _gauge(
        "muster_loops_ended", "Loops that ended in the last 30 days, by how.",
        ("model", "state"), looping.ended.items(),
    )  # fmt: skip
    yield _gauge(
        "muster_loop_trainings", "Trainings of loops opened in the last 30 days, by result.",
        ("model", "result"), looping.trainings.items(),
    )  # fmt: skip


def _delivery(delivery: DeliveryReading) -> Iterator[Metric]:
    """The last month; what there is nothing to say from yet is left out."""
    yield _gauge(
        "muster_delivery_releases", "Versions pushed in the last 30 days, by what became of them.",
        ("outcome",), (((name,), delivery.outcomes[name]) for name in get_args(Outcome)),
    )  # fmt: skip
    for name, says, value in (
        ("lead_time_seconds", "Median, from a push to its first complete rollout, of 30 days.",
         delivery.lead_seconds),
        ("exposure_seconds", "Median, from the start of a rollout that went wrong to its end.",
         delivery.exposed_seconds),
        ("going_back_seconds", "Median, from that end to the last device's return.",
         delivery.back_seconds),
        ("alerts_per_device_month", "Alerts opened in the last 30 days, by device.",
         delivery.alerts_per_device_month),
        ("alerts_acted_ratio", "Share of them that somebody acknowledged or resolved.",
         delivery.alerts_acted / delivery.alerts if delivery.alerts else None),
        ("energy_saved_joules", "By devices' radios, estimated, in 30 days: raw data not sent.",
         delivery.joules_saved),
    ):  # fmt: skip
        samples = () if value is None else (((), value),)
        yield _gauge(f"muster_delivery_{name}", says, (), samples)
    yield _gauge(
        "muster_delivery_bytes", "Of 30 days' inferences: summaries (estimated), and as raw data.",
        ("kind",),
        (((kind,), value) for kind, value in (("sent", delivery.bytes_sent),
                                              ("raw", delivery.bytes_raw)) if value is not None),
    )  # fmt: skip


def _gauge(
    name: str, says: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    return _filled(GaugeMetricFamily(name, says, labels=labels), samples)


def _counter(
    name: str, says: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    return _filled(CounterMetricFamily(name, says, labels=labels), samples)


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily,
    samples: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    for labels, value in samples:
        family.add_metric(labels, value)
    return family
