/**
 * Which user the connections of a client log in as. The driver makes a client for one user, for its whole life. Making one costs
 * twice what logging in does: it reads its options, opens a monitoring connection, and takes all of that down in the end. Here a
 * client is handed on instead: its connections are cut, and those that are opened next log in as the next user.
 *
 * If the driver does not ask here (see `driver-inside.ts`), it logs in by itself as the user that the client was made for, and
 * `leave` returns undefined.
 */
import { Binary, type Document, type MongoClient, MongoNotConnectedError, MongoRuntimeError } from 'mongodb';
import type { Connections } from './connections.js';
import { type AuthContext, authProvidersOf, type Connection } from './driver-inside.js';
import { isLoginRefused } from './refused-login.js';
import { type Conversation, converse, type SaltedPassword } from './scram.js';

export interface MongoUser {
  readonly username: string;
  readonly password: SaltedPassword;
  /** The database that the user is defined in (`authSource`). */
  readonly source: string;
  /** The same user with a newer password, if there is one. */
  renewed(): Promise<MongoUser | undefined>;
}

export interface UserSwitch {
  /**
   * Cuts every connection; resolves when the server has closed them too. Returns undefined, and changes nothing, when the driver
   * did not ask us who logs in, or when the client has no user.
   */
  leave(): Promise<void> | undefined;
  /** @throws MongoRuntimeError when the last user has not left */
  enter(user: MongoUser): void;
  /** Cuts the connections that are logging in, and lets no more log in. Closing a client alone leaves them to its time-outs. */
  end(): void;
}

/** @param first the user that the client was made for */
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
      // Noted before it logs in, so that a connection whose login ends just now is cut as well.
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
        // If the password was rotated, the newer one is tried here: an open cursor cannot begin again on another connection.
        const newer = isLoginRefused(error) ? await as.renewed().catch(() => undefined) : undefined;
        if (newer === undefined) throw error;
        await logIn(context.connection, newer, converse(newer.username, newer.password));
        if (user === as) user = newer;
      }
      loggingIn.delete(context.connection);
    },
    // The driver asks for this when a token has expired.
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
  // So that the server's last message comes with `done`, without another round trip.
  options: { skipEmptyExchange: true },
});
function textOf({ payload }: Document): string {
  // Anything else is refused, such as an object that claims a length and would be copied.
  if (!(payload instanceof Binary)) throw new MongoRuntimeError('the server said no word of a login');
  return Buffer.from(payload.value()).toString();
}
