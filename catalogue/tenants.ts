/** Tenants and what exists for them. Listing is by keyset, so that a page costs the same however far in it is. */
import type { Pool } from 'pg';
import { TenantryError } from '../domain/errors.js';
import type { CellName, OperationId, TenantId } from '../domain/ids.js';
import type { Allocation } from '../domain/operation.js';
import type { TenantState } from '../domain/tenant-state.js';
import { whileUndoingAll } from './undo-lock.js';

export interface TenantRecord {
  readonly id: TenantId;
  readonly slug: string;
  readonly name: string;
  readonly plan: string;
  readonly cell: CellName;
  readonly state: TenantState;
  readonly generation: number;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

export interface TenantFilter {
  readonly state?: TenantState | undefined;
  readonly plan?: string | undefined;
  readonly cell?: string | undefined;
  readonly slug?: string | undefined;
}

export interface LedgerEntry extends Allocation {
  readonly updatedAt: Date;
}

/** A tenant's sealed password in a store, with the id that its seal is bound to. */
export interface StoredCredential {
  readonly tenantId: TenantId;
  readonly version: number;
  readonly sealed: Buffer;
}

// Microseconds as text: a Date would cut them off and a page would begin with the last row of the one before.
const COLUMNS = `id, slug, name, plan, cell, state, generation::int, created_at AS "createdAt",
  updated_at AS "updatedAt", to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.USZ') AS position`;
/**
 * Of `tenant t`: its ACL user is there, or is being made (and may have been, just before Redis forgot it), and nobody has
 * begun to undo it.
 */
const HAS_REDIS_USER = `EXISTS (SELECT FROM allocation a
    WHERE a.tenant_id = t.id AND a.store = 'redis' AND a.kind = 'acl-user'
      AND (a.state IN ('created', 'verified') OR (a.state = 'intended' AND t.state = 'provisioning')))
  AND NOT EXISTS (SELECT FROM operation o WHERE o.tenant_id = t.id AND o.status = 'running' AND o.undoing)
  AND NOT EXISTS (SELECT FROM batch_item i
    WHERE i.tenant_id = t.id AND i.status IN ('failed', 'cancelled') AND t.state = 'provisioning')`;
/**
 * Ids of tenants whose namespace of Redis is being made now. Before that an admission may still be withdrawn, and nobody would
 * know of what was made for it.
 */
const AT_ITS_REDIS_STEP = `SELECT coalesce(o.tenant_id, i.tenant_id)
   FROM operation o JOIN operation_step s ON s.operation_id = o.id LEFT JOIN batch_item i ON i.operation_id = o.id
  WHERE o.status = 'running' AND s.status = 'running' AND split_part(s.name, ' ', 1) = 'redis'`;
const POSITION = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export function tenantRepository(pool: Pool, undoing: Pool) {
  return {
    async find(id: TenantId): Promise<TenantRecord | undefined> {
      const { rows } = await pool.query<TenantRecord>(`SELECT ${COLUMNS} FROM tenant WHERE id = $1`, [id]);
      return rows[0];
    },

    /**
     * A page in the order of creation.
     * @throws TenantryError VALIDATION_FAILED when the cursor is not one that a page gave out.
     */
    async list(
      filter: TenantFilter,
      limit: number,
      cursor?: string,
    ): Promise<{ items: TenantRecord[]; next: string | null }> {
      const [after, afterId] = cursor === undefined ? [null, null] : decodeCursor(cursor);
      const { rows } = await pool.query<TenantRecord & { position: string }>(
        `SELECT ${COLUMNS} FROM tenant
          WHERE NOT system
            AND ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR plan = $2)
            AND ($3::text IS NULL OR cell = $3) AND ($4::text IS NULL OR slug = $4)
            AND ($5::timestamptz IS NULL OR (created_at, id) > ($5, $6::uuid))
          ORDER BY created_at, id LIMIT $7`,
        [filter.state, filter.plan, filter.cell, filter.slug, after, afterId, limit + 1],
      );
      const last = rows.length > limit ? rows[limit - 1] : undefined;
      return { items: rows.slice(0, limit), next: last === undefined ? null : encodeCursor(last) };
    },

    /** The ledger of one tenant. */
    async allocations(id: TenantId): Promise<LedgerEntry[]> {
      const { rows } = await pool.query<LedgerEntry>(
        `SELECT store, kind, name, state, spec_hash AS "specHash", generation::int, updated_at AS "updatedAt"
           FROM allocation WHERE tenant_id = $1 ORDER BY store, kind, name`,
        [id],
      );
      return rows;
    },

    /** Sealed Redis passwords of the tenants whose ACL user is to be made anew in a cell, a page at a time by id. */
    async redisUsers(cell: CellName, after: string, limit: number): Promise<StoredCredential[]> {
      const { rows } = await pool.query<StoredCredential>(
        `SELECT t.id AS "tenantId", c.version, c.sealed
           FROM tenant t
           JOIN LATERAL (SELECT version, sealed FROM credential
                          WHERE tenant_id = t.id AND store = 'redis' ORDER BY version DESC LIMIT 1) c ON true
          WHERE t.cell = $1 AND t.id > $2 AND ${HAS_REDIS_USER}
            AND (t.id IN (${AT_ITS_REDIS_STEP})
              OR NOT EXISTS (SELECT FROM allocation a WHERE a.tenant_id = t.id AND a.store = 'redis'
                              AND a.kind = 'acl-user' AND a.state = 'intended'))
          ORDER BY t.id LIMIT $3`,
        [cell, after, limit],
      );
      return rows;
    },

    /** Those of the tenants whose ACL user must still exist. */
    async haveRedisUsers(tenants: readonly TenantId[]): Promise<TenantId[]> {
      const { rows } = await pool.query<{ id: TenantId }>(
        `SELECT t.id FROM tenant t WHERE t.id = ANY ($1::uuid[]) AND ${HAS_REDIS_USER}`,
        [tenants],
      );
      return rows.map((row) => row.id);
    },

    /**
     * Runs `work`, which takes a namespace of Redis away, unless the tenant must have one. No retry, which would make it
     * anew, is admitted meanwhile.
     */
    async unlessDue(tenant: TenantId, work: () => Promise<void>): Promise<void> {
      const { rows } = await pool.query<{ id: OperationId }>(
        `SELECT id FROM operation WHERE tenant_id = $1
          UNION SELECT operation_id FROM batch_item WHERE tenant_id = $1`,
        [tenant],
      );
      await whileUndoingAll(
        undoing,
        rows.map(({ id }) => id),
        async (client) => {
          const { rowCount } = await client.query(
            `SELECT FROM tenant t WHERE t.id = $1 AND ${HAS_REDIS_USER}`,
            [tenant],
          );
          if (rowCount === 0) await work();
        },
      );
    },
  };
}

const encodeCursor = (row: { position: string; id: string }): string =>
  Buffer.from(`${row.position}|${row.id}`).toString('base64url');

/** A time that PostgreSQL knows: there is no year 0, no 30 February, no hour 24. */
function isTime(text: string): boolean {
  const time = new Date(text);
  return (
    !Number.isNaN(time.getTime()) &&
    !text.startsWith('0000') &&
    time.toISOString().slice(0, 19) === text.slice(0, 19)
  );
}

function decodeCursor(cursor: string): [after: string, id: string] {
  const [after = '', id = ''] = Buffer.from(cursor, 'base64url').toString('utf8').split('|');
  if (!POSITION.test(after) || !isTime(after) || !UUID.test(id))
    throw new TenantryError(
      'VALIDATION_FAILED',
      { detail: 'the cursor is not one of ours' },
      { field: 'cursor' },
    );
  return [after, id];
}
