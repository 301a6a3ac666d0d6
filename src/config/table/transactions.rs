//! Owns the settings of transactions: how many run at once, what one may carry, how long it may take.
//! Must never hold a setting of plain records: those are in `sidecar.rs`.

use super::Setting;

pub(super) fn settings() -> Vec<Setting> {
    let mut settings = lanes();
    settings.extend(bounds());
    settings
}

/// How many transactions run at once, and for how long.
fn lanes() -> Vec<Setting> {
    vec![
        Setting::number(
            "transactions.lanes",
            4,
            (1, 64),
            "lanes",
            "How many transactions run at once, each under a transactional id of its own, PREFIX.INSTANCE.LANE.",
        ),
        Setting::number(
            "transactions.lanes_initialised",
            4,
            (1, 64),
            "lanes",
            "How many transactional ids are initialised at start, where they are more than `transactions.lanes`. Whoever lowers `transactions.lanes` sets this to the earlier number for one start: what the earlier lanes left open is then ended at once, not by its time-out.",
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
            "How long a step of a transaction (adding a group's offsets, delivering, committing, aborting) may take before its lane is given up, within two seconds more, and its id taken over.",
        ),
    ]
}

/// What a transaction, and a call, may carry.
fn bounds() -> Vec<Setting> {
    vec![
        Setting::number(
            "transactions.units_max",
            200,
            (1, 10_000),
            "units",
            "The most calls of ProcessAndForward that share one transaction.",
        ),
        Setting::number(
            "transactions.linger_ms",
            50,
            (0, 1000),
            "ms",
            "How long calls wait for others to share a transaction with, while more calls than these run; a call that finds none running waits for nothing. 0 starts whatever may start.",
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
