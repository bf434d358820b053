"""What stands under ``[feeds.<name>]`` in ``agent.toml``: sources, their tags, and sinks.

Addresses, credentials and the mapping of tags to signals are the device's own. What the model needs
of these signals is in its signed manifest. Pure.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from muster_agent.base.picture_settings import CameraSource, ImagesSource
from muster_agent.base.tag_settings import PeriodSeconds, TagSettings
from muster_protocol.wire import limits

SIGNALS_MAX = limits.FEATURES_MAX
NetworkPort = Annotated[int, Meta(ge=1, le=65_535)]
SourceKind = Literal["mqtt", "modbus", "opcua", "csv", "sparkplug", "images", "camera"]
SinkKind = Literal["mqtt", "modbus", "opcua", "file", "webhook", "sparkplug"]
Parity = Literal["none", "even", "odd"]
TOPIC_LEVEL = r"^[^+#/]+\Z"
"""A part of a topic."""
NODE_OR_NONE = r"^(?:.{3,})?\Z"
"""A node id, as of a tag, or nothing."""
NumberType = Literal[
    "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bit"
]
"""What registers hold. ``bit`` is a coil or a discrete input."""


class MqttTag(TagSettings, frozen=True, kw_only=True):
    """A value in the messages of a topic."""

    topic: Annotated[
        str, Meta(min_length=1, description="Topic of its messages, without wildcards.")
    ]
    path: Annotated[
        str,
        Meta(
            description="Where the value stands in a JSON message: names and indexes, such as "
            "values[0].v; empty: the message is the value."
        ),
    ] = ""
    time_path: Annotated[
        str,
        Meta(
            description="Where its time stands: seconds or milliseconds since 1970, or ISO 8601; "
            "empty: the time of arrival."
        ),
    ] = ""
    quality_path: Annotated[
        str,
        Meta(
            description="Where its quality stands: good, uncertain or bad, true or false, or OPC's "
            "192, 64, 0; empty: good."
        ),
    ] = ""


class MqttAddress(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A plant's MQTT broker and who the device is there."""

    host: Annotated[str, Meta(min_length=1, description="Host name or address.")]
    port: Annotated[NetworkPort, Meta(description="Port; 8883 is usual with ca.")] = 1883
    client_id: Annotated[
        str, Meta(description="Client id; empty: of the device, the feed and this part's name.")
    ] = ""
    username: Annotated[str, Meta(description="Name to sign in with; empty: none.")] = ""
    password_file: Annotated[str, Meta(description="File that holds the password.")] = ""
    ca: Annotated[
        str, Meta(description="File of the CA that signed the server; empty: no TLS.")
    ] = ""


class MqttSource(MqttAddress, frozen=True, kw_only=True, tag_field="kind", tag="mqtt"):
    """Values in messages, such as those of a unified namespace."""

    group: Annotated[
        str,
        Meta(description="Share the messages with others of this group ($share); empty: no."),
    ] = ""
    tags: Annotated[dict[str, MqttTag], Meta(min_length=1, max_length=SIGNALS_MAX)]


class ModbusTag(TagSettings, frozen=True, kw_only=True):
    """A value in registers, a coil or a discrete input."""

    register: Annotated[
        int, Meta(ge=0, le=65_535, description="Address from 0, as it is sent: 40001 is 0.")
    ]
    table: Annotated[
        Literal["holding", "input", "coil", "discrete"], Meta(description="Where it lies.")
    ] = "holding"
    type: Annotated[NumberType, Meta(description="What the registers hold; bit: one coil.")] = (
        "uint16"
    )
    word_order: Annotated[
        Literal["big", "little"] | None,
        Meta(
            description="Which register of several comes first: big, the high one. Must be said "
            "for types of more than one register: a wrong order gives numbers that look like any."
        ),
    ] = None


class ModbusAddress(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A device that speaks Modbus TCP, or RTU on a serial line."""

    host: Annotated[
        str, Meta(description="Host name or address, for Modbus TCP; this or serial_port.")
    ] = ""
    port: Annotated[NetworkPort, Meta(description="Port.")] = 502
    serial_port: Annotated[
        str, Meta(description="Serial port, such as /dev/ttyUSB0, for Modbus RTU.")
    ] = ""
    baudrate: Annotated[
        int, Meta(ge=300, le=4_000_000, description="Of the serial line; the manual says it.")
    ] = 19_200
    parity: Annotated[Parity, Meta(description="Of the serial line: none, even or odd.")] = "even"
    stop_bits: Annotated[
        Literal[1, 2], Meta(description="Of the serial line: 1, or 2 as is usual without parity.")
    ] = 1
    unit_id: Annotated[
        int, Meta(ge=0, le=255, description="Unit, once called the slave's number.")
    ] = 1
    timeout_seconds: Annotated[PeriodSeconds, Meta(description="Longest wait for an answer.")] = 1.0


class ModbusSource(ModbusAddress, frozen=True, kw_only=True, tag_field="kind", tag="modbus"):
    """Registers that are read again and again. They have no time and no quality of their own."""

    every_seconds: Annotated[PeriodSeconds, Meta(description="How often they are read.")] = 1.0
    tags: Annotated[dict[str, ModbusTag], Meta(min_length=1, max_length=SIGNALS_MAX)]


class OpcuaTag(TagSettings, frozen=True, kw_only=True):
    """A variable of an OPC UA server."""

    node: Annotated[
        str,
        Meta(
            min_length=3,
            description="Node id without a namespace: s=Line.Pump.Flow, i=42, g=… or b=….",
        ),
    ]
    namespace: Annotated[
        str,
        Meta(
            description="Namespace by its URI: its number may change when the server restarts; "
            "empty: OPC UA's own."
        ),
    ] = ""


class OpcuaAddress(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An OPC UA server and who the device is there."""

    url: Annotated[str, Meta(pattern="^opc.tcp://", description="Address: opc.tcp://host:4840.")]
    username: Annotated[str, Meta(description="Name to sign in with; empty: anonymous.")] = ""
    password_file: Annotated[str, Meta(description="File that holds the password.")] = ""
    security: Annotated[
        str,
        Meta(
            description="Policy, mode, certificate and key, as in "
            "Basic256Sha256,SignAndEncrypt,device.der,device.pem; empty: none."
        ),
    ] = ""
    timeout_seconds: Annotated[PeriodSeconds, Meta(description="Longest wait for an answer.")] = 4.0


class OpcuaSource(OpcuaAddress, frozen=True, kw_only=True, tag_field="kind", tag="opcua"):
    """Variables that the server tells the changes of."""

    publish_seconds: Annotated[
        PeriodSeconds, Meta(description="How often the server tells changes and is seen alive.")
    ] = 0.5
    tags: Annotated[dict[str, OpcuaTag], Meta(min_length=1, max_length=SIGNALS_MAX)]


class CsvTag(TagSettings, frozen=True, kw_only=True):
    """A column of a file."""

    column: Annotated[str, Meta(min_length=1, description="Name of the column in the first line.")]


class CsvSource(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="csv"
):
    """Lines that a logger appends to a file."""

    path: Annotated[
        str,
        Meta(min_length=1, description="The file; its first line names the columns."),
    ]
    delimiter: Annotated[
        str, Meta(min_length=1, max_length=1, description="What separates columns.")
    ] = ","
    time_column: Annotated[
        str,
        Meta(
            description="Column with each line's time: seconds or milliseconds since 1970, or ISO "
            "8601; empty: the time of reading."
        ),
    ] = ""
    from_start: Annotated[
        bool, Meta(description="Read what is there already, too; else only what is appended.")
    ] = False
    every_seconds: Annotated[PeriodSeconds, Meta(description="How often it is looked at.")] = 0.2
    tags: Annotated[dict[str, CsvTag], Meta(min_length=1, max_length=SIGNALS_MAX)]


class SparkplugTag(TagSettings, frozen=True, kw_only=True):
    """A metric of an edge node, or of a device behind it."""

    metric: Annotated[str, Meta(min_length=1, description="Name of the metric in its birth.")]
    device: Annotated[
        str, Meta(description="Device behind the node; empty: the node's own metric.")
    ] = ""


class SparkplugSource(MqttAddress, frozen=True, kw_only=True, tag_field="kind", tag="sparkplug"):
    """Metrics of a Sparkplug B edge node."""

    group: Annotated[str, Meta(pattern=TOPIC_LEVEL, description="Group id of the node.")]
    edge_node: Annotated[str, Meta(pattern=TOPIC_LEVEL, description="Edge node id.")]
    tags: Annotated[dict[str, SparkplugTag], Meta(min_length=1, max_length=SIGNALS_MAX)]


PictureSource = ImagesSource | CameraSource
SourceSettings = (
    MqttSource | ModbusSource | OpcuaSource | CsvSource | SparkplugSource | PictureSource
)


class MqttSink(MqttAddress, frozen=True, kw_only=True, tag_field="kind", tag="mqtt"):
    """Each answer as a JSON message; a will says when the feed is gone."""

    topic: Annotated[
        str,
        Meta(
            min_length=1,
            description="Topic; {device}, {feed} and {slot} are filled in.",
        ),
    ]
    unit: Annotated[str, Meta(description="Unit of the value, for the reader.")] = ""
    value: Annotated[
        str,
        Meta(description="Which output is the value, as risk or scores[2]; empty: the first."),
    ] = ""
    qos: Annotated[Literal[0, 1], Meta(description="0 or 1.")] = 1
    retain: Annotated[bool, Meta(description="Whether the broker keeps the last answer.")] = False


class WriteSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is written to a place of the machine, and when no model answers."""

    value: Annotated[
        str,
        Meta(description="Which output is written, as risk or scores[2]; empty: the first."),
    ] = ""
    at_least: Annotated[
        float | None,
        Meta(description="Write 1 where the output is at least this, else 0; none: the output."),
    ] = None
    safe: Annotated[
        float,
        Meta(description="Written as it is when no model answers: fallback, bad quality, no link."),
    ]


class ModbusWrite(WriteSettings, frozen=True, kw_only=True):
    """A register or coil that this feed may write."""

    register: Annotated[int, Meta(ge=0, le=65_535, description="Address from 0.")]
    type: Annotated[NumberType, Meta(description="What it holds; bit: a coil.")] = "float32"
    word_order: Annotated[Literal["big", "little"] | None, Meta(description="As with tags.")] = None
    scale: Annotated[float, Meta(gt=0, description="The number written is the output × scale.")] = (
        1.0
    )


class ModbusSink(ModbusAddress, frozen=True, kw_only=True, tag_field="kind", tag="modbus"):
    """Writes to a PLC: only to what stands here, and only when allowed."""

    allow_writes: Annotated[
        bool, Meta(description="Nothing is written without it; changes are only logged.")
    ] = False
    writes: Annotated[dict[str, ModbusWrite], Meta(min_length=1, max_length=64)]
    heartbeat_register: Annotated[
        Annotated[int, Meta(ge=0, le=65_535)] | None,
        Meta(
            description="Holding register that counts up with each answer, so that the PLC notices "
            "silence; none: no heartbeat.",
        ),
    ] = None
    quality_register: Annotated[
        Annotated[int, Meta(ge=0, le=65_535)] | None,
        Meta(
            description="Holding register that has the answer's quality: 192 good, 64 uncertain, "
            "0 bad; none: it is not written.",
        ),
    ] = None


class OpcuaWrite(WriteSettings, frozen=True, kw_only=True):
    """A variable that this feed may write."""

    node: Annotated[str, Meta(min_length=3, description="As with tags.")]
    namespace: Annotated[str, Meta(description="As with tags.")] = ""


class OpcuaSink(OpcuaAddress, frozen=True, kw_only=True, tag_field="kind", tag="opcua"):
    """Writes to variables of a server: only to what stands here, and only when allowed."""

    allow_writes: Annotated[bool, Meta(description="Nothing is written without it.")] = False
    writes: Annotated[dict[str, OpcuaWrite], Meta(min_length=1, max_length=64)]
    heartbeat_node: Annotated[
        str,
        Meta(
            pattern=NODE_OR_NONE,
            description="Variable that counts up with each answer, to 127 and from 0 again, so "
            "that whoever reads it notices silence; empty: no heartbeat.",
        ),
    ] = ""
    quality_node: Annotated[
        str,
        Meta(
            pattern=NODE_OR_NONE,
            description="Variable that has the answer's quality: 192 good, 64 uncertain, 0 bad; "
            "empty: it is not written.",
        ),
    ] = ""
    namespace: Annotated[
        str, Meta(description="Of heartbeat_node and quality_node, as with tags.")
    ] = ""


class FileSink(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="file"
):
    """Each answer as a JSON object on a line of a file."""

    path: Annotated[
        str, Meta(min_length=1, description="The file; a full one becomes the same with .1.")
    ]
    bytes_max: Annotated[
        int,
        Meta(ge=4096, le=1 << 40, description="Size from which a new file is begun; two are kept."),
    ] = 64 * limits.MIB
    unit: Annotated[str, Meta(description="Unit of the value, for the reader.")] = ""
    value: Annotated[
        str, Meta(description="Which output is the value, as risk or scores[2]; empty: the first.")
    ] = ""


class WebhookSink(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="webhook"
):
    """Each answer as a JSON body that is posted."""

    url: Annotated[str, Meta(pattern="^https?://", description="Where it is posted.")]
    token_file: Annotated[
        str,
        Meta(description="File with a token, sent as Authorization: Bearer; empty: none."),
    ] = ""
    ca: Annotated[
        str, Meta(description="File of the CA that signed the server; empty: the system's.")
    ] = ""
    at_least: Annotated[
        float | None,
        Meta(
            description="Post only when the value comes to at least this or falls below it, or the "
            "quality changes; none: every answer."
        ),
    ] = None
    unit: Annotated[str, Meta(description="Unit of the value, for the reader.")] = ""
    value: Annotated[
        str, Meta(description="Which output is the value, as risk or scores[2]; empty: the first.")
    ] = ""


class SparkplugSink(MqttAddress, frozen=True, kw_only=True, tag_field="kind", tag="sparkplug"):
    """Answers as the metrics of a Sparkplug B edge node."""

    group: Annotated[str, Meta(pattern=TOPIC_LEVEL, description="Group id.")]
    edge_node: Annotated[
        str,
        Meta(pattern=r"^[^+#/]*\Z", description="Edge node id; empty: the name of the device."),
    ] = ""
    backlog_answers: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Answers kept on the disk without a link; they follow as historical.",
        ),
    ] = 10_000


SinkSettings = MqttSink | ModbusSink | OpcuaSink | FileSink | WebhookSink | SparkplugSink


class FeedSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From tags to a slot and back."""

    slot: Annotated[str, Meta(description="The slot whose model is asked.")]
    deadline_seconds: Annotated[
        float,
        Meta(
            gt=0,
            le=600,
            description="Within this of being due an answer, or the fallback, is at the sinks.",
        ),
    ] = 2.0
    queue_samples: Annotated[
        int,
        Meta(ge=16, le=1_000_000, description="Samples that may wait; the oldest are dropped."),
    ] = 10_000
    hub_may_set: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="What the hub may set of this feed, as sources.plc.host, and all that "
            "stands below it; empty: nothing.",
        ),
    ] = ()
    sources: Annotated[dict[str, SourceSettings], Meta(min_length=1, max_length=16)]
    sinks: Annotated[dict[str, SinkSettings], Meta(max_length=16)] = {}
