"""Every limit of the protocol, by name and with its unit. One place to read them, one to change."""

KIB = 1024
MIB = 1024 * KIB

CHUNK_BYTES = 128 * KIB
CHUNK_DIGEST_BYTES = 32
INDEX_CHUNK_ENTRIES = CHUNK_BYTES // CHUNK_DIGEST_BYTES
MANIFEST_BYTES_MAX = 256 * KIB
BUNDLE_BYTES_MAX = 4096 * MIB
FILES_PER_BUNDLE_MAX = 64
BASELINE_BYTES_MAX = 4 * MIB
CARD_BYTES_MAX = 64 * KIB
SAMPLING_FILE_BYTES_MAX = 128 * KIB
EXPLANATION_BYTES_MAX = 256 * KIB
EXPLAINED_FEATURES_MAX = 64
"""Numbers of a model's input whose weight is told; more is a picture or a series."""
EXPLAINED_CURVE_POINTS_MAX = 12
GOLDEN_BYTES_MAX = 64 * MIB
GOLDEN_RTOL_MAX = 0.1
"""Of an expected value. A wider tolerance would prove nothing about a model."""
GOLDEN_ATOL_MAX = 16.0
"""In an output's own unit: some steps of a quantised output, which are whole numbers."""

DIRECTIVE_BYTES_MAX = 16 * KIB
CONTACT_ADDRESSES_MAX = 3
"""Of hubs, and of brokers, that a device is told beside those of its enrolment."""
AUTHORITIES_MAX = 2
"""Certificate authorities that a device believes at once: the one before and the one after."""
AUTHORITY_BYTES_MAX = 2 * KIB
"""Of an authority's certificate in DER."""
TELEMETRY_BYTES_MAX = 64 * KIB
REPORT_BYTES_MAX = 64 * KIB
EVENT_DETAIL_CHARS_MAX = 512
WANT_CHUNKS_MAX = 64
GRANT_REASON_CHARS_MAX = 256
TUF_METADATA_BYTES_MAX = 512 * KIB
"""The largest message a broker must carry; packet limits are set from it."""

FEATURES_MAX = 1024
WINDOW_SAMPLES_MAX = 65_536
"""Of one signal, that a model may ask for at once."""
PICTURE_SIDE_MAX = 4096
"""Pixels of a model's input."""
SLOTS_MAX = 16
BUILDS_MAX = 4
TENSORS_MAX = 256
TENSORS_MAX_FORMAT_ONE = 64
"""Inputs, and outputs, of a manifest of format 1."""
CLASSES_MAX = 1024
RANK_MAX = 8
NAME_CHARS_MAX = 64
LINE_CHARS_MAX = 256
TEXT_CHARS_MAX = 4096
BOOT_BYTES_MAX = 64
NESTING_MAX = 16

INTEGER_MAX = 2**53
SERIAL_MAX = 2**53 - 1
COUNT_MAX = 2**40
NUMBER_MAX = 1e150
SECONDS_MAX = 1e12
TRUST_ROLES_MAX = 256
SHOWN_TIMESTAMP_BYTES_MAX = 16 * KIB
SHOWN_SNAPSHOT_BYTES_MAX = 256 * KIB

WINDOW_SECONDS_MIN = 1
WINDOW_SECONDS_MAX = 86_400
DRIFT_SECONDS_MAX = 366 * 86_400
IN_FLIGHT_ROWS_MAX = 64
FEEDS_REPORTED_MAX = 16
FEED_SETTINGS_MAX = 64
FEED_SETTINGS_BYTES_MAX = 4 * KIB
"""Of a directive, for the settings of all feeds."""
FEED_SIGNALS_MAX = 64
FEED_PARTS_MAX = 16
FEED_COUNTS_MAX = 32
FEEDS_BYTES_MAX = 16 * KIB
"""Of what one report says of feeds while somebody watches them."""
SAMPLE_BYTES_MAX = 60 * KIB
"""Of what one sampled row holds: it travels in a message of telemetry."""
SAMPLE_NUMBERS_MAX = 60 * KIB
"""Of one feature; a number takes a byte at least."""
BLUR_CELLS_MAX = 64
"""Along one side of an image."""
BLUR_CELL_PIXELS_MIN = 16
"""That are averaged to one number: fewer would show what is meant to be hidden."""
SAMPLED_FEATURES_MAX = 128
"""Of one policy: it travels in a directive."""
SAMPLES_PER_DAY_MAX = 100_000
"""Of one model on one device."""
SAMPLES_MAX = 10_000_000
OUTBOX_BYTES_MAX = 32 * MIB
JOURNAL_RESUMES_MAX = 8
FETCH_WINDOW_CHUNKS = 4
BROKER_CACHE_BYTES_MAX = 256 * MIB
KEEPALIVE_SECONDS = 30
THREADS_MAX = 64
"""Of one model."""
