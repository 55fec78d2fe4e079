/**
 * The data plane of a product's process: it finds tenants, enters them and hands their context on. Each process has one, which
 * it opens at its start and closes at its end.
 */
import { randomUUID } from 'node:crypto';
import type { RequestHandler } from 'express';
import type { Logger } from 'pino';
import { AS_TEXT, createPool } from '../catalogue/pool.js';
import { TenantryError } from '../domain/errors.js';
import type { CellName, OperationId } from '../domain/ids.js';
import { createLogger } from '../domain/log.js';
import { type ContextKey, contextKeySource } from '../keys/context-key.js';
import { createSecretBox } from '../keys/sealed-secret.js';
import { accessOf } from './context/access.js';
import type { CellServers, TenantCredentials } from './context/cell-servers.js';
import { readCell } from './context/cells.js';
import { createCredentials } from './context/credentials.js';
import {
  createDirectory,
  type Directory,
  type DirectoryOptions,
  keyOf,
  type TenantEntry,
  type TenantKey,
} from './context/directory.js';
import { type CellStores, type Circumstances, EnteredTenant } from './context/entered-tenant.js';
import { asPlatform, logPlatformAccess, type OnPlatformAccess } from './context/platform.js';
import {
  type Claims,
  claimsOf,
  createSigner,
  type Signer,
  type SigningKeySource,
} from './context/snapshot.js';
import {
  currentTenant,
  enterTenant,
  findCurrentTenant,
  outsideTenants,
  type Principal,
  type Tenant,
} from './context/tenant-context.js';
import { createTenancy, type TenancyOptions } from './express/tenancy.js';
import { createUpgrade, type OnUpgrade, type TakeUpgrade } from './express/upgrade.js';
import type { AskAccess } from './mongo/statement-runner.js';
import { refuseOtherThanPositive } from './positive.js';

export interface TenantryOptions {
  /** The control database as the lookup role; reached directly, since a pooler in transaction mode cannot LISTEN. */
  readonly catalogueUrl: string;
  /** 32 bytes: opens the tenants' passwords, and the cells' context keys are derived from it. */
  readonly rootKey: Buffer;
  /** Hardened mode: the id of the context key to sign with, asked at each signing; one that the worker has installed. */
  readonly contextKeyId?: () => number;
  /** Signs contexts that are handed on; the same in all processes that hand them to each other. */
  readonly signingKeys: SigningKeySource;
  /** What a cell's references (`env:NAME`, `file:/path`) stand for in this process. */
  readonly resolveSecret: (reference: string) => string;
  /** Opens the stores of a cell, when a tenant in it is first entered. */
  readonly stores: (
    cell: CellServers,
    credentials: TenantCredentials,
    contextKey: () => ContextKey,
    askAccess: AskAccess,
  ) => CellStores;
  readonly directory?: Pick<DirectoryOptions, 'maxStalenessMs' | 'negativeMs' | 'maxTenants' | 'maxUnknown'>;
  readonly onPlatformAccess?: OnPlatformAccess;
  readonly log?: Logger;
}

export interface RunOptions {
  readonly principal?: Principal;
  readonly correlationId?: string;
  readonly operationId?: OperationId;
  readonly traceparent?: string;
}

export interface SnapshotOptions {
  /** What it is for, such as a queue's name: it is restored for nothing else. */
  readonly purpose?: string;
  /** Milliseconds; a day by default. */
  readonly ttlMs?: number;
}

export interface Tenantry {
  /**
   * Runs `work` as a tenant.
   * @throws TenantryError TENANT_NOT_FOUND, TENANT_NOT_READY, TENANT_SUSPENDED (blocked), TENANT_INACTIVE, TENANT_GONE,
   *   NESTED_TENANT_CONTEXT, CATALOGUE_UNAVAILABLE
   */
  runWithTenant<T>(
    idOrSlug: string,
    work: (tenant: Tenant) => T | Promise<T>,
    options?: RunOptions,
  ): Promise<T>;
  /** Runs `work` as no tenant, from where any may be entered. Recorded with the reason before it begins. */
  asPlatform<T>(reason: string, work: () => T | Promise<T>): Promise<T>;
  /** Express middleware that enters the tenant a request is for. */
  tenancy(options: TenancyOptions): RequestHandler;
  /**
   * A listener for `server.on('upgrade', ...)` that enters the tenant an upgrade is for and then has `take` take the
   * connection, whose listeners hear all as that tenant. What is refused is answered here, as `tenancy` does. It is cut when
   * the tenant is suspended, or may do more or less than before. The resolvers and `principal` get Node's own request, past
   * which no middleware has come.
   */
  upgrade(options: TenancyOptions, take: TakeUpgrade): OnUpgrade;
  /** The current tenant's context as signed text. @throws TenantryError NO_TENANT_CONTEXT; RangeError for an unfit `ttlMs` */
  snapshot(options?: SnapshotOptions): string;
  /** Runs `work` as the tenant of a snapshot, as that tenant is now. @throws as `runWithTenant`, and CONTEXT_REFUSED */
  restore<T>(
    text: string,
    work: (tenant: Tenant) => T | Promise<T>,
    options?: Pick<SnapshotOptions, 'purpose'>,
  ): Promise<T>;
  /** Resolves when changes of tenants are heard of at once. Nothing needs to wait for it. */
  readonly listening: Promise<void>;
  /** For the parts of the data plane that hand contexts on in their own way. */
  readonly handingOn: HandingOn;
  close(): Promise<void>;
}

export interface HandingOn {
  readonly signer: Signer;
  readonly directory: Directory;
  /** Runs `work` as the tenant of verified claims, as that tenant is now. */
  enter<T>(claims: Claims, work: (tenant: Tenant) => T | Promise<T>): Promise<T>;
}

const DAY = 86_400_000;
const PURPOSE = /^[A-Za-z0-9._/-]{1,100}$/;

export function openTenantry(options: TenantryOptions): Tenantry {
  const log = options.log ?? createLogger({ level: 'info', name: 'tenantry' });
  const signer = createSigner(options.signingKeys);
  // Whoever clears what it has handed over would have later cells derive from nothing.
  const rootKey = Buffer.from(options.rootKey);
  // Each statement here is a look-up by key: if it takes longer than this, it is better to fail.
  const pool = createPool({
    url: options.catalogueUrl,
    name: 'tenantry-lookup',
    max: 4,
    statementTimeout: 3_000,
    types: AS_TEXT,
  });
  const directory = outsideTenants(() =>
    createDirectory({ ...options.directory, pool, url: options.catalogueUrl, log }),
  );
  const credentials = createCredentials({ pool, secrets: createSecretBox(rootKey), directory });
  const cells = createCells(
    (name) => readCell(pool, name, options.resolveSecret),
    (cell) =>
      options.stores(
        cell,
        credentials,
        contextKeySource(rootKey, cell.name, options.contextKeyId),
        async (tenantId) => accessOf(await directory.find(`id:${tenantId}`)),
      ),
  );
  const record = options.onPlatformAccess ?? logPlatformAccess(log);

  /** Without a promise when all is in memory, as it nearly always is. */
  const admit = (entry: TenantEntry, come: Circumstances): Tenant | Promise<Tenant> => {
    const mode = accessOf(entry);
    const stores = cells.peek(entry.cell);
    if (stores !== undefined) return new EnteredTenant(entry, mode, stores, come);
    return cells.open(entry.cell).then((opened) => new EnteredTenant(entry, mode, opened, come));
  };
  const enter = async <T>(
    key: TenantKey | undefined,
    come: Circumstances,
    work: (tenant: Tenant) => T | Promise<T>,
  ): Promise<T> => {
    const entry = key === undefined ? undefined : (directory.peek(key) ?? (await directory.find(key)));
    if (entry === undefined) throw new TenantryError('TENANT_NOT_FOUND');
    const tenant = await admit(entry, come);
    return enterTenant(tenant, async () => work(tenant));
  };

  const handingOn: HandingOn = {
    signer,
    directory,
    // We have signed the claims, so this is an id and never a slug.
    enter: (claims, work) => enter(`id:${claims.tenant}`, circumstancesOf(claims), work),
  };
  return {
    runWithTenant: (idOrSlug, work, run = {}) => enter(keyOf(idOrSlug), { ...inherited(), ...run }, work),
    asPlatform: (reason, work) => asPlatform(reason, work, record),
    tenancy: (how) => createTenancy({ directory, admit }, how),
    upgrade: (how, take) => createUpgrade({ directory, admit, log }, how, take),
    snapshot({ purpose = 'job', ttlMs = DAY } = {}) {
      const issuedAt = Date.now();
      if (!PURPOSE.test(purpose)) throw new TypeError('a purpose has letters, digits and . _ / -');
      refuseOtherThanPositive('ttlMs', ttlMs);
      return signer.sign(`job:${purpose}`, {
        ...claimsOf(currentTenant()),
        issuedAt,
        expiresAt: issuedAt + ttlMs,
      });
    },
    restore: async (text, work, { purpose = 'job' } = {}) =>
      handingOn.enter(signer.verify(`job:${purpose}`, text), work),
    listening: directory.listening,
    handingOn,
    async close() {
      await directory.close();
      await cells.close();
      await pool.end();
    },
  };
}

/** A tenant that is entered again within its own context keeps the circumstances of the outer one. */
function inherited(): Circumstances {
  const outer = findCurrentTenant();
  if (outer === undefined) return { correlationId: randomUUID() };
  const { correlationId, principal, operationId, traceparent, baggage } = outer;
  return { correlationId, principal, operationId, traceparent, baggage };
}

function circumstancesOf(claims: Claims): Circumstances {
  return {
    correlationId: claims.correlationId,
    principal: claims.principal === undefined ? undefined : { id: claims.principal },
    operationId: claims.operation,
    traceparent: claims.traceparent,
  };
}

/** The stores of cells. Each is opened once, when it is first needed, and outside the context of the request that needs it. */
function createCells(
  read: (name: CellName) => Promise<CellServers>,
  open: (cell: CellServers) => CellStores,
) {
  const opened = new Map<CellName, CellStores>();
  const opening = new Map<CellName, Promise<CellStores>>();
  return {
    peek: (name: CellName): CellStores | undefined => opened.get(name),
    open(name: CellName): Promise<CellStores> {
      const under = opening.get(name);
      if (under !== undefined) return under;
      const promise = outsideTenants(async () => {
        const stores = open(await read(name));
        opened.set(name, stores);
        return stores;
      });
      opening.set(name, promise);
      // If a cell could not be opened, the next caller tries again.
      promise.catch(() => opening.delete(name));
      return promise;
    },
    async close(): Promise<void> {
      await Promise.allSettled(opening.values());
      await Promise.all([...opened.values()].map((stores) => stores.close()));
    },
  };
}
