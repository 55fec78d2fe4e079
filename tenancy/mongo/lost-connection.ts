/**
 * The driver (mongodb 7.9.0) still hands a connection out between its socket's `destroy` and its 'close', and a statement
 * that is written then waits for ever for a 'drain', with its place in the pool.
 */
import type { MongoClient } from 'mongodb';
import { type AuthProvider, authProvidersOf } from './driver-inside.js';

/** From now on such a statement fails as the driver has it fail whose connection was closed. Of a client that logs in. */
export function endLostStatements(client: MongoClient): MongoClient {
  const providers = authProvidersOf(client);
  if (providers === undefined) return client;
  const { getOrCreateProvider } = providers;
  providers.getOrCreateProvider = (mechanism, properties) =>
    watching(getOrCreateProvider.call(providers, mechanism, properties));
  return client;
}

const watching = (provider: AuthProvider): AuthProvider => ({
  prepare(handshake, context) {
    const { connection } = context;
    // Whoever waits looks then whether the connection was closed.
    connection.once('close', () => connection.socket.emit('drain'));
    return provider.prepare(handshake, context);
  },
  auth: (context) => provider.auth(context),
  reauth: (context) => provider.reauth(context),
});
