/** Tenants with real databases, roles and users on a real server, and their passwords as a catalogue would hold them. */
import { MongoClient } from 'mongodb';
import { cellName, newTenantId, type TenantId } from '../../../../domain/ids.js';
import { mongoDatabaseName, mongoUserName } from '../../../../domain/names.js';
import { newPassword } from '../../../../keys/sealed-secret.js';
import supportDesk from '../../../../manifest/support-desk.js';
import { mongoUrlWithoutCredentials } from '../../../../tenancy/cell-connections.js';
import type { TenantCredential, TenantCredentials } from '../../../../tenancy/context/cell-servers.js';
import type { AccessMode, TenantContext } from '../../../../tenancy/context/tenant-context.js';
import { createGuard, type Guard, type GuardedDatabase } from '../../../../tenancy/mongo/guard.js';
import { collectionLayouts } from '../../../../tenancy/mongo/layout.js';
import {
  createScopedMongoWith,
  type ScopedMongoOptions,
  type ScopedMongoPool,
} from '../../../../tenancy/mongo/scoped.js';
import { SaltedPassword } from '../../../../tenancy/mongo/scram.js';
import { dropTenantDatabase, ensureTenantDatabase } from '../../../../tenancy/mongo/tenant-database.js';
import type { MongoUser } from '../../../../tenancy/mongo/user-switch.js';
import { openLink } from '../../../support/link.js';
import { testStack } from '../../../support/stack.js';

const layouts = collectionLayouts(supportDesk);

export interface Tenants {
  readonly admin: MongoClient;
  readonly credentials: TenantCredentials;
  /** How often the catalogue was asked past the cache. */
  readonly asked: { fresh: number };
  make(count: number): Promise<TenantId[]>;
  /** Whom a client of the tenant logs in as. */
  userOf(tenantId: TenantId): Promise<MongoUser>;
  /** Changes the password on the server; `publish` says it to who asks for credentials. */
  rotate(tenantId: TenantId): Promise<{ publish: () => void }>;
  /** Changes it likewise; the credentials given say the old one until they are asked for a fresh one. */
  rotateUnheard(tenantId: TenantId): Promise<TenantCredentials>;
  open(options?: Partial<ScopedMongoOptions>, guardOf?: (own: GuardedDatabase) => Guard): ScopedMongoPool;
  close(): Promise<void>;
}

/**
 * @param url of the tenants' way to the server
 * @param adminUrl of the way of who makes them
 */
export function createTenants(url = testStack().mongoUrl, adminUrl = url): Tenants {
  const admin = new MongoClient(adminUrl, { maxPoolSize: 8, serverSelectionTimeoutMS: 10_000 });
  const passwords = new Map<TenantId, TenantCredential>();
  const pools: ScopedMongoPool[] = [];
  const asked = { fresh: 0 };
  const credentials: TenantCredentials = {
    get(tenantId, _store, { fresh = false } = {}) {
      if (fresh) asked.fresh++;
      const known = passwords.get(tenantId);
      return known ? Promise.resolve(known) : Promise.reject(new Error('no such tenant'));
    },
  };
  return {
    admin,
    credentials,
    asked,
    async make(count) {
      const ids = Array.from({ length: count }, newTenantId);
      const queue = ids.values();
      const lane = async (): Promise<void> => {
        for (const tenantId of queue) {
          const credential = { version: 1, password: newPassword() };
          passwords.set(tenantId, credential);
          await ensureTenantDatabase(admin, { tenantId, layouts }, credential.password);
        }
      };
      await Promise.all(Array.from({ length: 8 }, lane));
      return ids;
    },
    async userOf(tenantId) {
      const { password } = await credentials.get(tenantId, 'mongo');
      return {
        username: mongoUserName(tenantId),
        password: new SaltedPassword(password),
        source: mongoDatabaseName(tenantId),
        renewed: () => Promise.resolve(undefined),
      };
    },
    async rotate(tenantId) {
      const next = { version: (passwords.get(tenantId)?.version ?? 0) + 1, password: newPassword() };
      await admin
        .db(mongoDatabaseName(tenantId))
        .command({ updateUser: mongoUserName(tenantId), pwd: next.password, mechanisms: ['SCRAM-SHA-256'] });
      return { publish: () => void passwords.set(tenantId, next) };
    },
    async rotateUnheard(tenantId) {
      const old = await credentials.get(tenantId, 'mongo');
      const { publish } = await this.rotate(tenantId);
      publish();
      return {
        get: (id, store, options) =>
          id === tenantId && options?.fresh !== true
            ? Promise.resolve(old)
            : credentials.get(id, store, options),
      };
    },
    open(options, guardOf = createGuard) {
      const servers = { mongoUrl: mongoUrlWithoutCredentials(url) };
      const pool = createScopedMongoWith(
        { servers, credentials, manifest: supportDesk, ...options },
        guardOf,
      );
      pools.push(pool);
      return pool;
    },
    async close() {
      await Promise.all(pools.map((pool) => pool.close(1_000)));
      for (const tenantId of passwords.keys())
        await dropTenantDatabase(admin, { tenantId, layouts }).catch(() => undefined);
      await admin.close();
    },
  };
}

/** Tenants whose way to the server can be cut. */
export async function createTenantsBehindLink() {
  const link = await openLink(testStack().mongoUrl);
  const tenants = createTenants(link.url);
  return {
    link,
    tenants,
    /** Whatever still waits for an answer is cut off before. */
    async close(): Promise<void> {
      link.cut();
      await tenants.close();
      await link.close();
    },
  };
}

export const contextOf = (tenantId: TenantId, mode: AccessMode = 'open'): TenantContext => ({
  tenantId,
  slug: 'acme',
  cell: cellName('test'),
  plan: 'team',
  mode,
  generation: 1,
  policyVersion: 0,
  keyVersion: 0,
  correlationId: 'test',
});

/** What the server says to a client that reads in a tenant's database: `reads`, or the code of its refusal. */
export const outcomeOf = (client: MongoClient, tenantId: TenantId): Promise<unknown> =>
  client
    .db(mongoDatabaseName(tenantId))
    .collection('transcripts')
    .findOne({})
    .then(
      () => 'reads',
      (error: { code: number }) => error.code,
    );

export const transcript = (text = 'hello', conversationId = 'c1') => ({
  conversationId,
  text,
  createdAt: new Date('2026-01-01T00:00:00Z'),
});

/** Lets everything through: what is refused then, the server has refused. */
export const noGuard: (own: GuardedDatabase) => Guard = () => ({
  collection: (name) => name as string,
  filter: (filter) => filter ?? {},
  update: (update) => update as object,
  replacement: (document) => document as object,
  document: (document) => document as object,
  documents: (documents) => documents as object[],
  pipeline: (pipeline) => pipeline as object[],
  field: (name) => name as string,
  options: (options) => {
    const { signal: _signal, ...rest } = (options ?? {}) as { signal?: unknown };
    return rest;
  },
});
