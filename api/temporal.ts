/** The API's client of Temporal: quick to fail and quick to come back, since a caller is waiting. */
import { Client, Connection, defaultGrpcRetryOptions, makeGrpcRetryInterceptor } from '@temporalio/client';
import type { Config } from '../domain/config.js';

export type TemporalConfig = Pick<
  Config,
  | 'TENANTRY_TEMPORAL_ADDRESS'
  | 'TENANTRY_TEMPORAL_NAMESPACE'
  | 'TENANTRY_TEMPORAL_TLS'
  | 'TENANTRY_TEMPORAL_API_KEY'
>;

/** Connects at the first call, so that the API can start before Temporal does. Close it by its connection. */
export function createTemporalClient(config: TemporalConfig): Client {
  const connection = Connection.lazy({
    address: config.TENANTRY_TEMPORAL_ADDRESS,
    tls: config.TENANTRY_TEMPORAL_TLS,
    ...(config.TENANTRY_TEMPORAL_API_KEY === undefined ? {} : { apiKey: config.TENANTRY_TEMPORAL_API_KEY }),
    // The default goes on for some 20 s. Its caller is better served by a 503 and its own retry.
    interceptors: [
      makeGrpcRetryInterceptor(
        defaultGrpcRetryOptions({
          maxAttempts: 4,
          factor: 2,
          initialIntervalMs: () => 50,
          maxIntervalMs: () => 400,
        }),
      ),
    ],
    channelArgs: {
      // gRPC doubles its pause up to two minutes: the API would stay down that long after Temporal is back.
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1_000,
    },
  });
  return new Client({ connection, namespace: config.TENANTRY_TEMPORAL_NAMESPACE });
}
