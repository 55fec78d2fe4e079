/**
 * Who the connections of a client log in as. The driver's clients are for one user for life, and making one costs twice
 * what logging in does: it reads its options, looks at its servers over a connection of its own, and takes all of that down
 * in the end. With this it is handed on: what is logged in is cut, and what connects next logs in as the next user.
 *
 * A driver that does not ask here (`driver-inside.ts`) logs in by itself, as the user that its client was made for, and
 * `leave` says no.
 */
import { Binary, type Document, type MongoClient, MongoNotConnectedError, MongoRuntimeError } from 'mongodb';
import type { Connections } from './connections.js';
import { type AuthContext, authProvidersOf, type Connection } from './driver-inside.js';
import { isLoginRefused } from './refused-login.js';
import { type Conversation, converse, type SaltedPassword } from './scram.js';

export interface MongoUser {
  readonly username: string;
  readonly password: SaltedPassword;
  /** The user's database. */
  readonly source: string;
  /** With a newer password, if there is one. */
  renewed(): Promise<MongoUser | undefined>;
}

export interface UserSwitch {
  /**
   * Cuts every connection, until the server has too. Undefined, and nothing has happened, when the driver does not ask here who
   * logs in, or when the client is nobody's.
   */
  leave(): Promise<void> | undefined;
  /** @throws MongoRuntimeError where the last user has not left */
  enter(user: MongoUser): void;
  /** What is logging in is cut, and nothing logs in any more: a client that closes leaves that to its time-outs. */
  end(): void;
}

/** @param first whom the client was made for */
export function createUserSwitch(
  client: MongoClient,
  first: MongoUser,
  connections: Connections,
): UserSwitch {
  const loggedIn = new Set<Connection>();
  const loggingIn = new Set<Connection>();
  const begun = new WeakMap<AuthContext, { readonly as: MongoUser; readonly conversation: Conversation }>();
  let user: MongoUser | undefined = first;
  let isAsked = false;
  authProvidersOf(client)?.existingProviders.set(MECHANISM, {
    prepare(handshake, context) {
      if (user === undefined) throw new MongoNotConnectedError("the client is nobody's");
      isAsked = true;
      const { connection } = context;
      // From here on: one that has logged in, and is not yet known as such, is cut as well.
      loggedIn.add(connection);
      loggingIn.add(connection);
      connection.once('close', () => {
        loggedIn.delete(connection);
        loggingIn.delete(connection);
      });
      const conversation = converse(user.username, user.password);
      begun.set(context, { as: user, conversation });
      return Promise.resolve({
        ...handshake,
        speculativeAuthenticate: { ...startOf(conversation), db: user.source },
      });
    },
    async auth(context) {
      const login = begun.get(context);
      if (login === undefined) throw new MongoRuntimeError('a login that was not begun');
      begun.delete(context);
      const { as, conversation } = login;
      try {
        await logIn(context.connection, as, conversation, context.response?.speculativeAuthenticate);
      } catch (error) {
        // Its password was rotated: an open cursor, which cannot begin again, needs this very login.
        const newer = isLoginRefused(error) ? await as.renewed().catch(() => undefined) : undefined;
        if (newer === undefined) throw error;
        await logIn(context.connection, newer, converse(newer.username, newer.password));
        if (user === as) user = newer;
      }
      loggingIn.delete(context.connection);
    },
    // Only of tokens that expire.
    reauth: () => Promise.reject(new Error('a password does not expire')),
  });
  return {
    leave() {
      if (!isAsked || user === undefined) return undefined;
      user = undefined;
      for (const connection of loggedIn) connection.destroy();
      return connections.settled();
    },
    enter(next) {
      if (user !== undefined) throw new MongoRuntimeError("the client is another's");
      user = next;
    },
    end() {
      user = undefined;
      for (const connection of loggingIn) connection.destroy();
    },
  };
}

async function logIn(
  connection: Connection,
  { source }: MongoUser,
  conversation: Conversation,
  begun?: Document,
): Promise<void> {
  const ask = (command: Document): Promise<Document> =>
    connection.command({ db: source, toString: () => `${source}.$cmd` }, command);
  const begin = begun ?? (await ask(startOf(conversation)));
  const answer = await conversation.answer(textOf(begin));
  const { conversationId } = begin;
  const end = await ask({ saslContinue: 1, conversationId, payload: bytes(answer.final) });
  answer.check(textOf(end));
  if (end['done'] === false) await ask({ saslContinue: 1, conversationId, payload: bytes('') });
}

const MECHANISM = 'SCRAM-SHA-256';

const bytes = (text: string): Binary => new Binary(Buffer.from(text));
const startOf = ({ first }: Conversation): Document => ({
  saslStart: 1,
  mechanism: MECHANISM,
  payload: bytes(first),
  autoAuthorize: 1,
  // The server's last message comes with `done`, rather than after one more round trip.
  options: { skipEmptyExchange: true },
});
function textOf({ payload }: Document): string {
  // Else it may be anything, also what claims a length and is then copied.
  if (!(payload instanceof Binary)) throw new MongoRuntimeError('the server said no word of a login');
  return Buffer.from(payload.value()).toString();
}
