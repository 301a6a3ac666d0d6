// The example client in Node: one call of each kind to a running sidecar, one printed line for each step.

import { call, connect, info, refusalOf } from './sidecar.js';

/** The deadline of one Send; without one the sidecar's own default holds. */
const SEND_WAIT_MS = 5_000;
/** How many records a frame has; GetInfo tells the most that the sidecar takes. */
const FRAME_RECORDS = 100;
/** How long the sidecar may take over a frame; the records that are not in Kafka then have failed. */
const FRAME_WAIT_S = 10;
/** How many frames may wait for their answers: what is in memory, and in doubt if the stream breaks. */
const UNANSWERED_MAX = 10;

/** Writes a value of JavaScript as a google.protobuf.Value, which the loader does not do by itself. */
function toValue(value) {
  if (value === null) return { nullValue: 'NULL_VALUE' };
  if (Array.isArray(value)) return { listValue: { values: value.map(toValue) } };
  switch (typeof value) {
    case 'string':
      return { stringValue: value };
    case 'number':
      return { numberValue: value };
    case 'boolean':
      return { boolValue: value };
    default: {
      const fields = Object.entries(value).map(([name, field]) => [name, toValue(field)]);
      return { structValue: { fields: Object.fromEntries(fields) } };
    }
  }
}

/** Sends one record and tells where it went, or why it did not. */
async function send(client, record) {
  try {
    const { receipt } = await call(client, 'Send', { record }, SEND_WAIT_MS);
    // The partition and the offset are absent where the broker did not say them.
    return `sent ${receipt.topic} ${receipt.partition ?? 'unknown'} ${receipt.offset ?? 'unknown'}`;
  } catch (error) {
    const { code, reason, persisted, fields } = refusalOf(error);
    return ['refused', code, reason, persisted, ...fields].join(' ');
  }
}

function* frames(topic, count) {
  for (let first = 1, sequence = 0; first <= count; first += FRAME_RECORDS, sequence += 1) {
    const records = [];
    for (let number = first; number < first + FRAME_RECORDS && number <= count; number += 1) {
      // A header without a name is refused: such a failure is data, and does not end the stream.
      const headers = number % 50 === 0 ? [{ name: '' }] : [];
      records.push({ topic, keyText: `key-${number}`, valueText: `node-${number}`, headers });
    }
    yield { sequence: String(sequence), records, timeout: { seconds: FRAME_WAIT_S } };
  }
}

/**
 * Sends frames over one stream, and returns how many records were taken and how many refused.
 *
 * `write` never blocks, it puts aside what the transport does not take: so a frame is written only when an earlier one was
 * answered. The stream has no deadline, which would leave open what became of the rest; each frame has one.
 */
async function sendBatch(client, requests) {
  const stream = client.SendBatch();
  const unanswered = [];
  let [taken, refused] = [0, 0];

  const sendMore = () => {
    while (unanswered.length < UNANSWERED_MAX && !stream.writableEnded) {
      const { value: frame, done } = requests.next();
      if (done) {
        stream.end();
      } else {
        stream.write(frame);
        unanswered.push({ sequence: frame.sequence, count: frame.records.length });
      }
    }
  };

  sendMore();
  for await (const answer of stream) {
    const frame = unanswered.shift();
    if (answer.sequence !== frame?.sequence || answer.results.length !== frame.count) {
      const said = `answered as ${answer.sequence} with ${answer.results.length} results`;
      throw new Error(`frame ${frame?.sequence} of ${frame?.count} records was ${said}`);
    }
    for (const { result } of answer.results) {
      // Anything but a receipt is a failure, also a kind of result that this client does not know.
      if (result === 'receipt') taken += 1;
      else refused += 1;
    }
    sendMore();
  }
  if (unanswered.length > 0) throw new Error(`the stream ended with ${unanswered.length} frames unanswered`);
  return [taken, refused];
}

function expect(line, beginning) {
  console.log(line);
  if (!line.startsWith(beginning)) throw new Error(`expected: ${beginning}`);
}

async function run(target, topic, count) {
  const client = connect(target);
  try {
    const { version } = await info(client);
    console.log('info', version);
    const record = {
      topic,
      keyText: 'key-0',
      json: toValue({ client: 'node' }),
      headers: [{ name: 'client', valueText: 'node' }],
      messageId: 'node-0',
    };
    expect(await send(client, record), 'sent ');
    const bad = { topic: 'bad topic', valueText: 'node-0' };
    expect(await send(client, bad), 'refused INVALID_ARGUMENT INVALID_RECORD NO record.topic');
    // Where Kafka has no such topic this is refused; `producer-sidecar dev` creates it.
    console.log(await send(client, { topic: `${topic}-unknown`, valueText: 'node-0' }));
    const [taken, refused] = await sendBatch(client, frames(topic, count));
    console.log('batch', taken, refused);
    if (taken + refused !== count) throw new Error(`expected ${count} answers`);
  } finally {
    client.close();
  }
}

const [target, topic, count, ...rest] = process.argv.slice(2);
if (!/^\d+$/.test(count ?? '') || rest.length > 0) {
  console.error('usage: run TARGET TOPIC COUNT');
  process.exit(64);
}
try {
  await run(target, topic, Number(count));
} catch (error) {
  const { code, reason, persisted } = refusalOf(error);
  console.error(code ? `${code} ${reason} ${persisted}: ${error.details}` : error.message);
  process.exitCode = 1;
}
