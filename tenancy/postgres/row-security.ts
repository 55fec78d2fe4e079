/**
 * What PostgreSQL's catalogue says of the row-level security of the product's tables. It finds what no statement may
 * try: a policy that lets all rows be changed shows itself only to an UPDATE of all of them, and security that is not
 * forced only to the owner.
 */
import { escapeLiteral, type Pool } from 'pg';
import type { Manifest } from '../../domain/manifest.js';
import type { Flaw } from '../flaw.js';

/**
 * A row (`probe`, `target`, `seen`) for each way past the policies, as the role that asks. Every policy of ours reads
 * the gate, so one that applies to the role and does not was widened or is not ours.
 */
export function rowSecurityFlaws(manifest: Manifest): string {
  const tables = ['', ...Object.keys(manifest.postgres.tables)].map((table) => escapeLiteral(table));
  // The gate's own policy says whose gate a context sees.
  const gatePolicy = manifest.postgres.hardened ? 'verified_tenant' : 'current_setting|verified_tenant';
  const policy = `CASE WHEN c.relname = 'gate' AND n.nspname = 'tenantry' THEN '${gatePolicy}' ELSE '\\mgate\\M' END`;
  return `SELECT flaw.probe, flaw.target, 1 AS seen
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
      LATERAL (
        SELECT 'the role of the product' AS probe, '' AS target
         WHERE pg_has_role(current_user, c.relowner, 'MEMBER') OR EXISTS (
           SELECT FROM pg_roles r
            WHERE (r.rolsuper OR r.rolbypassrls) AND pg_has_role(current_user, r.oid, 'MEMBER'))
        UNION ALL
        SELECT 'row-level security of', c.relname WHERE NOT (c.relrowsecurity AND c.relforcerowsecurity)
        UNION ALL
        SELECT 'a policy of', c.relname FROM pg_policy p
         WHERE p.polrelid = c.oid AND p.polpermissive
           AND EXISTS (SELECT FROM unnest(p.polroles) AS role
                        WHERE role = 0 OR pg_has_role(current_user, role, 'MEMBER'))
           AND (pg_get_expr(p.polqual, p.polrelid) !~ ${policy}
             OR pg_get_expr(p.polwithcheck, p.polrelid) !~ ${policy})
      ) AS flaw
     WHERE (n.nspname = ${escapeLiteral(manifest.postgres.schema)} AND c.relname IN (${tables.join(', ')}))
        OR (n.nspname = 'tenantry' AND c.relname = 'gate')`;
}

/** @param runtime as the product's role */
export async function inspectRowSecurity(runtime: Pool, manifest: Manifest): Promise<Flaw | undefined> {
  const { rows } = await runtime.query<{ probe?: string; target?: string }>(rowSecurityFlaws(manifest));
  const [flaw] = rows;
  return flaw && { detail: `${flaw.probe} ${flaw.target}`.trim(), breach: true };
}
