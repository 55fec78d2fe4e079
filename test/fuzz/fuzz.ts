/**
 * The isolation fuzzer: actors enter random tenants and do what products do, and what nobody may, in the three stores at
 * once, while connections die and tenants are suspended. A run ends when its time or its operations are used up, or with
 * the first finding.
 */
import { currentTenant } from '../../tenancy/index.js';
import { type FaultTable, playFaults } from './faults.js';
import { playMongo } from './mongo.js';
import { playPostgres } from './postgres.js';
import { randomFrom } from './random.js';
import { playRedis } from './redis.js';
import { type Finding, type FuzzStore, Referee, type Rule, type Subject, type Tally } from './referee.js';
import { Scene } from './scene.js';
import { setStage, type Stage, type StageOptions } from './stage.js';

export interface FuzzOptions extends StageOptions {
  /** Stops after so many. */
  readonly operations?: number;
  /** Milliseconds from when the tenants have been made. */
  readonly durationMs?: number;
  readonly actors?: number;
  /** Called once, with the stage set: to plant a flaw. */
  readonly prepare?: (stage: Stage) => Promise<void>;
  readonly onProgress?: (tally: Readonly<Tally>, seconds: number) => void;
}

export interface FuzzResult extends Tally {
  readonly seed: number;
  readonly tenants: number;
  readonly mongoTenants: number;
  readonly seconds: number;
  readonly perSecond: number;
  readonly faults: Readonly<Record<string, number>>;
  readonly findings: readonly Finding[];
  /** The last operations before the end, the oldest first. */
  readonly tail: readonly string[];
}

/** Half of the jobs are these tenants', so that what a fault strikes is in use. */
const HOT = 24;
const PROGRESS_MS = 10_000;

export async function fuzz(options: FuzzOptions): Promise<FuzzResult> {
  const { seed, actors = 40, operations = Number.POSITIVE_INFINITY, durationMs = 0 } = options;
  const stage = await setStage(options);
  try {
    await options.prepare?.(stage);
    let found = false;
    const referee = new Referee(stage.subjects, () => {
      found = true;
    });
    const begun = performance.now();
    const seconds = (): number => (performance.now() - begun) / 1_000;
    const isOver = (): boolean =>
      found ||
      referee.tally.operations >= operations ||
      (durationMs > 0 && performance.now() - begun > durationMs);
    const progress = setInterval(() => options.onProgress?.(referee.tally, seconds()), PROGRESS_MS);
    const table: FaultTable = {
      stage,
      referee,
      random: randomFrom(seed, -1),
      hot: stage.subjects.slice(0, HOT),
      isOver,
      counts: {},
    };
    const faults = playFaults(table);
    // The fuzzer's own failure ends the run; it is thrown when the actors are done.
    faults.catch(() => {
      found = true;
    });
    await Promise.all(Array.from({ length: actors }, (_, actor) => act({ ...table, seed, actor })));
    const took = seconds();
    referee.wakeAll();
    // One that is waiting already may begin to wait again.
    const waker = setInterval(() => referee.wakeAll(), 10);
    await faults.finally(() => clearInterval(waker));
    clearInterval(progress);
    while (referee.pending > 0) await new Promise((resolve) => setImmediate(resolve));
    return {
      seed,
      tenants: options.tenants,
      mongoTenants: options.mongoTenants,
      seconds: Math.round(took * 10) / 10,
      perSecond: Math.round(referee.tally.operations / took),
      ...referee.tally,
      faults: table.counts,
      findings: referee.findings,
      tail: [...referee.tail()],
    };
  } finally {
    await stage.close();
  }
}

type ActorOptions = FaultTable & { readonly seed: number; readonly actor: number };

async function act({ stage, referee, hot, isOver, seed, actor }: ActorOptions): Promise<void> {
  for (let job = 0; !isOver(); job++) {
    const random = randomFrom(seed, actor, job);
    const subject = random.pick(random.chance(0.5) ? hot : stage.subjects);
    const turns = Array.from({ length: 1 + random.below(4) }, () => random.weighted(TURNS));
    const pick = (list: readonly Subject[]): Subject => {
      const other = random.pick(list);
      return other === subject ? (list[(list.indexOf(other) + 1) % list.length] as Subject) : other;
    };
    const others: Readonly<Record<FuzzStore, Subject>> = {
      // Of the same database. The other stores are the same for all.
      postgres: pick(stage.subjects.filter(({ cell }) => cell === subject.cell)),
      mongo: pick(hot),
      redis: pick(stage.subjects),
      context: pick(stage.subjects),
    };
    try {
      await stage.tenantry.runWithTenant(subject.tenantId, async (tenant) => {
        for (const { store, play } of turns) {
          if (isOver()) return;
          if (store === 'mongo' && !subject.hasMongo) continue;
          await play(new Scene(stage, referee, random, subject, others[store], tenant));
        }
      });
    } catch (error) {
      referee.entryFailed(subject, error);
    }
  }
}

const TURNS: readonly { weight: number; store: FuzzStore; play(scene: Scene): Promise<void> }[] = [
  { weight: 50, store: 'postgres', play: playPostgres },
  { weight: 45, store: 'redis', play: playRedis },
  { weight: 16, store: 'mongo', play: playMongo },
  { weight: 3, store: 'context', play: playContext },
];

/** Ways of becoming somebody else, or of losing who one is. */
async function playContext(scene: Scene): Promise<void> {
  const { stage, other, random } = scene;
  const nested: Rule = {
    store: 'context',
    kind: 'another tenant entered within',
    must: 'be refused',
    // A tenant that is suspended is refused for that first.
    codes: ['NESTED_TENANT_CONTEXT', 'TENANT_SUSPENDED'],
  };
  const sleep = (): Promise<void> =>
    new Promise((resolve) => (random.chance(0.5) ? setImmediate(resolve) : process.nextTick(resolve)));
  await scene.attempt(nested, () =>
    stage.tenantry.runWithTenant(other.tenantId, () => ({ values: undefined, count: 1 })),
  );
  await scene.attempt(
    { store: 'context', kind: 'handed on by a snapshot', codes: ['TENANT_SUSPENDED'] },
    () =>
      stage.tenantry.restore(stage.tenantry.snapshot(), async (restored) => {
        await sleep();
        return {
          values: { tenant_id: currentTenant().tenantId, again: `of:${restored.tenantId}` },
          count: 0,
        };
      }),
  );
  await scene.attempt({ ...nested, kind: "another's stores in one's own context" }, async () => {
    const theirs = await stage.tenantry.asPlatform('the fuzzer borrows a handle', () =>
      stage.tenantry.runWithTenant(other.tenantId, (entered) => entered),
    );
    const { rows } = await theirs.pg.query('SELECT tenant_id FROM app.customers LIMIT 1');
    return { values: rows, count: rows.length };
  });
}
