/**
 * Past the data plane, as whoever has the password of the product's role and nothing else. In plain cells there is one
 * thing that such a one must not do: go in as nobody, or as whoever was in before. In hardened ones, go in at all
 * without a token that the product has signed.
 */
import { escapeLiteral, type QueryResult } from 'pg';
import { isPostgresOutage } from '../../catalogue/pool.js';
import { TenantryError } from '../../domain/errors.js';
import type { Cell } from './ground.js';
import { BAD_TOKENS, enterWith, tokenOf } from './hardened.js';
import type { Rule, Seen } from './referee.js';
import type { Scene } from './scene.js';

/** Statements of one transaction; what is seen is what the last of them sees. */
interface Unguarded extends Omit<Rule, 'store'> {
  readonly weight: number;
  statements(scene: Scene): readonly string[];
}

export async function playUnguarded(scene: Scene): Promise<void> {
  const { random, subject } = scene;
  const from = subject.cell.way === 'hardened' ? IN_HARDENED : IN_ANY;
  const asked = Array.from({ length: 1 + random.below(4) }, () => {
    const { weight: _weight, statements, ...rule } = random.weighted(from);
    return { rule, texts: statements(scene) };
  });
  await Promise.all(
    asked.map(({ rule, texts }) =>
      scene.attempt({ ...rule, store: 'postgres', kind: `past the data plane: ${rule.kind}` }, () =>
        ask(subject.cell, texts),
      ),
    ),
  );
}

/** In one message, which the server runs as one transaction. */
async function ask({ product }: Cell, statements: readonly string[]): Promise<Seen> {
  try {
    const results = (await product.query(statements.join('; '))) as QueryResult | QueryResult[];
    const { rows, rowCount } = [results].flat().at(-1) ?? { rows: [], rowCount: 0 };
    return { values: rows, count: rowCount ?? 0 };
  } catch (error) {
    // As the data plane says it of a connection that was killed.
    if (!isPostgresOutage(error)) throw error;
    throw new TenantryError('STORE_UNAVAILABLE', { store: 'PostgreSQL' }, { cause: error });
  }
}

const CUSTOMERS = 'SELECT tenant_id, name FROM app.customers';
const named = (tenantId: string): string => `SET LOCAL app.tenant_id = '${tenantId}'`;
/** No such setting, or an empty one; in hardened cells that may be the token. */
const NOBODY = ['42704', '22P02', 'TN002'];

const IN_ANY: readonly Unguarded[] = [
  {
    kind: 'without a tenant',
    weight: 2,
    must: 'be refused',
    codes: NOBODY,
    statements: () => [CUSTOMERS],
  },
];

const IN_HARDENED: readonly Unguarded[] = [
  ...IN_ANY,
  {
    // Else it would show nothing that all others are refused.
    kind: 'own token',
    weight: 2,
    must: 'see its own',
    statements: (scene) => [`SELECT ${enterWith(tokenOf(scene, scene.subject))}`, CUSTOMERS],
  },
  {
    kind: "another's name",
    weight: 4,
    must: 'be refused',
    codes: NOBODY,
    statements: ({ random, other: { tenantId } }) => [
      random.pick([named(tenantId), `SELECT tenantry.enter('${tenantId}', NULL, NULL)`]),
      CUSTOMERS,
    ],
  },
  {
    kind: "another's name beside an own token",
    weight: 3,
    must: 'see nothing',
    statements: (scene) => [
      `SELECT ${enterWith(tokenOf(scene, scene.subject))}`,
      named(scene.other.tenantId),
      scene.random.pick([
        CUSTOMERS,
        `UPDATE app.customers SET name = ${escapeLiteral(scene.value())}`,
        'DELETE FROM app.messages',
      ]),
    ],
  },
  {
    kind: "row in another's name beside an own token",
    weight: 1,
    must: 'be refused',
    codes: ['42501'],
    statements: (scene) => [
      `SELECT ${enterWith(tokenOf(scene, scene.subject))}`,
      named(scene.other.tenantId),
      `INSERT INTO app.customers (tenant_id, id, email, name, created_at) VALUES
         ('${scene.other.tenantId}', gen_random_uuid(), 'new', ${escapeLiteral(scene.value())}, now())`,
    ],
  },
  {
    kind: "another's token beside an own name",
    weight: 1,
    must: 'see nothing',
    statements: (scene) => [
      `SELECT ${enterWith(tokenOf(scene, scene.subject))}`,
      `SET LOCAL app.tenant_token = ${escapeLiteral(tokenOf(scene, scene.other))}`,
      CUSTOMERS,
    ],
  },
  ...BAD_TOKENS.map(
    ({ kind, code, token }): Unguarded => ({
      kind,
      weight: 1.5,
      must: 'be refused',
      codes: [code],
      statements(scene) {
        const whose = scene.random.chance(0.8) ? scene.other : scene.subject;
        return [`SELECT ${enterWith(token(scene, whose))}`, CUSTOMERS];
      },
    }),
  ),
];
