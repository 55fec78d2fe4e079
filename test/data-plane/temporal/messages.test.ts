/** Signals and updates of a tenant's workflow: they come from that tenant, or do not arrive. */
import { type Client, WithStartWorkflowOperation } from '@temporalio/client';
import { currentTenant, type Tenantry } from '../../../tenancy/index.js';
import { CONTEXT_HEADER, MESSAGE_HEADER } from '../../../tenancy/temporal/header.js';
import { createPasses } from '../../../tenancy/temporal/passes.js';
import { replay } from '../../support/replay.js';
import { until } from '../../support/until.js';
import type { Row } from '../context/support.js';
import { failure, namespace, openStage, type Stage } from './support.js';
import type * as workflows from './workflows.js';

let stage: Stage;
let tenantry: Tenantry;
let client: Client;
let bundle: Stage['bundle'];
let taskQueue: string;
let acme: Row;
let other: Row;
beforeAll(async () => {
  stage = await openStage();
  ({ tenantry, client, bundle, taskQueue, acme, other } = stage);
}, 120_000);
afterAll(() => stage.close());

const fresh = (): string => stage.fresh();
const as = <T>(row: Row, work: () => Promise<T>): Promise<T> => stage.as(row, work);

describe('signals and updates', () => {
  const listen = (row: Row, count: number, workflowId = fresh()) =>
    as(row, () =>
      client.workflow.start<typeof workflows.listens>('listens', { taskQueue, workflowId, args: [count] }),
    );

  test('of the same tenant arrive in order, from clients and from workflows', async () => {
    const handle = await listen(acme, 4);
    await as(acme, async () => {
      for (const text of ['one', 'two', 'three']) await handle.signal('note', text);
      expect(await handle.executeUpdate('ask', { args: ['who'] })).toBe(`who:${acme.tenantId}`);
    });
    const teller = fresh();
    expect(
      await as(acme, () =>
        client.workflow.execute<typeof workflows.tells>('tells', {
          taskQueue,
          workflowId: teller,
          args: [handle.workflowId],
        }),
      ),
    ).toBe(acme.tenantId);
    expect(await handle.result()).toEqual(['one', 'two', 'three', `from ${teller}`, acme.tenantId]);
  });

  test('that are unsigned, of another tenant or for another workflow are refused', async () => {
    const handle = await listen(acme, 1);
    const elsewhere = await listen(acme, 1);
    const message = await as(acme, async () =>
      createPasses(tenantry.handingOn.signer, { namespace }).forMessage(
        currentTenant(),
        elsewhere.workflowId,
      ),
    );
    const copied = stage.forging({ [MESSAGE_HEADER]: message }).workflow.getHandle(handle.workflowId);
    await handle.signal('note', 'unsigned');
    await as(other, () => handle.signal('note', 'of another'));
    await copied.signal('note', 'copied');
    expect(await failure(handle.executeUpdate('ask', { args: ['?'] }))).toBe('CONTEXT_REFUSED');
    expect(await failure(as(other, () => handle.executeUpdate('ask', { args: ['?'] })))).toBe(
      'CONTEXT_REFUSED',
    );
    expect(await failure(copied.executeUpdate('ask', { args: ['?'] }))).toBe('CONTEXT_REFUSED');
    await as(other, () =>
      client.workflow.execute<typeof workflows.tells>('tells', {
        taskQueue,
        workflowId: fresh(),
        args: [handle.workflowId],
      }),
    );
    await as(acme, async () => {
      await handle.signal('note', 'mine');
      await elsewhere.signal('note', 'done');
    });
    expect(await handle.result()).toEqual(['mine', acme.tenantId]);
    expect(await elsewhere.result()).toEqual(['done', acme.tenantId]);
  });

  test('that come with a start are looked at as well, where their handlers are there before it', async () => {
    const by = (sender: Client, workflowId: string): Promise<string> =>
      sender.workflow.executeUpdateWithStart<typeof workflows.listensEarly, string, [string]>('ask', {
        args: ['with the start'],
        startWorkflowOperation: new WithStartWorkflowOperation('listensEarly', {
          taskQueue,
          workflowId,
          workflowIdConflictPolicy: 'USE_EXISTING',
        }),
      });
    const workflowId = fresh();
    const context = await as(acme, async () =>
      createPasses(tenantry.handingOn.signer, { namespace }).forWorkflow(
        currentTenant(),
        workflowId,
        'listensEarly',
      ),
    );
    // The start is the tenant's, the update nobody's.
    expect(await failure(by(stage.forging({ [CONTEXT_HEADER]: context }), workflowId))).toBe(
      'CONTEXT_REFUSED',
    );
    await as(acme, () => client.workflow.getHandle(workflowId).signal('note', 'end'));
    expect(await client.workflow.getHandle(workflowId).result()).toEqual(['end']);
    const own = fresh();
    expect(await as(acme, () => by(client, own))).toBe('1');
    await as(acme, () => client.workflow.getHandle(own).signal('note', 'end'));
    expect(await client.workflow.getHandle(own).result()).toEqual(['with the start', 'end']);
  });

  test('that come with a start find the handlers that its function sets, and are looked at no less', async () => {
    const by = (sender: Client, workflowId: string): Promise<string> =>
      sender.workflow.executeUpdateWithStart<typeof workflows.listens, string, [string]>('ask', {
        args: ['with the start'],
        startWorkflowOperation: new WithStartWorkflowOperation('listens', {
          taskQueue,
          workflowId,
          workflowIdConflictPolicy: 'USE_EXISTING',
          args: [1],
        }),
      });
    const workflowId = fresh();
    expect(await as(acme, () => by(client, workflowId))).toBe(`with the start:${acme.tenantId}`);
    expect(await failure(as(other, () => by(client, workflowId)))).toBe('CONTEXT_REFUSED');
    await as(acme, () => client.workflow.getHandle(workflowId).signal('note', 'end'));
    expect(await client.workflow.getHandle(workflowId).result()).toEqual(['end', acme.tenantId]);
  });

  describe('that a validator looks at', () => {
    const start = async () => {
      const workflowId = fresh();
      const handle = await as(acme, () =>
        client.workflow.start<typeof workflows.guarded>('guarded', { taskQueue, workflowId }),
      );
      // Before its function has begun there is no handler, which Temporal says by itself.
      const isBegun = (): Promise<boolean> =>
        handle.query('wordsTried').then(
          () => true,
          () => false,
        );
      await until('its function has begun', isBegun);
      return handle;
    };
    /** What the sender is told. */
    const told = async (work: Promise<unknown>): Promise<unknown> => {
      try {
        return await work;
      } catch (error) {
        const { cause } = error as { cause?: { message?: string; type?: string; details?: unknown[] } };
        return [cause?.type, cause?.message, cause?.details ?? []];
      }
    };

    test('tell its words to their own tenant alone', async () => {
      const handle = await start();
      const send = (word: string) => handle.executeUpdate('ask', { args: [word] });
      const refused = (because: string) => [
        'CONTEXT_REFUSED',
        expect.stringContaining(because),
        expect.anything(),
      ];
      for (const word of ['wrong', 'odd', 'open']) {
        expect([word, await told(send(word))]).toEqual([word, refused('')]);
        expect([word, await told(as(other, () => send(word)))]).toEqual([word, refused('another tenant')]);
      }
      await as(acme, async () => {
        expect(await told(send('wrong'))).toEqual(['WRONG_WORD', 'it is open', ['wrong']]);
        expect(await told(send('odd'))).toEqual(['TypeError', 'an odd word', []]);
        expect(await told(send('open'))).toBe(`1:${acme.tenantId}`);
        // What names no sender at all does not get as far as the validator, nor into the history.
        expect((await handle.query<string[]>('wordsTried')).length).toBe(6);
        await handle.signal('note', 'end');
      });
      expect(await handle.result()).toEqual(['open', 'end']);
      // What was said live is not said again, and what came of it is the same.
      const { workflowId } = handle;
      expect(await replay(bundle, [{ workflowId, history: await handle.fetchHistory() }])).toEqual({});
    });
  });

  test('that another worker had accepted are refused: what their validator said died with it', async () => {
    const workflowId = fresh();
    const ask = await as(acme, () => {
      const text = createPasses(tenantry.handingOn.signer, { namespace }).forMessage(
        currentTenant(),
        workflowId,
      );
      return client.workflow.start<typeof workflows.asksOfTakenOver>('asksOfTakenOver', {
        taskQueue,
        workflowId,
        args: [text],
      });
    });
    expect(await failure(ask.result())).toBe('CONTEXT_REFUSED');
  });

  test('with a start keep it', async () => {
    const workflowId = fresh();
    const handle = await as(acme, () =>
      client.workflow.signalWithStart<typeof workflows.listens, [string]>('listens', {
        taskQueue,
        workflowId,
        args: [1],
        signal: 'note',
        signalArgs: ['first'],
      }),
    );
    expect(await handle.result()).toEqual(['first', acme.tenantId]);
  });
});
