// kafkajs in process with the source document's settings: one record and one offset a transaction, until told to stop.
// Reads one line of JSON for each measurement from standard input: {"producers": at once, "ms": time, "oneGroup": bool};
// writes one line of JSON: {"units": committed, "seconds": taken}.
'use strict';

const fs = require('fs');
const readline = require('readline');
const { Kafka, Partitioners, logLevel } = require('kafkajs');

const [brokers, user, password, caFile, source, target, value] = process.argv.slice(2);
const kafka = new Kafka({
  clientId: 'caas-gateway',
  brokers: brokers.split(','),
  ssl: { ca: [fs.readFileSync(caFile, 'utf8')] },
  sasl: { mechanism: 'scram-sha-512', username: user, password },
  logLevel: logLevel.NOTHING,
});

const producers = [];
async function producer(place) {
  if (!producers[place]) {
    producers[place] = kafka.producer({
      createPartitioner: Partitioners.DefaultPartitioner,
      allowAutoTopicCreation: false,
      idempotent: true,
      maxInFlightRequests: 1,
      transactionalId: `bench-kafkajs-${place}`,
      transactionTimeout: 60000,
    });
    await producers[place].connect();
  }
  return producers[place];
}

const headers = {
  traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  'trace-id': '4bf92f3577b34da6a3ce929d0e0e4736',
  timestamp: '1700000000000',
};

async function measure({ producers: count, ms, oneGroup }) {
  const ready = [];
  for (let place = 0; place < count; place += 1) ready.push(await producer(place));
  let units = 0;
  const begun = process.hrtime.bigint();
  const end = Date.now() + ms;
  const one = async (own, place) => {
    for (let offset = 1; Date.now() < end; offset += 1) {
      const transaction = await own.transaction();
      try {
        await transaction.send({ topic: target, messages: [{ key: `key-${place}`, value, headers }] });
        await transaction.sendOffsets({
          consumerGroupId: oneGroup ? 'bench-kafkajs-all' : `bench-kafkajs-${place}`,
          topics: [{ topic: source, partitions: [{ partition: oneGroup ? place : 0, offset: String(offset) }] }],
        });
        await transaction.commit();
        units += 1;
      } catch (error) {
        await transaction.abort().catch(() => {});
      }
    }
  };
  await Promise.all(ready.map(one));
  return { units, seconds: Number(process.hrtime.bigint() - begun) / 1e9 };
}

async function main() {
  await producer(0);
  console.log('ready');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await measure(JSON.parse(line))));
  }
  await Promise.all(producers.map((own) => own.disconnect()));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
