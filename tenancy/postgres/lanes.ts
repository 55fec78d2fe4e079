/**
 * A few connections that many callers' single statements share, several under way on each. A statement waits for those
 * before it on its connection, so a slow one or a large result holds up those behind it: new ones avoid such a
 * connection, and what is known to be slow belongs on a connection of its own (`dedicated`).
 */
import type { QueryResult } from 'pg';
import { TenantryError } from '../../domain/errors.js';
import type { Connection } from './connection.js';
import { GRACE_MS } from './transaction.js';

export interface LaneOptions {
  readonly connections: number;
  readonly maxInFlight: number;
  readonly maxQueued: number;
  readonly acquireTimeoutMs: number;
  /** A server that has not answered by then, plus a grace, counts as gone. */
  readonly statementTimeoutMs: number;
}

export type Send = (connection: Connection) => Promise<QueryResult>;

interface Waiting {
  readonly send: Send;
  readonly resolve: (result: Promise<QueryResult>) => void;
  readonly reject: (error: Error) => void;
  readonly since: number;
}

/**
 * Statements on a connection before the next one is used; a further one is opened when all have as many. Fewer connections
 * make larger batches, which is what pipelining gains.
 */
const DEPTH = 32;
/** A connection whose oldest statement takes longer is avoided, in ms. */
const SLOW_MS = 25;
/**
 * Nothing more is sent behind a statement that takes longer, in ms. It would wait for the end of all before it, which has no
 * bound; waiting for another connection has one.
 */
const STANDING_MS = 1_000;

export class Lanes {
  readonly #open: () => Promise<Connection>;
  readonly #options: LaneOptions;
  #lanes: Connection[] = [];
  readonly #opening = new Set<Promise<void>>();
  #waiting: Waiting[] = [];
  #watch: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(open: () => Promise<Connection>, options: LaneOptions) {
    this.#open = open;
    this.#options = options;
  }

  /** @throws TenantryError CLIENTS_EXHAUSTED, STORE_UNAVAILABLE, or what `send` throws */
  run(send: Send): Promise<QueryResult> {
    if (this.#closed) return Promise.reject(closedError());
    const lane = this.#waiting.length === 0 ? this.#pick() : undefined;
    if (lane !== undefined) return this.#on(lane, send);
    if (this.#waiting.length >= this.#options.maxQueued)
      return Promise.reject(new TenantryError('CLIENTS_EXHAUSTED', { store: 'PostgreSQL' }));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ send, resolve, reject, since: performance.now() });
      this.#keepWatch();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const { reject } of this.#waiting.splice(0)) reject(closedError());
    // Watched to the end: what is under way on a server that hangs would be waited for for ever.
    await Promise.all([...this.#lanes.map((lane) => lane.end()), ...this.#opening]);
    clearInterval(this.#watch);
  }

  #on(lane: Connection, send: Send): Promise<QueryResult> {
    this.#keepWatch();
    try {
      return send(lane);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The first that is not busy, or else the least busy with room; opens another one when all are busy. */
  #pick(): Connection | undefined {
    const { connections, maxInFlight } = this.#options;
    const now = performance.now();
    let best: Connection | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const lane of this.#lanes) {
      const age = lane.headAge(now);
      if (!lane.usable || age > STANDING_MS) continue;
      const load = lane.inFlight + (age > SLOW_MS ? maxInFlight : 0);
      if (lane.inFlight < maxInFlight && load < least) {
        least = load;
        best = lane;
        if (load < DEPTH) return best;
      }
    }
    // One at a time: what a burst of statements needs is known when the next one is there.
    if (this.#opening.size === 0) {
      this.#lanes = this.#lanes.filter((lane) => lane.usable);
      if (this.#lanes.length < connections) this.#add();
    }
    return best;
  }

  #add(): void {
    const opening = this.#open().then(
      (lane) => {
        this.#opening.delete(opening);
        if (this.#closed) return lane.end();
        this.#lanes.push(lane);
        lane.onRoom = () => {
          if (this.#waiting.length > 0) this.#serve();
        };
        return this.#serve();
      },
      (error: Error) => {
        this.#opening.delete(opening);
        // Those who wait have no other connection to wait for.
        if (this.#lanes.every((lane) => !lane.usable) && this.#opening.size === 0)
          for (const { reject } of this.#waiting.splice(0)) reject(error);
      },
    );
    this.#opening.add(opening);
  }

  #serve(): void {
    while (this.#waiting.length > 0) {
      const lane = this.#pick();
      if (lane === undefined) return;
      const next = this.#waiting.shift();
      next?.resolve(this.#on(lane, next.send));
    }
  }

  /** While anything is under way: whether servers still answer and those who wait have waited too long. */
  #keepWatch(): void {
    if (this.#watch !== undefined) return;
    const look = (): void => {
      const now = performance.now();
      const { acquireTimeoutMs, statementTimeoutMs } = this.#options;
      for (const lane of this.#lanes)
        if (statementTimeoutMs > 0 && lane.headAge(now) > statementTimeoutMs + GRACE_MS) lane.destroy();
      const code = this.#lanes.some((lane) => lane.usable) ? 'CLIENTS_EXHAUSTED' : 'STORE_UNAVAILABLE';
      while (this.#waiting[0] !== undefined && now - this.#waiting[0].since > acquireTimeoutMs)
        this.#waiting.shift()?.reject(new TenantryError(code, { store: 'PostgreSQL' }));
      if (this.#waiting.length > 0) this.#serve();
      else if (this.#lanes.every((lane) => lane.inFlight === 0)) {
        clearInterval(this.#watch);
        this.#watch = undefined;
      }
    };
    // Behind what has arrived: a process that stood still finds its timers due before it has read the answers.
    this.#watch = setInterval(() => setImmediate(look), 250);
    this.#watch.unref();
  }
}

const closedError = (): Error => new Error('This scoped PostgreSQL has been closed.');
