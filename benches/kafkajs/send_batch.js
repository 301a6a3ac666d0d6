// kafkajs in process with the source document's settings: sends batches until told to stop, and tells its rate.
// Reads one line of JSON for each measurement from standard input: {"frame": records, "streams": batches at once, "ms": time};
// writes one line of JSON: {"records": delivered, "seconds": taken, "cpu": seconds of processor time}.
'use strict';

const fs = require('fs');
const readline = require('readline');
const { Kafka, Partitioners, logLevel } = require('kafkajs');

const [brokers, user, password, caFile, topic, value] = process.argv.slice(2);
const kafka = new Kafka({
  clientId: 'caas-gateway',
  brokers: brokers.split(','),
  ssl: { ca: [fs.readFileSync(caFile, 'utf8')] },
  sasl: { mechanism: 'scram-sha-512', username: user, password },
  logLevel: logLevel.ERROR,
});
const producer = kafka.producer({
  createPartitioner: Partitioners.DefaultPartitioner,
  allowAutoTopicCreation: false,
  idempotent: true,
  maxInFlightRequests: 5,
  transactionTimeout: 60000,
});

const headers = {
  traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  'trace-id': '4bf92f3577b34da6a3ce929d0e0e4736',
  timestamp: '1700000000000',
};

async function measure({ frame, streams, ms }) {
  let records = 0;
  let number = 0;
  const begun = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  const end = Date.now() + ms;
  const one = async () => {
    while (Date.now() < end) {
      const messages = Array.from({ length: frame }, () => ({ key: `key-${number++}`, value, headers }));
      await producer.sendBatch({ topicMessages: [{ topic, messages }] });
      records += frame;
    }
  };
  await Promise.all(Array.from({ length: streams }, one));
  const used = process.cpuUsage(cpu);
  return {
    records,
    seconds: Number(process.hrtime.bigint() - begun) / 1e9,
    cpu: (used.user + used.system) / 1e6,
  };
}

async function main() {
  await producer.connect();
  console.log('ready');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await measure(JSON.parse(line))));
  }
  await producer.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
