/** Canaries in the ledger: tenants of Tenantry's own, one for each cell, made without an operation. */
import type { Pool } from 'pg';
import type { CellName, TenantId } from '../domain/ids.js';
import { allocationColumns, type Blueprint } from './admission.js';
import type { SealedCredential } from './credentials.js';
import { transaction } from './pool.js';

export function canaryRepository(pool: Pool) {
  return {
    /**
     * Writes down what is going to be made, or finds what was. Two workers at once get the same passwords: those of
     * the first that wrote.
     */
    async intend(cell: CellName, id: TenantId, blueprint: Blueprint): Promise<SealedCredential[]> {
      return transaction(pool, async (client) => {
        await client.query(
          // A double hyphen at the end of a word is no slug that a customer could ask for. Not ON CONFLICT (id) alone: of two
          // workers at once one may come upon the slug first.
          `INSERT INTO tenant (id, slug, name, plan, cell, state, generation, system)
           VALUES ($1, 'canary--' || $2 || '--', 'Canary', 'none', $2, 'provisioning', 1, true) ON CONFLICT DO NOTHING`,
          [id, cell],
        );
        await client.query(
          `INSERT INTO allocation (tenant_id, store, kind, name, state, spec_hash, generation)
           SELECT $1, store, kind, name, 'intended', spec_hash, 1
             FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS a(store, kind, name, spec_hash)
           ON CONFLICT DO NOTHING`,
          [id, ...allocationColumns(blueprint.allocations(id))],
        );
        const fresh = blueprint.credentials(id);
        await client.query(
          `INSERT INTO credential (tenant_id, store, version, sealed)
           SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bytea[]) ON CONFLICT DO NOTHING`,
          [id, fresh.map((c) => c.store), fresh.map((c) => c.version), fresh.map((c) => c.sealed)],
        );
        const { rows } = await client.query<SealedCredential>(
          `SELECT DISTINCT ON (store) store, version, sealed FROM credential WHERE tenant_id = $1
            ORDER BY store, version DESC`,
          [id],
        );
        return rows;
      });
    },

    /** What else is intended is for a worker with another manifest to make. */
    async made(id: TenantId, blueprint: Blueprint): Promise<void> {
      const [stores, kinds, names] = allocationColumns(blueprint.allocations(id));
      await pool.query(
        `WITH ledger AS (UPDATE allocation a SET state = 'created', updated_at = clock_timestamp()
                           FROM unnest($2::text[], $3::text[], $4::text[]) AS made(store, kind, name)
                          WHERE a.tenant_id = $1 AND a.state = 'intended'
                            AND (a.store, a.kind, a.name) = (made.store, made.kind, made.name))
         UPDATE tenant SET state = 'active', updated_at = clock_timestamp() WHERE id = $1 AND state = 'provisioning'`,
        [id, stores, kinds, names],
      );
    },
  };
}
