/**
 * Ways in which JavaScript runs code later or on somebody else's behalf. Each shows the tenant that is right or an error;
 * where the caller decides (emitters, pools with callbacks), binding a callback or holding on to the tenant makes it so.
 */
import { AsyncResource } from 'node:async_hooks';
import { EventEmitter, EventEmitterAsyncResource, on, once } from 'node:events';
import { readFile } from 'node:fs';
import { createServer, connect, type AddressInfo } from 'node:net';
import { Readable, Transform, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setImmediate as immediate, setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import {
  bindTenant,
  currentTenant,
  findCurrentTenant,
  type Tenant,
  type Tenantry,
} from '../../../tenancy/index.js';
import { createWorld, type World } from '../../support/world.js';
import { insertTenant, open, ownerOf, type Row } from './support.js';

let world: World;
let tenantry: Tenantry;
let tenants: Row[];

beforeAll(async () => {
  world = await createWorld();
  tenantry = open(world);
  tenants = await Promise.all(Array.from({ length: 8 }, () => insertTenant(world)));
});
afterAll(async () => {
  await tenantry.close();
  await world.close();
});

const here = (): string | undefined => findCurrentTenant()?.tenantId;

/** Runs it as every tenant at once; each run says which tenant it saw in the end. */
async function asAll(work: (own: string) => Promise<unknown>): Promise<void> {
  await Promise.all(
    tenants.map(({ slug, tenantId }) =>
      tenantry.runWithTenant(slug, async () => {
        await work(tenantId);
        expect(here()).toBe(tenantId);
      }),
    ),
  );
}

const carried: Record<string, (own: string) => Promise<void>> = {
  async 'promises and async functions'(own) {
    for (let i = 0; i < 5; i++) {
      await pause(Math.random() * 3);
      expect(here()).toBe(own);
      await Promise.all([Promise.resolve(), immediate()]).then(() => expect(here()).toBe(own));
    }
  },
  async timers(own) {
    await new Promise<void>((done) =>
      setTimeout(() => {
        expect(here()).toBe(own);
        done();
      }, 2),
    );
    await new Promise<void>((done) =>
      setImmediate(() => {
        expect(here()).toBe(own);
        done();
      }),
    );
    await new Promise<void>((done) => {
      const timer = setInterval(() => {
        clearInterval(timer);
        expect(here()).toBe(own);
        done();
      }, 1);
    });
  },
  async 'queueMicrotask and nextTick'(own) {
    await new Promise<void>((done) =>
      queueMicrotask(() => {
        expect(here()).toBe(own);
        done();
      }),
    );
    await new Promise<void>((done) =>
      process.nextTick(() => {
        expect(here()).toBe(own);
        done();
      }),
    );
  },
  async 'callbacks of the platform, and promisified ones'(own) {
    await new Promise<void>((done) =>
      readFile(__filename, () => {
        expect(here()).toBe(own);
        done();
      }),
    );
    await promisify(readFile)(__filename);
    expect(here()).toBe(own);
  },
  async 'streams in a pipeline'(own) {
    const seen: unknown[] = [];
    await pipeline(
      Readable.from(['a', 'b', 'c']),
      new Transform({
        objectMode: true,
        transform: (chunk, _, next) => {
          seen.push(here());
          setImmediate(() => next(null, chunk));
        },
      }),
      async function* (source: AsyncIterable<unknown>) {
        for await (const chunk of source) {
          seen.push(here());
          yield chunk;
        }
      },
      new Writable({
        objectMode: true,
        write: (_chunk, _, next) => {
          seen.push(here());
          next();
        },
      }),
    );
    expect(new Set(seen)).toEqual(new Set([own]));
    expect(seen).toHaveLength(9);
  },
  async 'async iterators and generators'(own) {
    async function* numbers() {
      for (let i = 0; i < 3; i++) {
        await pause(1);
        expect(here()).toBe(own);
        yield i;
      }
    }
    for await (const _ of numbers()) expect(here()).toBe(own);
  },
  async 'events that the tenant itself emits'(own) {
    const emitter = new EventEmitter();
    let seen: unknown;
    emitter.on('it', () => {
      seen = here();
    });
    emitter.emit('it');
    expect(seen).toBe(own);
    setImmediate(() => emitter.emit('again'));
    await once(emitter, 'again');
    expect(here()).toBe(own);
  },
  async 'listeners of an AbortSignal'(own) {
    const controller = new AbortController();
    let seen: unknown;
    controller.signal.addEventListener('abort', () => {
      seen = here();
    });
    controller.abort();
    expect(seen).toBe(own);
    await pause(50, undefined, { signal: AbortSignal.timeout(2) }).catch(() => undefined);
    expect(here()).toBe(own);
  },
  async 'a socket of its own'(own) {
    const server = createServer((socket) => socket.end('hello'));
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    for await (const _ of socket) expect(here()).toBe(own);
    await new Promise((done) => server.close(done));
  },
};
test.each(Object.keys(carried))('%s keep the tenant', async (name) => {
  await asAll((own) => carried[name]?.(own) ?? Promise.reject(new Error(name)));
});

/** One emitter for all tenants: a listener runs as whoever emits. */
describe('a shared EventEmitter', () => {
  const [a, b] = [0, 1] as const;
  const as = (index: 0 | 1, work: (tenant: Tenant) => void | Promise<void>) =>
    tenantry.runWithTenant(tenants[index]?.slug ?? '', work);

  test('has no tenant where nobody in particular emits', async () => {
    const emitter = new EventEmitter();
    let seen: unknown;
    await as(
      a,
      () =>
        void emitter.on('it', () => {
          try {
            seen = currentTenant();
          } catch (error) {
            seen = error;
          }
        }),
    );
    emitter.emit('it');
    expect(seen).toMatchObject({ code: 'NO_TENANT_CONTEXT' });
  });

  test('gives a listener of one tenant nothing of it when another emits', async () => {
    const emitter = new EventEmitter();
    let seen: unknown;
    await as(
      a,
      (tenant) =>
        void emitter.on('it', () => {
          try {
            seen = tenant.pg;
          } catch (error) {
            seen = error;
          }
        }),
    );
    await as(b, () => void emitter.emit('it'));
    expect(seen).toMatchObject({ code: 'NESTED_TENANT_CONTEXT' });
  });

  test.each([
    ['bindTenant', (listener: () => void) => bindTenant(listener)],
    ['AsyncResource.bind', (listener: () => void) => AsyncResource.bind(listener)],
  ])('runs a listener bound by %s as the tenant that bound it', async (_, bind) => {
    const emitter = new EventEmitter();
    const seen: unknown[] = [];
    await as(
      a,
      (tenant) =>
        void emitter.on(
          'it',
          bind(() => seen.push(here(), ownerOf(tenant.pg))),
        ),
    );
    await as(b, () => void emitter.emit('it'));
    emitter.emit('it');
    const id = tenants[a]?.tenantId;
    expect(seen).toEqual([id, id, id, id]);
  });

  test('that is an async resource runs its listeners as the tenant that made it', async () => {
    let emitter: EventEmitterAsyncResource | undefined;
    let seen: unknown;
    await as(a, () => {
      emitter = new EventEmitterAsyncResource({ name: 'own' });
      emitter.on('it', () => {
        seen = here();
      });
    });
    await as(b, () => void emitter?.emit('it'));
    expect(seen).toBe(tenants[a]?.tenantId);
  });

  test('read as an async iterator keeps the tenant of the reader', async () => {
    const emitter = new EventEmitter();
    const reading = as(a, async () => {
      for await (const _ of on(emitter, 'it', { close: ['end'] })) expect(here()).toBe(tenants[a]?.tenantId);
    });
    await immediate();
    await as(b, () => void emitter.emit('it'));
    emitter.emit('end');
    await reading;
  });
});

/** A pool that runs a waiter's callback in the middle of another's release, as those with callbacks do. */
class CallbackPool {
  #busy = false;
  readonly #waiting: (() => void)[] = [];
  take(callback: () => void): void {
    if (this.#busy) this.#waiting.push(callback);
    else {
      this.#busy = true;
      callback();
    }
  }
  release(): void {
    this.#busy = false;
    const next = this.#waiting.shift();
    if (next) this.take(next);
  }
}

describe('a pool that runs the callback of a waiter as whoever releases', () => {
  test('keeps the tenant when it is awaited as a promise', async () => {
    const pool = new CallbackPool();
    await asAll(async (own) => {
      await new Promise<void>((taken) => pool.take(taken));
      expect(here()).toBe(own);
      await pause(1);
      pool.release();
    });
  });

  test('keeps the tenant when the callback is bound', async () => {
    const pool = new CallbackPool();
    await asAll(
      (own) =>
        new Promise<void>((done) =>
          pool.take(
            bindTenant(() => {
              expect(here()).toBe(own);
              setTimeout(() => {
                pool.release();
                done();
              }, 1);
            }),
          ),
        ),
    );
  });

  test('is refused the stores of the waiter when the callback is not', async () => {
    const pool = new CallbackPool();
    const seen: unknown[] = [];
    await tenantry.runWithTenant(tenants[0]?.slug ?? '', () => pool.take(() => undefined));
    await tenantry.runWithTenant(tenants[1]?.slug ?? '', (tenant) =>
      pool.take(() => {
        try {
          seen.push(ownerOf(tenant.redis));
        } catch (error) {
          seen.push(error);
        }
      }),
    );
    await tenantry.runWithTenant(tenants[0]?.slug ?? '', () => pool.release());
    expect(seen).toEqual([expect.objectContaining({ code: 'NESTED_TENANT_CONTEXT' })]);
  });
});

test('AbortSignal.timeout calls its listeners as the right tenant or as none', async () => {
  await asAll(async (own) => {
    const signal = AbortSignal.timeout(2);
    const seen = await new Promise((done) => signal.addEventListener('abort', () => done(here())));
    expect([own, undefined]).toContain(seen);
  });
});

test('a worker thread has no tenant', async () => {
  await asAll(async () => {
    const worker = new Worker(
      `const { AsyncLocalStorage } = require('node:async_hooks');
       require('node:worker_threads').parentPort.postMessage(String(new AsyncLocalStorage().getStore()));`,
      { eval: true },
    );
    const [message] = (await once(worker, 'message')) as [string];
    expect(message).toBe('undefined');
    await worker.terminate();
  });
});

test('a thousand interleavings mix nothing up', async () => {
  await Promise.all(
    Array.from({ length: 1_000 }, async (_, i) => {
      const { slug, tenantId } = tenants[i % tenants.length] ?? { slug: '', tenantId: '' };
      await tenantry.runWithTenant(slug, async () => {
        for (let step = 0; step < 5; step++) {
          await (Math.random() < 0.5 ? immediate() : pause(Math.random() * 2));
          expect(here()).toBe(tenantId);
        }
      });
    }),
  );
});
