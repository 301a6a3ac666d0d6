//! Owns the settings of transactions: how many run at once, what one may carry, how long it may take.
//! Must never hold a setting of plain records: those are in `sidecar.rs`.

use super::Setting;

pub(super) fn settings() -> Vec<Setting> {
    vec![
        Setting::number(
            "transactions.lanes",
            4,
            (1, 64),
            "lanes",
            "How many transactions run at once, each under a transactional id of its own, PREFIX.INSTANCE.LANE.",
        ),
        Setting::number(
            "transactions.timeout_ms",
            60_000,
            (15_000, 900_000),
            "ms",
            "After how long Kafka ends an open transaction by itself (`transaction.timeout.ms`); until then it holds up those who read its outputs. At most the brokers' `transaction.max.timeout.ms`.",
        ),
        Setting::number(
            "transactions.stuck_ms",
            20_000,
            (1000, 600_000),
            "ms",
            "How long adding offsets, delivering and committing may take each before the lane is given up and its id taken over.",
        ),
        Setting::number(
            "transactions.units_max",
            200,
            (1, 10_000),
            "units",
            "The most calls of ProcessAndForward that share one transaction.",
        ),
        Setting::number(
            "transactions.records_max",
            10_000,
            (1, 1_000_000),
            "records",
            "The most records of one transaction, save those of a single call.",
        ),
        Setting::number(
            "transactions.bytes_max",
            8_388_608,
            (1024, 1_073_741_824),
            "bytes",
            "The most bytes of one transaction, save those of a single call.",
        ),
        Setting::number(
            "transactions.waiting_max",
            10_000,
            (1, 1_000_000),
            "units",
            "The most calls of ProcessAndForward that wait or run; beyond it, QUEUE_FULL.",
        ),
        Setting::number(
            "transactions.unit_outputs_max",
            1000,
            (1, 100_000),
            "records",
            "The most outputs of one call.",
        ),
        Setting::number(
            "transactions.unit_inputs_max",
            1000,
            (1, 100_000),
            "partitions",
            "The most input partitions of one call.",
        ),
    ]
}
