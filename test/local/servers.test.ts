// Each real server: found, started, killed in the middle, started again on its data.

import { Connection, Client as TemporalClient } from '@temporalio/client';
import { Redis } from 'ioredis';
import { Client } from 'pg';
import { TENANT_ID } from '../../domain/search-attributes.js';
import { isAlive, identityOf } from '../../local/identity.js';
import { startMongo } from '../../local/mongo.js';
import { withClient as mongo } from '../../local/mongo-client.js';
import { startPostgres } from '../../local/postgres.js';
import { startRedis } from '../../local/redis.js';
import { silentReport as report } from '../../local/report.js';
import { type RunningServer, withoutPassword } from '../../local/server.js';
import { startTemporal } from '../../local/temporal.js';
import { anyServer, places, type Place } from './support.js';

jest.setTimeout(60_000);
const place = places();
const env = anyServer();

describe('PostgreSQL', () => {
  it('answers with a password only, and keeps what it acknowledged through a kill and a stop', async () => {
    const { server } = await started((here) => startPostgres({ dataDir: here.folder, report, env }));
    expect(server.described).toMatch(/^PostgreSQL \d+\.\d+ \(.+\)$/);
    await sql(server.url, 'create table kept (n int)', 'insert into kept values (1)');
    const postmaster = identityOf(server.pid ?? 0);
    await server.kill();
    expect(server.pid).toBeUndefined();
    expect(postmaster && isAlive(postmaster)).toBe(false);
    await expect(sql(server.url, 'select 1')).rejects.toThrow('ECONNREFUSED');

    const { url } = server;
    await server.start();
    expect(server.url).toBe(url);
    expect(await sql(url, 'select n from kept')).toEqual([{ n: 1 }]);
    await server.stop();
    await server.stop();
    await server.start();
    expect(await sql(url, 'select n from kept')).toEqual([{ n: 1 }]);
    expect(await sql(url, 'show fsync')).toEqual([{ fsync: 'on' }]);
    await expect(sql(url.replace(/:[^:@]+@/, ':wrong@'), 'select 1')).rejects.toThrow('password');
  });

  it('does not answer while it is paused, also on an open connection', async () => {
    const { server } = await started((here) =>
      startPostgres({ dataDir: here.folder, report, env, durable: false }),
    );
    const client = new Client({ connectionString: server.url });
    await client.connect();
    try {
      let answered = false;
      server.pause();
      const answer = client.query('select 1').then(() => (answered = true));
      await new Promise((resolve) => setTimeout(resolve, 300));
      expect(answered).toBe(false);
      server.resume();
      expect(await answer).toBe(true);
    } finally {
      await client.end();
    }
  });
});

describe('Redis', () => {
  it('answers with a password only, and keeps what it acknowledged through a kill', async () => {
    const { server } = await started((here) => startRedis({ dataDir: here.folder, report, env }));
    expect(server.described).toMatch(/^Redis \d+\.\d+\.\d+ \(.+\)$/);
    await redis(server.url, (client) => client.set('kept', '1'));
    await server.kill();
    await server.start();
    expect(await redis(server.url, (client) => client.get('kept'))).toBe('1');
    await expect(redis(withoutPassword(server.url), (client) => client.get('kept'))).rejects.toThrow(
      /WRONGPASS|closed/,
    );
  });
});

describe('MongoDB', () => {
  it('answers to its root user only, and keeps what it acknowledged through a kill', async () => {
    const { server, here } = await started((here) => startMongo({ dataDir: here.folder, report, env }));
    await mongo(server.url, (client) => client.db('test').collection('kept').insertOne({ n: 1 }));
    await server.kill();
    await server.start();
    const found = () =>
      mongo(server.url, (client) =>
        client
          .db('test')
          .collection('kept')
          .findOne({}, { projection: { _id: 0 } }),
      );
    expect(await found()).toEqual({ n: 1 });
    const anonymous = server.url.replace(/root:[^@]+@/, '').replace('authSource=admin&', '');
    await expect(
      mongo(anonymous, (client) => client.db('test').collection('kept').findOne()),
    ).rejects.toThrow(/auth/i);

    // The second start of the whole takes the same kind of server, and the same port where it is free.
    await server.stop();
    const again = await startMongo({ dataDir: here.folder, report, env });
    here.after(() => again.stop());
    expect({ kind: again.kind, url: again.url }).toEqual({ kind: server.kind, url: server.url });
  });

  it('lets anybody in when a test asks for a server without authentication', async () => {
    const { server } = await started((here) =>
      startMongo({ dataDir: here.folder, report, env, auth: false }),
    );
    expect(server.url).not.toContain('@');
    const inserted = await mongo(server.url, (client) =>
      client.db('test').collection('open').insertOne({ n: 1 }),
    );
    expect(inserted.acknowledged).toBe(true);
  });
});

describe('Temporal', () => {
  const searchAttributes = { TenantId: 'Keyword' } as const;

  it('keeps its workflows through a kill when it is persistent', async () => {
    const { server } = await started((here) =>
      startTemporal({ dataDir: here.folder, report, env, persistent: true, ui: false, searchAttributes }),
    );
    expect(server.described).toMatch(/^Temporal \d+\.\d+/);
    expect(server.uiUrl).toBeUndefined();
    await temporal(server.url, (client) =>
      client.workflow.start('nobody-runs-this', { workflowId: 'kept', taskQueue: 'none' }),
    );
    await server.kill();
    await server.start();
    const status = await temporal(server.url, async (client) => client.workflow.getHandle('kept').describe());
    expect(status.status.name).toBe('RUNNING');
  });

  it('has the search attributes and its page when it was asked for them', async () => {
    const { server } = await started((here) =>
      startTemporal({ dataDir: here.folder, report, env, persistent: false, ui: true, searchAttributes }),
    );
    const answer = await fetch(server.uiUrl ?? '');
    expect(answer.status).toBe(200);
    const { customAttributes } = await temporal(server.url, (client) =>
      client.connection.operatorService.listSearchAttributes({ namespace: 'default' }),
    );
    expect(Object.keys(customAttributes ?? {})).toContain('TenantId');
  });

  it('takes a run with its search attributes as soon as it is started', async () => {
    const { server } = await started((here) =>
      startTemporal({ dataDir: here.folder, report, env, persistent: false, ui: false, searchAttributes }),
    );
    const tenant = { key: TENANT_ID, value: 'somebody' };
    const { searchAttributes: found } = await temporal(server.url, async (client) => {
      const handle = await client.workflow.start('nobody-runs-this', {
        workflowId: 'found',
        taskQueue: 'none',
        typedSearchAttributes: [tenant],
      });
      return handle.describe();
    });
    expect(found).toMatchObject({ TenantId: ['somebody'] });
  });
});

async function started<S extends RunningServer>(start: (here: Place) => Promise<S>) {
  const here = place();
  const server = await start(here);
  here.after(() => server.stop());
  expect(server.source).not.toBe('environment');
  return { server, here };
}

async function sql(url: string, ...statements: string[]): Promise<unknown[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    let rows: unknown[] = [];
    for (const statement of statements) ({ rows } = await client.query(statement));
    return rows;
  } finally {
    await client.end();
  }
}

async function redis<T>(url: string, errand: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(url, { maxRetriesPerRequest: 0, retryStrategy: () => null, lazyConnect: true });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return await errand(client);
  } finally {
    client.disconnect();
  }
}

async function temporal<T>(address: string, errand: (client: TemporalClient) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address });
  try {
    return await errand(new TemporalClient({ connection }));
  } finally {
    await connection.close();
  }
}
