/** What actors do in PostgreSQL: single statements in one write, transactions that end in every way, cancellations. */
import type { QueryResult } from 'pg';
import type { Attempt, Rule, Seen } from './referee.js';
import type { Way } from './ground.js';
import { HARDENED_STATEMENTS } from './hardened.js';
import { type PostgresStatement, type Sql, STATEMENTS } from './postgres-statements.js';
import { ABORTED, type Scene } from './scene.js';
import { ANCHOR } from './stage.js';
import { playUnguarded } from './unguarded.js';

type Query = (sql: Sql) => Promise<QueryResult>;

export async function playPostgres(scene: Scene): Promise<void> {
  const { random } = scene;
  const singles = Array.from({ length: 8 + random.below(32) }, () => plan(scene, 'alone'));
  const others = Array.from({ length: random.chance(0.25) ? 1 : 0 }, () => random.weighted(EXTRAS).play);
  // Not one after the other: they share connections with those of other tenants.
  await Promise.all([
    ...singles.map(({ rule, sql }) =>
      ask(scene, rule, sql, ({ text, values }) => scene.tenant.pg.query(text, values)),
    ),
    ...others.map((play) => play(scene)),
  ]);
}

const EXTRAS: readonly { readonly weight: number; play(scene: Scene): Promise<unknown> }[] = [
  { weight: 20, play: playTransaction },
  { weight: 4, play: playPoolClient },
  { weight: 4, play: playCancellation },
  { weight: 3, play: playTimeout },
  { weight: 8, play: playUnguarded },
];

const choicesFrom = (statements: readonly PostgresStatement[]) => ({
  alone: statements,
  'in a transaction': statements.filter(({ inTransaction }) => inTransaction === true),
});
const PLAIN = choicesFrom(STATEMENTS);
const CHOICES: Readonly<Record<Way, typeof PLAIN>> = {
  plain: PLAIN,
  hardened: choicesFrom([...STATEMENTS, ...HARDENED_STATEMENTS]),
  pooled: PLAIN,
};

/** Chosen before anything is sent, so that the choice does not depend on what comes back. */
function plan(scene: Scene, where: keyof typeof PLAIN): { rule: Rule; sql: Sql } {
  const from = CHOICES[scene.subject.cell.way][where];
  const { sql, weight: _weight, inTransaction: _in, ...rule } = scene.random.weighted(from);
  return { rule: { ...rule, store: 'postgres' }, sql: sql(scene) };
}

function ask(scene: Scene, rule: Rule, sql: Sql, query: Query): Promise<Attempt> {
  return scene.attempt(rule, async () => seenIn(await query(sql)));
}

const seenIn = ({ rows, rowCount }: QueryResult): Seen => ({ values: rows, count: rowCount ?? 0 });
const NOTHING: Seen = { values: undefined, count: 0 };

/** A conflict with another transaction, and what follows an error in one. */
const IN_TRANSACTION = ['40001', '40P01', '25P02'];
/** What its statements come to when the whole of it is cancelled. */
const CANCELLED = [ABORTED, '57014', 'STATEMENT_REFUSED'];

class ThrownByWork extends Error {
  override readonly name = 'ThrownByWork';
}

async function playTransaction(scene: Scene): Promise<void> {
  const { random, tenant } = scene;
  const ending = random.pick([
    'commit',
    'commit',
    'throw',
    'swallow',
    'savepoint',
    'cursor',
    'cancel',
  ] as const);
  const isolation = random.pick(['read committed', 'repeatable read', 'serializable'] as const);
  const steps = Array.from({ length: 1 + random.below(5) }, () => plan(scene, 'in a transaction'));
  const trace = { id: random.uuid(), value: scene.value() };
  const within = isolation === 'read committed' ? {} : { uncut: true, since: scene.subject.suspensions };
  const step = (rule: Rule, sql: Sql, query: Query): Promise<Attempt> =>
    ask(
      scene,
      {
        ...rule,
        ...within,
        kind: `in a transaction: ${rule.kind}`,
        codes: [...(rule.codes ?? []), ...IN_TRANSACTION, ...(ending === 'cancel' ? CANCELLED : [])],
      },
      sql,
      query,
    );
  const rule: Rule = {
    store: 'postgres',
    kind: `transaction, ${ending}`,
    codes: [
      ...IN_TRANSACTION,
      ...CANCELLED,
      'ThrownByWork',
      'STORE_REFUSED/a statement had failed and the transaction was rolled back',
    ],
  };
  const signal = ending === 'cancel' ? scene.abortSoon() : undefined;
  await scene.attempt(rule, async () => {
    await tenant.pg.transaction(
      async (tx) => {
        const query: Query = ({ text, values }) => tx.query(text, values);
        if (ending === 'throw')
          await step({ store: 'postgres', kind: 'trace', write: true }, insertTrace(scene, trace), query);
        for (const { rule: of, sql } of steps) {
          if (ending === 'savepoint') await tx.query('SAVEPOINT before');
          const came = await step(of, sql, query);
          if ('seen' in came) continue;
          if (ending === 'savepoint') await tx.query('ROLLBACK TO SAVEPOINT before');
          else if (ending !== 'swallow') throw came.error;
        }
        if (ending === 'cursor') await readByCursor(step, query);
        if (ending === 'throw') throw new ThrownByWork();
      },
      { isolation, signal },
    );
    return NOTHING;
  });
  if (ending !== 'throw') return;
  await ask(
    scene,
    { store: 'postgres', kind: 'what was rolled back', must: 'see nothing' },
    { text: 'SELECT name FROM app.customers WHERE id = $1', values: [trace.id] },
    ({ text, values }) => tenant.pg.query(text, values),
  );
}

const insertTrace = ({ subject }: Scene, { id, value }: { id: string; value: string }): Sql => ({
  text: `INSERT INTO app.customers (tenant_id, id, email, name, created_at) VALUES ($1, $2, $3, $4, now())
         RETURNING tenant_id, name`,
  values: [subject.tenantId, id, `${id}@example.test`, value],
});

async function readByCursor(
  step: (rule: Rule, sql: Sql, query: Query) => Promise<Attempt>,
  query: Query,
): Promise<void> {
  const rule: Rule = { store: 'postgres', kind: 'cursor', uncut: true };
  for (const text of [
    'DECLARE cur CURSOR FOR SELECT tenant_id, name FROM app.customers',
    'FETCH 3 FROM cur',
    'FETCH ALL FROM cur',
  ]) {
    const came = await step(rule, { text }, query);
    if ('error' in came) throw came.error;
  }
}

/** As a tool does that thinks it has a pg.Pool; some forget to end what they began. */
async function playPoolClient(scene: Scene): Promise<void> {
  const { random, tenant } = scene;
  const end = random.pick(['COMMIT', 'ROLLBACK', undefined]);
  const steps = Array.from({ length: 1 + random.below(3) }, () => plan(scene, 'in a transaction'));
  const rule: Rule = { store: 'postgres', kind: 'client of the pool', codes: IN_TRANSACTION };
  await scene.attempt(rule, async () => {
    const client = await tenant.pg.pool.connect();
    try {
      await client.query('BEGIN');
      for (const { rule: of, sql } of steps) {
        const codes = [...(of.codes ?? []), ...IN_TRANSACTION];
        const came = await ask(scene, { ...of, codes }, sql, ({ text, values }) =>
          client.query(text, values === undefined ? undefined : [...values]),
        );
        if ('error' in came) throw came.error;
      }
      if (end !== undefined) await client.query(end);
    } finally {
      client.release();
    }
    return NOTHING;
  });
}

const SLOW: Sql = {
  text: 'SELECT tenant_id, name, pg_sleep(0.03) FROM app.customers WHERE id = $1',
  values: [ANCHOR.id],
};

function playCancellation(scene: Scene): Promise<Attempt> {
  const signal = scene.abortSoon();
  const rule: Rule = { store: 'postgres', kind: 'cancelled', codes: CANCELLED };
  return ask(scene, rule, SLOW, (sql) => scene.tenant.pg.query({ ...sql, signal }));
}

function playTimeout(scene: Scene): Promise<Attempt> {
  const rule: Rule = { store: 'postgres', kind: 'timed out', codes: ['57014'] };
  return ask(scene, rule, SLOW, (sql) => scene.tenant.pg.query({ ...sql, timeoutMs: 5, dedicated: true }));
}
