/**
 * A driver's client that is logged in as one tenant's user. The password may be rotated during the login. So a login that is
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
  /** How long a refused login is tried again: a rotation reaches the catalogue and the server one after the other. */
  readonly loginPatienceMs: number;
}

/** One connected client and its user. It is never handed out of this folder. */
export interface Login {
  readonly client: MongoClient;
  /** The name of the tenant's database. */
  readonly database: string;
  /** The version of the password that it logged in with. */
  readonly version: number;
  collection(name: string): Collection;
  findOne(collection: string, filter: Document, options: Document): Promise<Document | null>;
  connections(): number;
  fill(): Promise<void>;
  /** Whether the server has transactions: a standalone has none. */
  hasTransactions(): Promise<boolean>;
  /** Ends the login; nothing may be under way. Returns its client for another tenant, or undefined if it must be closed. */
  handOn(): Promise<LentClient> | undefined;
  close(): Promise<void>;
}

/**
 * Logs in on a new client. On a client that is handed on it only sets the user: the first statement logs in, and if that is
 * refused, it asks for a fresh login, which makes a new client.
 * @param fresh whether the password that we know was refused
 * @param cutOff aborted when nobody waits for the login any more: it ends then, and leaves no client open
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

/** Kept as long as the credential itself, which is dropped when it is rotated and when its tenant is gone. */
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
  // Made on first use: it takes the driver a while, and a login that only serves `findOne` does not need it.
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
