/** A driver's client as one tenant's own user, for as long as it lives. */
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
