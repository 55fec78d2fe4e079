/** Connections as a tenant's own user, for probes: opened while the rest is still being made, closed after use. */
import { MongoClient } from 'mongodb';
import type { TenantId } from '../../domain/ids.js';
import { mongoDatabaseName, mongoUserName } from '../../domain/names.js';
import { endLostStatements } from './lost-connection.js';

/** A client of one connection, logged in as the tenant's user when it is first used. */
export function openTenantClient(mongoUrl: string, tenantId: TenantId, password: string): MongoClient {
  const client = new MongoClient(mongoUrl, {
    appName: 'tenantry-probe',
    auth: { username: mongoUserName(tenantId), password },
    authSource: mongoDatabaseName(tenantId),
    authMechanism: 'SCRAM-SHA-256',
    maxPoolSize: 1,
    // Polling saves the second monitoring connection; nobody waits for this client to notice a fail-over.
    serverMonitoringMode: 'poll',
    connectTimeoutMS: 5_000,
    serverSelectionTimeoutMS: 5_000,
    socketTimeoutMS: 10_000,
  });
  return endLostStatements(client);
}

/**
 * Clients that are connecting ahead of their use: logging in costs 40 to 70 ms, which overlaps with the making of
 * the collections. One that is never taken (the probe ran on another worker) is closed after `keepFor` milliseconds.
 */
export function createWarmClients(keepFor = 10_000) {
  const warm = new Map<TenantId, { client: MongoClient; timer: NodeJS.Timeout }>();
  const drop = (tenantId: TenantId): MongoClient | undefined => {
    const entry = warm.get(tenantId);
    if (entry === undefined) return undefined;
    clearTimeout(entry.timer);
    warm.delete(tenantId);
    return entry.client;
  };
  const close = (client: MongoClient | undefined): void => {
    client?.close().catch(() => undefined);
  };
  return {
    warmUp(mongoUrl: string, tenantId: TenantId, password: string): void {
      close(drop(tenantId));
      const client = openTenantClient(mongoUrl, tenantId, password);
      // A failure shows itself, with its reason, when the probe uses the client.
      client.connect().catch(() => undefined);
      const timer = setTimeout(() => close(drop(tenantId)), keepFor).unref();
      warm.set(tenantId, { client, timer });
    },
    /** The caller closes it. */
    take(mongoUrl: string, tenantId: TenantId, password: string): MongoClient {
      return drop(tenantId) ?? openTenantClient(mongoUrl, tenantId, password);
    },
    async close(): Promise<void> {
      for (const tenantId of warm.keys()) await drop(tenantId)?.close();
    },
  };
}
export type WarmClients = ReturnType<typeof createWarmClients>;
