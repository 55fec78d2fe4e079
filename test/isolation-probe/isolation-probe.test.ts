/** Tenants at work are tried against each other: that nobody gets through is recorded, and whoever does raises the alarm. */
import { randomUUID } from 'node:crypto';
import { Writable } from 'node:stream';
import { WorkflowFailedError } from '@temporalio/client';
import pg from 'pg';
import { ISOLATION_PROBE, type IsolationProbeOutcome } from '../../domain/contracts.js';
import { newOperationId, type OperationId, operationId, type TenantId } from '../../domain/ids.js';
import { createLogger } from '../../domain/log.js';
import { MONGO_ROLE, mongoDatabaseName, mongoUserName, redisUserName } from '../../domain/names.js';
import { canMongoBeProbedAcross } from '../../tenancy/mongo/enforcement.js';
import { canaryId } from '../../tenancy/canary.js';
import { breachAlarm } from '../../worker/breach-alarm.js';
import { stepsOf } from '../support/recorded.js';
import { finishedRun } from '../support/runs.js';
import { createWorld, type World } from '../support/world.js';

const SHORT = { step: 10_000, undo: 0, attempt: 10_000 };

describe('a probe of tenants at work', () => {
  let world: World;
  let tenants: TenantId[];
  const lines: string[] = [];
  const destination = new Writable({
    write: (chunk, _encoding, done) => (lines.push(String(chunk)), done()),
  });
  const alarm = breachAlarm(createLogger({ level: 'error', destination }));

  beforeAll(async () => {
    world = await createWorld();
    await world.startWorker({ interceptors: { activity: [alarm.interceptor] } });
    tenants = [];
    for (let i = 0; i < 3; i++) tenants.push((await finishedRun(world)).tenantId);
  });
  afterAll(() => world.close());

  const probe = async (sample = 10): Promise<IsolationProbeOutcome> => {
    const handle = await world.temporal.workflow.start(ISOLATION_PROBE, {
      taskQueue: world.taskQueue,
      workflowId: `isolation-probe/${randomUUID()}`,
      args: [{ sample, patience: SHORT }],
    });
    return handle.result() as Promise<IsolationProbeOutcome>;
  };
  /** The last one that failed, as the catalogue has it. */
  const lastFailed = async () => {
    const { rows } = await world.catalogue.pool.query<{ id: string }>(
      `SELECT id FROM operation WHERE kind = 'isolation-probe' AND status = 'failed' ORDER BY finished_at DESC LIMIT 1`,
    );
    const id = operationId(rows[0]?.id ?? '');
    return {
      operation: await world.catalogue.operations.find(id),
      steps: await stepsOf(world, id),
    };
  };
  const breaches = async (store: string): Promise<number> =>
    (await alarm.counter.get()).values.find(({ labels }) => labels['store'] === store)?.value ?? 0;
  const expectBreach = async (store: string): Promise<void> => {
    const before = await breaches(store);
    const failure: unknown = await probe().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(WorkflowFailedError);
    expect(failure).toMatchObject({ cause: { type: 'ISOLATION_BREACH' } });
    const { operation, steps } = await lastFailed();
    expect(operation).toMatchObject({ error: { code: 'ISOLATION_BREACH' } });
    expect(operation?.error?.message).toContain(store);
    expect(steps).toMatchObject([{ status: 'failed', attempts: 1, lastError: { code: 'ISOLATION_BREACH' } }]);
    expect(await breaches(store)).toBe(before + 1);
    expect(lines.at(-1)).toContain('ISOLATION_BREACH');
    for (const tenant of tenants) expect(lines.join('') + JSON.stringify(operation)).not.toContain(tenant);
  };
  const mongo = async () => (await world.dependencies.cells.get(world.cell)).mongo;
  const redis = async () => (await world.dependencies.cells.get(world.cell)).redis;

  it('tries each against another, the canary too, and says what was seen', async () => {
    const { operationId: id, pairs } = await probe();
    expect(pairs).toBe(4);
    expect(await world.catalogue.operations.find(id)).toMatchObject({
      kind: 'isolation-probe',
      status: 'succeeded',
      tenantId: null,
    });
    expect(await stepsOf(world, id)).toMatchObject([
      {
        name: `probe ${world.cell}`,
        status: 'succeeded',
        evidence: { pairs: 4, stores: { redis: 'NOPERM' } },
      },
    ]);
  });

  it('tries as many as it is asked to', async () => {
    expect((await probe(1)).pairs).toBe(2);
  });

  it('finds a table whose row-level security was switched off', async () => {
    const { schema, tables } = world.manifest.postgres;
    const table = `"${schema}"."${Object.keys(tables)[0]}"`;
    const admin = new pg.Client({ connectionString: world.url('cell') });
    await admin.connect();
    try {
      const columns = Object.entries(Object.values(tables)[0]?.columns ?? {});
      for (const tenant of tenants)
        await admin.query(
          `INSERT INTO ${table} (tenant_id, ${columns.map(([name]) => `"${name}"`).join()})
           VALUES ($1, ${columns.map(([, { type }]) => valueOf(type)).join()})`,
          [tenant],
        );
      expect((await probe()).pairs).toBe(4);
      await admin.query(`ALTER TABLE ${table} DISABLE ROW LEVEL SECURITY`);
      await expectBreach('PostgreSQL');
      await admin.query(`ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY`);
      expect((await probe()).pairs).toBe(4);
    } finally {
      await admin.end();
    }
  });

  it('finds a table whose row-level security is not forced, though no row of it can be seen', async () => {
    const { schema, tables } = world.manifest.postgres;
    const admin = new pg.Client({ connectionString: world.url('cell') });
    await admin.connect();
    try {
      const table = `"${schema}"."${Object.keys(tables).at(-1)}"`;
      await admin.query(`ALTER TABLE ${table} NO FORCE ROW LEVEL SECURITY`);
      await expectBreach('PostgreSQL');
      await admin.query(`ALTER TABLE ${table} FORCE ROW LEVEL SECURITY`);
      expect((await probe()).pairs).toBe(4);
    } finally {
      await admin.end();
    }
  });

  it('finds a Redis user who may reach every key', async () => {
    const user = redisUserName(canaryId(world.cell));
    await (await redis()).acl('SETUSER', user, '~*');
    await expectBreach('Redis');
    await (await redis()).acl('SETUSER', user, 'resetkeys', `~t:{${canaryId(world.cell)}}:*`);
    expect((await probe()).pairs).toBe(4);
  });

  it('finds a MongoDB user with a role in another database', async () => {
    const { cell } = await world.dependencies.cells.get(world.cell);
    if (!canMongoBeProbedAcross(cell.trial)) {
      process.stderr.write(
        'skipped: this MongoDB server is known not to refuse, so crossing is not tried there\n',
      );
      return;
    }
    const db = (await mongo()).db(mongoDatabaseName(canaryId(world.cell)));
    const user = mongoUserName(canaryId(world.cell));
    const roles = tenants.map((tenant) => ({ role: MONGO_ROLE, db: mongoDatabaseName(tenant) }));
    await db.command({ grantRolesToUser: user, roles });
    await expectBreach('MongoDB');
    await db.command({ revokeRolesFromUser: user, roles });
    expect((await probe()).pairs).toBe(4);
  });

  it('closes one that was begun a day ago and whose run was terminated', async () => {
    const begin = async (age: string): Promise<OperationId> => {
      const id = newOperationId();
      await world.activities.beginIsolationProbe({ operationId: id });
      await world.catalogue.pool.query(
        'UPDATE operation SET started_at = now() - $2::interval WHERE id = $1',
        [id, age],
      );
      return id;
    };
    const [lost, slow] = [await begin('25 hours'), await begin('23 hours')];
    await probe();
    expect(await world.catalogue.operations.find(lost)).toMatchObject({
      status: 'cancelled',
      error: { code: 'CANCELLED' },
    });
    expect(await world.catalogue.operations.find(slow)).toMatchObject({ status: 'running' });
  });

  it('does not call it well when a tenant could not be tried', async () => {
    const [tenant] = tenants;
    if (tenant === undefined) throw new Error('no tenant');
    await (await redis()).acl('SETUSER', redisUserName(tenant), 'off');
    await expect(probe()).rejects.toMatchObject({ cause: { type: 'VERIFICATION_FAILED' } });
    const { operation } = await lastFailed();
    expect(operation).toMatchObject({ error: { code: 'VERIFICATION_FAILED' } });
    await (await redis()).acl('SETUSER', redisUserName(tenant), 'on');
    expect((await probe()).pairs).toBe(4);
  });
});

const valueOf = (type: string): string =>
  ({
    uuid: 'gen_random_uuid()',
    text: "'x'",
    boolean: 'false',
    timestamptz: 'now()',
    date: 'now()::date',
    jsonb: "'{}'",
    bytea: "'\\x00'",
  })[type] ?? '1';
