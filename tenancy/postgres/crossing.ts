/**
 * From one tenant at work to another's rows: none may be seen, and the catalogue must know of no way past the policies.
 * Nothing is written.
 */
import { escapeLiteral, type Pool } from 'pg';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { type Manifest, tablesInOrder } from '../../domain/manifest.js';
import { answersTo } from './answers.js';
import { type SwitchTo, switchTo } from './context-sql.js';
import { qualified } from './product-schema.js';
import { rowSecurityFlaws } from './row-security.js';

/** @throws TenantryError ISOLATION_BREACH when a row of the other was seen */
export async function crossPostgres(
  runtime: Pool,
  manifest: Manifest,
  as: TenantId,
  target: TenantId,
  become: SwitchTo = switchTo,
): Promise<void> {
  const tables = tablesInOrder(manifest).map(([name]) => name);
  const statements = [
    'BEGIN READ ONLY',
    ...become(as),
    // Its own gate first: a context that sees nothing at all would prove nothing.
    `SELECT 'own gate' AS probe, '' AS target, count(*)::int AS seen FROM tenantry.gate`,
    ...tables.map(
      (table) =>
        `SELECT 'read' AS probe, '${table}' AS target, 1 AS seen
          WHERE EXISTS (SELECT FROM ${qualified(manifest, table)} WHERE tenant_id = ${escapeLiteral(target)})`,
    ),
    rowSecurityFlaws(manifest),
    'ROLLBACK',
  ];
  const client = await runtime.connect();
  let failure: Error | undefined;
  try {
    const [gate, ...through] = await answersTo(client, statements);
    if (gate?.seen !== 1)
      throw new TenantryError('VERIFICATION_FAILED', {
        store: 'PostgreSQL',
        detail: 'a tenant does not see its own gate',
      });
    const [first] = through;
    if (first !== undefined)
      throw new TenantryError('ISOLATION_BREACH', {
        store: 'PostgreSQL',
        probe: `${first.probe} ${first.target}`.trim(),
      });
  } catch (error) {
    // It may stand in a transaction of the tenant's.
    if (!(error instanceof TenantryError)) failure = error instanceof Error ? error : new Error('failed');
    throw error;
  } finally {
    client.release(failure);
  }
}
