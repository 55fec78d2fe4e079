// A MongoDB client for one errand on a server of this machine.

import { MongoClient } from 'mongodb';

export async function withClient<T>(url: string, errand: (client: MongoClient) => Promise<T>): Promise<T> {
  const client = new MongoClient(url, {
    serverSelectionTimeoutMS: 3_000,
    connectTimeoutMS: 3_000,
    socketTimeoutMS: 20_000,
    maxPoolSize: 1,
    serverMonitoringMode: 'poll',
  });
  try {
    await client.connect();
    return await errand(client);
  } finally {
    await client.close();
  }
}
