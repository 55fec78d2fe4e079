/**
 * Who the connections of a client log in as. The driver's clients are for one user for life, and making one costs twice
 * what logging in does: it reads its options, looks at its servers over a connection of its own, and takes all of that down
 * in the end. With this it is handed on: what is logged in is cut, and what connects next logs in as the next user.
 *
 * The seam is the driver's own for authentication, which is not documented (mongodb 7.9.0, and that version is pinned). A
 * driver that does not ask here logs in as the user that its client was made for, and `leave` says no.
 */
import type { Document, MongoClient } from 'mongodb';

export interface MongoUser {
  readonly username: string;
  readonly password: string;
  /** The user's database. */
  readonly source: string;
}

export interface UserSwitch {
  /** Cuts every connection. False, and nothing has happened, when the driver does not ask here who logs in. */
  leave(): boolean;
  enter(user: MongoUser): void;
}

/** @param first whom the client was made for */
export function createUserSwitch(client: MongoClient, first: MongoUser): UserSwitch {
  const loggedIn = new Set<Connection>();
  let user: MongoUser | undefined = first;
  let isAsked = false;
  const own = providersOf(client);
  const driver = own?.getOrCreateProvider(MECHANISM, {});
  if (own !== undefined && driver !== undefined)
    own.existingProviders.set(MECHANISM, {
      prepare(handshake, context) {
        if (user === undefined) throw new Error('a connection of a client that nobody has');
        const { connection, credentials } = context;
        context.credentials = Object.assign(
          Object.create(Object.getPrototypeOf(credentials) as object | null) as object,
          credentials,
          user,
        );
        isAsked = true;
        // From here on: one that has logged in, and is not yet known as such, is cut as well.
        loggedIn.add(connection);
        connection.once('close', () => loggedIn.delete(connection));
        return driver.prepare(handshake, context);
      },
      auth: (context) => driver.auth(context),
      reauth: (context) => driver.reauth(context),
    });
  return {
    leave() {
      if (!isAsked) return false;
      for (const connection of loggedIn) connection.destroy();
      loggedIn.clear();
      user = undefined;
      return true;
    },
    enter(next) {
      user = next;
    },
  };
}

const MECHANISM = 'SCRAM-SHA-256';

// What is used of the driver's inside: lib/mongo_client_auth_providers.js, lib/cmap/auth/auth_provider.js.
interface Connection {
  /** At once: the pool does not hand it out again. */
  destroy(): void;
  once(event: 'close', listener: () => void): unknown;
}

interface AuthContext {
  readonly connection: Connection;
  credentials: object;
}

interface AuthProvider {
  prepare(handshake: Document, context: AuthContext): Promise<Document>;
  auth(context: AuthContext): Promise<void>;
  reauth(context: AuthContext): Promise<void>;
}

interface AuthProviders {
  readonly existingProviders: Map<string, AuthProvider>;
  getOrCreateProvider(mechanism: string, properties: object): AuthProvider;
}

function providersOf(client: MongoClient): AuthProviders | undefined {
  const { s } = client as unknown as { readonly s?: { readonly authProviders?: Partial<AuthProviders> } };
  const providers = s?.authProviders;
  const isKnown =
    providers?.existingProviders instanceof Map && typeof providers.getOrCreateProvider === 'function';
  return isKnown ? (providers as AuthProviders) : undefined;
}
