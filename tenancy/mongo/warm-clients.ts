/**
 * Clients for probes as a tenant's own user: logged in ahead of their use, while the rest of the tenant is still being made, as
 * that takes 40 to 70 ms; then lent to the next tenant, since making a client costs twice what logging in does.
 */
import { setMaxListeners } from 'node:events';
import type { MongoClient } from 'mongodb';
import type { TenantId } from '../../domain/ids.js';
import { mongoDatabaseName, mongoUserName } from '../../domain/names.js';
import { type LentClient, openClient } from './lent-client.js';
import { SaltedPassword } from './scram.js';
import type { MongoUser } from './user-switch.js';

/** One of its two is called in the end, and neither fails; what is called after that does nothing. */
export interface WarmClient {
  readonly client: MongoClient;
  /** Nothing is under way on it, and nothing has failed: another tenant may have it. */
  giveBack(): Promise<void>;
  close(): Promise<void>;
}

/** Clients that nobody has, for each server. */
const MOST_IDLE = 16;

/** @param keepFor how long one is kept that nobody takes, in milliseconds: its probe may run on another worker */
export function createWarmClients(keepFor = 10_000) {
  /** By tenant: logging in, or logged in. */
  const warm = new Map<TenantId, Kept>();
  /** By server. */
  const idle = new Map<string, Set<Kept>>();
  const givenBack = new Set<Promise<void>>();
  const cutOff = new AbortController();
  // One for each connection that is on its way out.
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
      // A failure shows itself, with its reason, when the probe uses the client.
      lent.fill(lent.client.db(mongoDatabaseName(tenantId))).catch(() => undefined);
      warm.set(
        tenantId,
        keep(lent, () => warm.delete(tenantId)),
      );
    },
    take(mongoUrl: string, tenantId: TenantId, password: string): WarmClient {
      const lent = takeWarm(tenantId) ?? open(mongoUrl, userOf(tenantId, password));
      // After the first end the client may be another tenant's.
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

  /** So that `close` can wait for it. */
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
  // The probe has the newest one.
  renewed: () => Promise.resolve(undefined),
});
