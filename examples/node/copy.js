// Copies a topic's records into another one, each once: what was written and how far was read are committed together.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { Kafka, logLevel } from 'kafkajs';

import { call, connect, info, refusalOf } from './sidecar.js';

/** How many records a unit has at most. */
const UNIT_RECORDS = 10;
/** The deadline of one call; shorter than the session, because what outlives it is refused. */
const UNIT_WAIT_MS = 5_000;
const SESSION_WAIT_MS = 10_000;
/** How often this member says that it is there, and is told its generation. */
const HEARTBEAT_MS = 1_000;
/** The pause before a unit is sent again. */
const AGAIN_WAIT_MS = 200;

/** This consumer, or the offsets that it knows, are no longer the group's: the unit is dropped and read anew. */
const OUTDATED = ['CONSUMER_FENCED', 'OFFSET_MISMATCH'];
/** The same unit is sent again, with the same expectedOffset: if it was committed, the sidecar says so. */
const AGAIN = [
  ...['TRANSACTION_ABORTED', 'COMMIT_UNKNOWN', 'BROKERS_UNAVAILABLE', 'DRAINING', 'QUEUE_FULL', 'DEADLINE_NOT_WRITTEN'],
  ...['INTERNAL', '-'], // `-`: no details, as when the connection broke.
];

const USAGE = `usage: copy TARGET INPUT OUTPUT GROUP
Reads the topic INPUT in the consumer group GROUP, and has the sidecar write it to OUTPUT, each record once; until SIGTERM.
Finds Kafka by KAFKA_BROKERS, KAFKA_USER, KAFKA_PASSWORD and KAFKA_CA_FILE.`;

function kafkaOf({ KAFKA_BROKERS, KAFKA_USER, KAFKA_PASSWORD, KAFKA_CA_FILE }) {
  return new Kafka({
    brokers: KAFKA_BROKERS.split(','),
    ssl: { ca: [readFileSync(KAFKA_CA_FILE)] },
    sasl: { mechanism: 'scram-sha-512', username: KAFKA_USER, password: KAFKA_PASSWORD },
    // Shorter than the brokers' connections.max.reauth.ms, else each request would authenticate again.
    reauthenticationThreshold: 3_000,
    logLevel: logLevel.WARN,
  });
}

/** Is where an application does its work; this one copies key and value. */
function outputOf({ key, value }, topic) {
  return { topic, ...(key && { key }), ...(value ? { value } : { tombstone: {} }) };
}

class CopyJob {
  /** Member id and generation; null from when the group is joined until the next heartbeat tells them. */
  member = null;
  /** What the group has committed for each partition, and where reading goes on: always both. None before that is known. */
  expected = new Map();
  /** How often the group was joined: what was read before is not to be sent after. */
  joins = 0;

  constructor(sidecar, kafka, input, output, group) {
    Object.assign(this, { sidecar, input, output, group, admin: kafka.admin() });
    // It reads committed records only, unless told otherwise.
    this.consumer = kafka.consumer({
      groupId: group,
      sessionTimeout: SESSION_WAIT_MS,
      heartbeatInterval: HEARTBEAT_MS,
    });
    this.stopped = new Promise((resolve, reject) => Object.assign(this, { stop: resolve, fail: reject }));
  }

  /** Runs until `stop` or `fail` is called. */
  async run() {
    const { HEARTBEAT, GROUP_JOIN, REBALANCING, CRASH } = this.consumer.events;
    const forget = () => {
      this.joins += 1;
      this.member = null;
      this.expected.clear();
    };
    this.consumer.on(GROUP_JOIN, forget);
    this.consumer.on(REBALANCING, forget);
    this.consumer.on(HEARTBEAT, ({ payload }) => {
      this.member = { memberId: payload.memberId, generationId: payload.groupGenerationId };
    });
    this.consumer.on(CRASH, ({ payload }) => payload.restart || this.fail(payload.error));
    try {
      await this.admin.connect();
      await this.consumer.connect();
      await this.consumer.subscribe({ topic: this.input, fromBeginning: true });
      await this.consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        eachBatch: (payload) => this.eachBatch(payload),
      });
      await this.stopped;
    } finally {
      // Leaves the group, so that the others need not wait for the end of the session.
      await this.consumer.disconnect();
      await this.admin.disconnect();
    }
  }

  /** Sends what was read of one partition. What is not resolved is read anew; heartbeat throws when the group rebalances. */
  async eachBatch({ batch, heartbeat, resolveOffset, isRunning }) {
    const { joins } = this;
    for (let first = 0; first < batch.messages.length && isRunning(); first += UNIT_RECORDS) {
      while (this.member === null) {
        await sleep(HEARTBEAT_MS / 4);
        await heartbeat();
      }
      if (joins !== this.joins) return;
      if (!this.expected.has(batch.partition)) return this.rewind(batch.partition);
      const messages = batch.messages.slice(first, first + UNIT_RECORDS);
      const unit = this.unitOf(batch.partition, messages);
      if (!(await this.process(unit, heartbeat, isRunning))) return this.drop(batch.partition);
      this.expected.set(batch.partition, unit.inputs[0].nextOffset);
      resolveOffset(messages.at(-1).offset);
      await heartbeat();
    }
  }

  /** Makes the request. The member stays the one under which it was read, also when it is sent again. */
  unitOf(partition, messages) {
    const input = {
      topic: this.input,
      partition,
      expectedOffset: this.expected.get(partition),
      nextOffset: String(BigInt(messages.at(-1).offset) + 1n),
    };
    return {
      group: { groupId: this.group, member: this.member },
      inputs: [input],
      outputs: messages.map((message) => outputOf(message, this.output)),
    };
  }

  /** Sends a unit until it is committed; false where it is to be dropped. */
  async process(unit, heartbeat, isRunning) {
    while (isRunning()) {
      try {
        const { alreadyCommitted } = await call(this.sidecar, 'ProcessAndForward', unit, UNIT_WAIT_MS);
        console.log(alreadyCommitted ? 'already' : 'copied', unit.outputs.length);
        return true;
      } catch (error) {
        const { code, reason } = refusalOf(error);
        if (OUTDATED.includes(reason)) {
          console.log('dropped', code, reason);
          return false;
        }
        if (!AGAIN.includes(reason) || code === 'UNIMPLEMENTED') {
          this.fail(error);
          return false;
        }
        console.log('again', code, reason);
      }
      await sleep(AGAIN_WAIT_MS);
      await heartbeat();
    }
    return false;
  }

  /** Has the partition read anew, by a member that is known to be one. */
  drop(partition) {
    this.member = null;
    this.expected.delete(partition);
  }

  /** Goes to what the group has committed. */
  async rewind(partition) {
    const { joins } = this;
    const of = (offsets) => offsets.find((found) => found.partition === partition);
    const [{ partitions }] = await this.admin.fetchOffsets({ groupId: this.group, topics: [this.input] });
    const { offset: committed } = of(partitions);
    const { low: beginning } = of(await this.admin.fetchTopicOffsets(this.input));
    if (joins !== this.joins) return;
    // -1 where nothing is committed: nothing is compared then, and 0 will do.
    this.expected.set(partition, committed === '-1' ? '0' : committed);
    this.consumer.seek({ topic: this.input, partition, offset: committed === '-1' ? beginning : committed });
  }
}

const [target, ...names] = process.argv.slice(2);
if (names.length !== 3) {
  console.error(USAGE);
  process.exit(64);
}
const sidecar = connect(target);
try {
  await info(sidecar);
  const job = new CopyJob(sidecar, kafkaOf(process.env), ...names);
  process.once('SIGTERM', job.stop).once('SIGINT', job.stop);
  await job.run();
} catch (error) {
  const { code, reason, persisted } = refusalOf(error);
  console.error(code ? `${code} ${reason} ${persisted}: ${error.details}` : error.message);
  process.exitCode = 1;
} finally {
  sidecar.close();
}
