/**
 * The probe of a tenant in PostgreSQL, as the product's own role: it fills every table and reads it back, then, as
 * another tenant, must see none of it and must be refused by row-level security when it writes into it, and without
 * any tenant must not even be answered. All in one transaction that is rolled back, so a probe leaves no row behind, even
 * when the process dies in the middle; and in one round trip, but for the tokens of hardened mode.
 */
import { escapeLiteral, type Pool } from 'pg';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { type ColumnType, type Manifest, type TableSpec, tablesInOrder } from '../../domain/manifest.js';
import { type Answer, answersTo } from './answers.js';
import { setTenant, SQLSTATE, type SwitchTo, switchTo, TOKEN_SETTING } from './context-sql.js';
import { qualified } from './product-schema.js';
import { rowSecurityFlaws } from './row-security.js';

export interface PostgresEvidence {
  readonly wroteAndRead: readonly string[];
  /** Undefined when there was no other tenant to try as. */
  readonly otherTenantSaw: 0 | undefined;
  readonly otherTenantWrite: `SQLSTATE ${string}` | undefined;
  readonly noTenantRead: `SQLSTATE ${string}` | undefined;
}

/** insufficient_privilege: what PostgreSQL says of a row that fails a policy's WITH CHECK. */
const RLS_REFUSAL = '42501';
/** invalid_text_representation: no tenant id is there to be read. Hardened: one is, and no token. */
const NO_TENANT = '22P02';
const noTenant = ({ postgres }: Manifest): string => (postgres.hardened ? SQLSTATE.badToken : NO_TENANT);
/** Of the transaction: what a block, which returns nothing, has found. */
const FOUND_SETTING = 'tenantry.probe';

/**
 * @param other the tenant to try as; undefined only for the first tenant of a cell.
 * @param become hardened: with tokens that the cell takes
 * @throws TenantryError ISOLATION_BREACH or VERIFICATION_FAILED
 */
export async function probePostgres(
  runtime: Pool,
  manifest: Manifest,
  tenant: TenantId,
  other: TenantId | undefined,
  become: SwitchTo = switchTo,
): Promise<PostgresEvidence> {
  const tables = tablesInOrder(manifest);
  const client = await runtime.connect();
  const ignore = (): void => undefined;
  client.on('error', ignore);
  let broken = false;
  try {
    const statements = [
      'BEGIN',
      ...become(tenant),
      ...ownStatements(manifest, tables, tenant),
      ...(other === undefined ? [] : [...become(other), ...foreignStatements(manifest, tables, tenant)]),
      'ROLLBACK',
    ];
    judge(tables, await answersTo(client, statements));
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {
      broken = true;
    });
    throw error;
  } finally {
    client.off('error', ignore);
    client.release(broken);
  }
  const tried = other !== undefined;
  return {
    wroteAndRead: tables.map(([name]) => name),
    otherTenantSaw: tried ? 0 : undefined,
    otherTenantWrite: tried ? `SQLSTATE ${RLS_REFUSAL}` : undefined,
    noTenantRead: tried ? `SQLSTATE ${noTenant(manifest)}` : undefined,
  };
}

type Tables = readonly (readonly [string, TableSpec])[];

function judge(tables: Tables, answers: readonly Answer[]): void {
  const missing = tables.find(
    ([name]) => answers.find(({ probe, target }) => probe === 'own' && target === name)?.seen !== 1,
  );
  if (missing !== undefined)
    throw new TenantryError('VERIFICATION_FAILED', {
      store: 'PostgreSQL',
      detail: `no row of its own in ${missing[0]}`,
    });
  const through = answers.find(({ probe, seen }) => probe !== 'own' && seen > 0);
  if (through !== undefined)
    throw new TenantryError('ISOLATION_BREACH', {
      store: 'PostgreSQL',
      probe: `${through.probe} ${through.target}`.trim(),
    });
}

/** As the tenant: a row in each table, and a count of it in each. */
const ownStatements = (manifest: Manifest, tables: Tables, tenant: TenantId): string[] => [
  ...tables.map(([name, table]) => insertRow(manifest, name, table, tenant)),
  ...tables.map(([name]) => count('own', manifest, name, tenant)),
];

/**
 * As the other. No UPDATE or DELETE: one that names rows sees those that a SELECT sees, and one that names none would
 * touch every tenant's where it gets through. The catalogue is asked in their place.
 */
const foreignStatements = (manifest: Manifest, tables: Tables, tenant: TenantId): string[] => [
  ...tables.map(([name]) => count('read', manifest, name, tenant)),
  refusals(manifest, tables, tenant),
  `SELECT probe[1] AS probe, probe[2] AS target, 1 AS seen
     FROM regexp_matches(current_setting('${FOUND_SETTING}'), '(\\w+) ([^;]+);', 'g') AS probe`,
  rowSecurityFlaws(manifest),
];

/** In one block, each in a subtransaction: what must fail, in every table. Writes down what did not. */
function refusals(manifest: Manifest, tables: Tables, tenant: TenantId): string {
  const attempt = (statement: string, refusal: string, found: string): string =>
    `BEGIN ${statement}; found := found || '${found};'; EXCEPTION ${refusal} END;`;
  const writes = tables.map(([name, table]) =>
    attempt(
      // Another key than the row of its own, so that nothing but the policy can refuse it.
      insertRow(manifest, name, table, tenant, 2),
      // The references are looked at when a row has passed the policy.
      `WHEN insufficient_privilege THEN NULL; WHEN foreign_key_violation THEN found := found || 'write ${name};';`,
      `write ${name}`,
    ),
  );
  const reads = tables.map(([name]) =>
    attempt(
      `PERFORM count(*) FROM ${qualified(manifest, name)}`,
      `WHEN SQLSTATE '${noTenant(manifest)}' THEN NULL;`,
      `read ${name} as nobody`,
    ),
  );
  return `DO $probe$ DECLARE found text := ''; BEGIN
    ${writes.join('\n')}
    ${asNobody(manifest, tenant)};
    ${reads.join('\n')}
    EXECUTE format('SET LOCAL ${FOUND_SETTING} = %L', found);
  END $probe$`;
}

/** Hardened, the tenant's name by itself is nobody's. */
const asNobody = ({ postgres }: Manifest, tenant: TenantId): string =>
  postgres.hardened ? `${setTenant(tenant)}; SET LOCAL ${TOKEN_SETTING} = ''` : setTenant('');

const count = (probe: 'own' | 'read', manifest: Manifest, table: string, tenant: TenantId): string =>
  `SELECT '${probe}' AS probe, '${table}' AS target, count(*)::int AS seen
     FROM ${qualified(manifest, table)} WHERE tenant_id = ${escapeLiteral(tenant)}`;

/** A row whose values come from the column types; a reference meets the row that was put into its parent. */
function insertRow(
  manifest: Manifest,
  name: string,
  table: TableSpec,
  tenant: TenantId,
  variant: 1 | 2 = 1,
): string {
  const columns = Object.entries(table.columns);
  const values = columns.map(([, { type }]) => PROBE_VALUES[type](variant));
  return `INSERT INTO ${qualified(manifest, name)} (tenant_id, ${columns.map(([column]) => `"${column}"`).join(', ')})
    VALUES (${escapeLiteral(tenant)}, ${values.join(', ')})`;
}

const PROBE_VALUES: Record<ColumnType, (variant: 1 | 2) => string> = {
  uuid: (variant) => `'00000000-0000-4000-8000-00000000000${variant}'`,
  text: (variant) => `'probe-${variant}'`,
  integer: (variant) => String(variant),
  bigint: (variant) => String(variant),
  boolean: () => 'false',
  numeric: (variant) => String(variant),
  date: (variant) => `date '2000-01-0${variant}'`,
  timestamptz: (variant) => `timestamptz '2000-01-0${variant} 00:00:00Z'`,
  jsonb: (variant) => `'{"probe": ${variant}}'`,
  bytea: (variant) => `'\\x0${variant}'`,
};
