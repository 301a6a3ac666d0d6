// How the examples talk to a sidecar: the loaded proto, the connection, one call, and what a failed one says.

import { fileURLToPath } from 'node:url';

import * as grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

/** How long a sidecar may take that is still starting. */
const START_WAIT_MS = 10_000;

const CHANNEL_OPTIONS = {
  // The default backs off for up to two minutes, which is for strangers; a sidecar is back in seconds.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  // A sidecar that hangs ends its calls with UNAVAILABLE; a stream without a deadline would wait for ever.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  // Else http_proxy takes localhost to the proxy too.
  'grpc.enable_http_proxy': 0,
  // A policy also repeats calls whose connection broke after Kafka had the record, so it is for records with a message id, which
  // the sidecar writes once. It stops retries that cannot help by a trailer.
  'grpc.service_config': JSON.stringify({
    methodConfig: [
      {
        name: [{ service: 'caas.producer.v1.ProducerService', method: 'Send' }],
        retryPolicy: {
          maxAttempts: 4,
          initialBackoff: '0.1s',
          maxBackoff: '2s',
          backoffMultiplier: 2,
          retryableStatusCodes: ['UNAVAILABLE'],
        },
      },
    ],
  }),
};

// Loading at run time is Node's usual way: no compiler to install, and plain objects instead of setters.
const types = protoLoader.loadSync(
  ['caas/producer/v1/producer.proto', 'google/rpc/status.proto', 'google/rpc/error_details.proto'],
  {
    includeDirs: [fileURLToPath(new URL('proto', import.meta.url))],
    // Offsets and sequences are strings: a JavaScript number is exact to 2^53 - 1 only.
    longs: String,
    enums: String,
    // Unset fields have their default instead of being absent, as a sequence of zero would be. Optional ones stay absent.
    defaults: true,
    // `result.result` names which of `receipt` and `error` is set.
    oneofs: true,
  },
);
const { ProducerService } = grpc.loadPackageDefinition(types).caas.producer.v1;

/**
 * What the details of a failed call say.
 *
 * `reason` is ErrorReason without its prefix; `-` where the error is not the sidecar's own, as when the connection broke.
 * `persisted` is NO where the record surely is not in Kafka, and MAYBE where it may be; so it is of every error that does
 * not say. `fields` are the wrong ones, the first 20 at most.
 */
export function refusalOf(error) {
  const refusal = { code: grpc.status[error.code], reason: '-', persisted: 'MAYBE', fields: [] };
  const [status] = error.metadata?.get('grpc-status-details-bin') ?? [];
  for (const detail of status ? types['google.rpc.Status'].deserialize(status).details : []) {
    const name = detail.type_url.slice(detail.type_url.lastIndexOf('/') + 1);
    const content = types[name]?.deserialize(detail.value);
    if (name === 'google.rpc.ErrorInfo' && content.domain === 'producer.caas') {
      refusal.reason = content.reason;
      refusal.persisted = content.metadata.persisted ?? refusal.persisted;
    } else if (name === 'google.rpc.BadRequest') {
      refusal.fields = content.fieldViolations.map((violation) => violation.field);
    }
  }
  return refusal;
}

/** Opens HOST:PORT or unix:/path; does not wait for the sidecar, the first call does. */
export function connect(target) {
  const options = { ...CHANNEL_OPTIONS };
  if (target.startsWith('unix:')) {
    // A socket's path is no authority. This library says localhost by itself; others do not, and then the call fails.
    options['grpc.default_authority'] = 'localhost';
  }
  return new ProducerService(target, grpc.credentials.createInsecure(), options);
}

/** Makes a promise of a call with one answer; rejected with a grpc.ServiceError. */
export function call(client, method, request, milliseconds, metadata = new grpc.Metadata()) {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + milliseconds;
    client[method](request, metadata, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

/** Calls GetInfo, and waits for a sidecar that is still starting. */
export function info(client) {
  // Without waitForReady a sidecar that is not up yet is UNAVAILABLE at once.
  return call(client, 'GetInfo', {}, START_WAIT_MS, new grpc.Metadata({ waitForReady: true }));
}
