/**
 * Nothing secret and nothing personal leaves the catalogue and the stores: of runs that went well and runs that did not,
 * everything that Temporal keeps, everything that was logged and everything that was recorded is searched.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createLogger } from '../../domain/log.js';
import { redisMarkerKey, redisUserName } from '../../domain/names.js';
import { lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import { reconcileNamespaces } from '../../tenancy/redis/reconcile.js';
import { expectHarmless, textOf } from '../support/harmless.js';
import { createHolds } from '../support/holds.js';
import { startProvision } from '../support/provision.js';
import { stepsOf } from '../support/recorded.js';
import type { Asked } from '../support/steps.js';
import { until } from '../support/until.js';
import { saidByWorkers } from '../support/temporal-runtime.js';
import { createWorld, type World } from '../support/world.js';

describe('what is kept and said of a run', () => {
  const lines: string[] = [];
  const holds = createHolds();
  const name = `Personal Name ${randomUUID()}`;
  let world: World;
  const asked: Record<string, Asked> = {};

  beforeAll(async () => {
    const destination = { write: (line: string) => void lines.push(line) };
    world = await createWorld({ log: createLogger({ level: 'trace', destination }) });
    await world.startWorker(holds.stepIn);
    asked['succeeded'] = await succeeded();
    asked['failed'] = await failed();
    asked['cancelled'] = await cancelled();
    asked['locked out'] = await lockedOut();
    asked['refused'] = await refused(asked['succeeded']);
    asked['of an unknown cell'] = await ofUnknownCell();
  });
  afterAll(() => world.close());

  it('has no secret, slug or name in any history', async () => {
    for (const one of Object.values(asked)) expectHarmless(await historyOf(one), await secretsOf(one));
  });

  it('has none in a workflow id, search attribute, memo or summary', async () => {
    for (const one of Object.values(asked)) {
      const description = await world.temporal.workflow
        .getHandle(lifecycleWorkflowId(one.tenantId))
        .describe();
      expectHarmless(textOf(description.raw), await secretsOf(one));
    }
  });

  it('has none in a log line', async () => {
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.join('\n')).toContain('WRONGPASS');
    for (const one of Object.values(asked))
      expectHarmless([...lines, ...saidByWorkers()].join('\n'), await secretsOf(one));
  });

  it('has none in a recorded error, in evidence or in what is left', async () => {
    for (const one of Object.values(asked)) {
      const operation = await world.catalogue.operations.find(one.operationId);
      const steps = await stepsOf(world, one.operationId);
      expectHarmless(textOf({ operation, steps }), await secretsOf(one));
    }
  });

  it('is found where it is, so that the search would find it', async () => {
    const secrets = await secretsOf(asked['succeeded'] as Asked);
    expect(secrets.length).toBeGreaterThan(10);
    expect(() => expectHarmless(`before ${secrets[0] ?? ''} after`, secrets)).toThrow('a secret');
    expect(() => expectHarmless(Buffer.from(secrets[1] ?? '').toString('base64'), secrets)).toThrow(
      'a secret',
    );
  });

  const ask = () => world.ask({ name, slug: `personal-${randomUUID().slice(0, 8)}` });

  async function succeeded(): Promise<Asked> {
    const one = await ask();
    const { handle } = await startProvision(world, one);
    await handle.result();
    return one;
  }

  async function failed(): Promise<Asked> {
    const one = await ask();
    const { redis } = await world.dependencies.cells.get(world.cell);
    await redis.set(redisMarkerKey(one.tenantId), 'of somebody else');
    const { handle } = await startProvision(world, one);
    await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'NAME_TAKEN' } });
    return one;
  }

  async function cancelled(): Promise<Asked> {
    const one = await ask();
    const hold = holds.at('after createRole', lifecycleWorkflowId(one.tenantId));
    const { handle } = await startProvision(world, one);
    await hold.reached;
    await handle.cancel();
    hold.release();
    await expect(handle.result()).rejects.toThrow();
    return one;
  }

  /** Redis refuses the password: what its client throws then has it among its arguments. */
  async function lockedOut(): Promise<Asked> {
    const one = await ask();
    const { redis } = await world.dependencies.cells.get(world.cell);
    const hold = holds.at('after begin verify', lifecycleWorkflowId(one.tenantId));
    const { handle } = await startProvision(world, one);
    await hold.reached;
    await redis.acl('DELUSER', redisUserName(one.tenantId));
    hold.release();
    await until('the refusal is logged', () => lines.some((line) => line.includes('WRONGPASS')));
    await reconcileNamespaces(world.catalogue, world.dependencies.secrets, redis, world.cell);
    expect(await handle.result()).toEqual({ status: 'succeeded' });
    return one;
  }

  async function refused(taken: Asked): Promise<Asked> {
    const one = await world.ask({ name, slug: taken.slug });
    const { admission, handle } = await startProvision(world, one);
    await expect(admission).rejects.toMatchObject({ cause: { type: 'SLUG_TAKEN' } });
    await handle.result();
    return one;
  }

  /** Whatever a caller writes may say who a customer is. */
  async function ofUnknownCell(): Promise<Asked> {
    const slug = `personal-${randomUUID().slice(0, 8)}`;
    const one = await world.ask({ name, slug, cell: slug });
    const { admission, handle } = await startProvision(world, one);
    await expect(admission).rejects.toMatchObject({ cause: { type: 'UNKNOWN_CELL' } });
    await handle.result();
    return one;
  }

  async function historyOf({ tenantId }: Asked): Promise<string> {
    return textOf(await world.temporal.workflow.getHandle(lifecycleWorkflowId(tenantId)).fetchHistory());
  }

  /** Whatever must not be seen, as text. */
  async function secretsOf({ tenantId, slug }: Asked): Promise<string[]> {
    const { rows } = await world.catalogue.pool.query<{
      store: 'mongo' | 'redis';
      version: number;
      sealed: Buffer;
    }>('SELECT store, version, sealed FROM credential WHERE tenant_id = $1', [tenantId]);
    const passwords = rows.map(({ store, version, sealed }) =>
      world.dependencies.secrets.open(sealed, { tenantId, store, version }),
    );
    const sealed = rows.map((row) => row.sealed.toString('base64'));
    const ofUrls = [world.stack.postgresUrl, world.stack.mongoUrl, world.stack.redisUrl].map((url) =>
      decodeURIComponent(/\/\/[^:]*:([^@]*)@/.exec(url)?.[1] ?? ''),
    );
    return [
      name,
      slug,
      ...passwords,
      ...passwords.map((password) => createHash('sha256').update(password).digest('hex')),
      ...sealed,
      ...Object.values(world.stack.passwords),
      ...ofUrls,
      world.env['TENANTRY_ROOT_KEY'] ?? '',
      world.env['TENANTRY_API_TOKEN'] ?? '',
    ].filter((secret) => secret !== '');
  }
});
