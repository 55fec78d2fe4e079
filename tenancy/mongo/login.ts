/**
 * A driver's client logged in as one tenant's user. Its password may be rotated while it logs in: a login that is
 * refused asks for the password again, for as long as the catalogue and the server may disagree.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Collection, Db, Document, MongoClient } from 'mongodb';
import type { TenantId } from '../../domain/ids.js';
import { mongoDatabaseName, mongoUserName } from '../../domain/names.js';
import type { TenantCredential, TenantCredentials } from '../context/cell-servers.js';
import { type ClientOptions, type LentClient, openClient } from './lent-client.js';
import { isLoginRefused } from './refused-login.js';
import { SaltedPassword } from './scram.js';
import { unlessAborted } from './signal.js';
import type { MongoUser } from './user-switch.js';

export interface LoginOptions extends ClientOptions {
  readonly credentials: TenantCredentials;
  /** How long a refused login is tried again: a rotation is in two places, and one of them is later. Milliseconds. */
  readonly loginPatienceMs: number;
}

/** All that is known of one connected client. It never leaves this folder. */
export interface Login {
  readonly client: MongoClient;
  /** The tenant's own. */
  readonly database: string;
  /** Of the password that it logged in with. */
  readonly version: number;
  collection(name: string): Collection;
  findOne(collection: string, filter: Document, options: Document): Promise<Document | null>;
  connections(): number;
  fill(): Promise<void>;
  /** Whether the server has transactions: a standalone has none. */
  hasTransactions(): Promise<boolean>;
  /** Ends it and gives its client for another tenant; undefined when it must be closed instead. Nothing may be under way. */
  handOn(): Promise<LentClient> | undefined;
  close(): Promise<void>;
}

/**
 * Over a client that was handed on, the first statement logs in; when it is refused, it asks for a fresh login, which takes
 * its time over a client of its own.
 * @param fresh the password that is known was refused
 * @param cutOff when nobody waits for it any more: it ends then, and leaves no client
 */
export async function logIn(
  options: LoginOptions,
  tenantId: TenantId,
  fresh: boolean,
  handedOn: LentClient | undefined,
  cutOff: AbortSignal,
): Promise<Login> {
  const { credentials, loginPatienceMs } = options;
  const until = performance.now() + loginPatienceMs;
  try {
    const credential = await ask(fresh);
    if (handedOn !== undefined && !fresh) {
      handedOn.enter(userOf(credentials, tenantId, credential));
      return loginOf(handedOn, tenantId, credential);
    }
    await handedOn?.close();
    return await connect(credential);
  } catch (error) {
    await handedOn?.close();
    throw error;
  }

  function ask(anew: boolean): Promise<TenantCredential> {
    return unlessAborted(credentials.get(tenantId, 'mongo', { fresh: anew }), cutOff);
  }

  async function connect(first: TenantCredential): Promise<Login> {
    let credential = first;
    for (let delay = 0; ; delay = Math.min(2 * delay + 25, 400)) {
      const lent = openClient(options, userOf(credentials, tenantId, credential), cutOff);
      try {
        await unlessAborted(lent.client.connect(), cutOff);
        return loginOf(lent, tenantId, credential);
      } catch (error) {
        await lent.close();
        if (!isLoginRefused(error) || performance.now() + delay > until) throw error;
      }
      await unlessAborted(pause(delay), cutOff);
      credential = await ask(true);
    }
  }
}

const userOf = (
  credentials: TenantCredentials,
  tenantId: TenantId,
  credential: TenantCredential,
): MongoUser => ({
  username: mongoUserName(tenantId),
  password: saltedOf(credential),
  source: mongoDatabaseName(tenantId),
  async renewed() {
    const newest = await credentials.get(tenantId, 'mongo', { fresh: true });
    return newest.version > credential.version ? userOf(credentials, tenantId, newest) : undefined;
  },
});

/** For as long as the credential itself is known: it is forgotten when it is rotated, and when its tenant goes. */
const salted = new WeakMap<TenantCredential, SaltedPassword>();

function saltedOf(credential: TenantCredential): SaltedPassword {
  const known = salted.get(credential);
  if (known !== undefined) return known;
  const password = new SaltedPassword(credential.password);
  salted.set(credential, password);
  return password;
}

function loginOf(lent: LentClient, tenantId: TenantId, { version }: TenantCredential): Login {
  const database = mongoDatabaseName(tenantId);
  const collections = new Map<string, Collection>();
  // Made when it is asked for: a login that only serves a `findOne` has no use for it, and it takes the driver a while.
  let known: Db | undefined;
  const db = (): Db => (known ??= lent.client.db(database));
  let transactions: Promise<boolean> | undefined;
  const login: Login = {
    client: lent.client,
    database,
    version,
    collection(name) {
      const asked = collections.get(name);
      if (asked !== undefined) return asked;
      const collection = db().collection(name);
      collections.set(name, collection);
      return collection;
    },
    findOne: (collection, filter, options) => lent.findOne(login, collection, filter, options),
    connections: () => lent.connections(),
    fill: () => lent.fill(db()),
    hasTransactions() {
      transactions ??= askForTransactions(db()).catch((error: unknown) => {
        transactions = undefined;
        throw error;
      });
      return transactions;
    },
    handOn: () => lent.leave()?.then(() => lent),
    close: () => lent.close(),
  };
  return login;
}

async function askForTransactions(db: Db): Promise<boolean> {
  const hello = await db.command({ hello: 1 });
  return typeof hello['setName'] === 'string' || hello['msg'] === 'isdbgrid';
}
