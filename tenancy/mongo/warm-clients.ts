/**
 * Clients for probes as a tenant's own user. A login takes 40 to 70 ms, so it is done while the rest of the tenant is still
 * being made. Afterwards the client is lent to the next tenant, since making one costs twice what logging in does.
 */
import { setMaxListeners } from 'node:events';
import type { MongoClient } from 'mongodb';
import type { TenantId } from '../../domain/ids.js';
import { mongoDatabaseName, mongoUserName } from '../../domain/names.js';
import { type LentClient, openClient } from './lent-client.js';
import { SaltedPassword } from './scram.js';
import type { MongoUser } from './user-switch.js';

/** Its user calls `giveBack` or `close` in the end. Neither rejects; further calls do nothing. */
export interface WarmClient {
  readonly client: MongoClient;
  /** For when nothing is under way and nothing has failed: another tenant may have the client. */
  giveBack(): Promise<void>;
  close(): Promise<void>;
}

/** How many unused clients are kept for each server. */
const MOST_IDLE = 16;

/** @param keepFor how long an unused client is kept, in milliseconds: its probe may run on another worker */
export function createWarmClients(keepFor = 10_000) {
  /** By tenant: clients that are logging in or have logged in. */
  const warm = new Map<TenantId, Kept>();
  /** By server: clients without a user. */
  const idle = new Map<string, Set<Kept>>();
  const givenBack = new Set<Promise<void>>();
  const cutOff = new AbortController();
  // Each connection that is being closed has a listener.
  setMaxListeners(0, cutOff.signal);

  const keep = (lent: LentClient, forget: () => void): Kept => {
    const timer = setTimeout(() => {
      forget();
      void lent.close();
    }, keepFor).unref();
    return { lent, timer };
  };
  const idleOf = (mongoUrl: string): Set<Kept> => {
    const clients = idle.get(mongoUrl) ?? new Set();
    idle.set(mongoUrl, clients);
    return clients;
  };
  const takeWarm = (tenantId: TenantId): LentClient | undefined => {
    const kept = warm.get(tenantId);
    warm.delete(tenantId);
    clearTimeout(kept?.timer);
    return kept?.lent;
  };
  const open = (mongoUrl: string, user: MongoUser): LentClient => {
    const clients = idleOf(mongoUrl);
    const [kept] = clients;
    if (kept === undefined) return openClient({ ...PROBING, mongoUrl }, user, cutOff.signal);
    clients.delete(kept);
    clearTimeout(kept.timer);
    kept.lent.enter(user);
    return kept.lent;
  };
  const giveBack = async (mongoUrl: string, lent: LentClient): Promise<void> => {
    const left = lent.leave();
    await left;
    const clients = idleOf(mongoUrl);
    if (left === undefined || cutOff.signal.aborted || clients.size >= MOST_IDLE) return lent.close();
    const kept = keep(lent, () => clients.delete(kept));
    clients.add(kept);
  };

  return {
    warmUp(mongoUrl: string, tenantId: TenantId, password: string): void {
      if (cutOff.signal.aborted) return;
      void takeWarm(tenantId)?.close();
      const lent = open(mongoUrl, userOf(tenantId, password));
      // A failure appears, with its reason, when the probe uses the client.
      lent.fill(lent.client.db(mongoDatabaseName(tenantId))).catch(() => undefined);
      warm.set(
        tenantId,
        keep(lent, () => warm.delete(tenantId)),
      );
    },
    take(mongoUrl: string, tenantId: TenantId, password: string): WarmClient {
      const lent = takeWarm(tenantId) ?? open(mongoUrl, userOf(tenantId, password));
      // Only the first call counts: after it the client may be another tenant's.
      let isOver = false;
      const once = (end: () => Promise<void>) => async () => {
        if (isOver) return;
        isOver = true;
        await end();
      };
      return {
        client: lent.client,
        giveBack: once(() => whileKnown(giveBack(mongoUrl, lent))),
        close: once(() => lent.close()),
      };
    },
    async close(): Promise<void> {
      cutOff.abort();
      const all = [...warm.values(), ...[...idle.values()].flatMap((clients) => [...clients])];
      warm.clear();
      idle.clear();
      for (const { timer } of all) clearTimeout(timer);
      await Promise.all([...all.map(({ lent }) => lent.close()), ...givenBack]);
    },
  };

  /** Keeps the work in a list that `close` waits for. */
  async function whileKnown(work: Promise<void>): Promise<void> {
    givenBack.add(work);
    await work;
    givenBack.delete(work);
  }
}
export type WarmClients = ReturnType<typeof createWarmClients>;

interface Kept {
  readonly lent: LentClient;
  readonly timer: NodeJS.Timeout;
}

const PROBING = {
  appName: 'tenantry-probe',
  poolSize: 1,
  serverSelectionMs: 5_000,
  socketTimeoutMs: 10_000,
  hangUpMs: 1_000,
};

const userOf = (tenantId: TenantId, password: string): MongoUser => ({
  username: mongoUserName(tenantId),
  password: new SaltedPassword(password),
  source: mongoDatabaseName(tenantId),
  // The probe was given the newest password.
  renewed: () => Promise.resolve(undefined),
});
