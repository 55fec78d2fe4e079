/** Settings that a session begins with. A tenant among them would be that of everybody who forgot to enter one. */
import { escapeIdentifier } from 'pg';
import { TENANT_SETTING, TOKEN_SETTING } from '../context-sql.js';
import { type Check, type Examination, type Finding, REACHING } from './finding.js';

export const TENANT_SETTINGS: readonly string[] = [TENANT_SETTING, TOKEN_SETTING];

/** Of a function `p`: those of the names that it sets while it runs. */
export const settingsAmong = (names: string): string => `ARRAY(SELECT lower(split_part(s, '=', 1))
  FROM unnest(p.proconfig) AS s WHERE lower(split_part(s, '=', 1)) = ANY (${names}) ORDER BY 1)`;

/** The last switches off triggers, and with them references. */
const FORBIDDEN = [...TENANT_SETTINGS, 'session_replication_role'];

export const checkSettings: Check = async (examination) => [
  ...(await ofRolesAndDatabases(examination)),
  ...(await ofTheServer(examination)),
];

/**
 * By default a transaction sees a gate that closes under it; at a higher level it goes on by its first snapshot. Tenantry's
 * own transactions state their level, so only those that a product begins itself are concerned: a warning.
 */
const ISOLATION = 'default_transaction_isolation';

async function ofRolesAndDatabases({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ name: string; role: string | null; database: string | null }>(
    `SELECT lower(split_part(setting, '=', 1)) AS name, quote_ident(r.rolname) AS role,
            quote_ident(d.datname) AS database
       FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS setting
       LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase
      WHERE s.setrole IN ${REACHING} AND (s.setdatabase = 0 OR d.datname = current_database())
        AND (lower(split_part(setting, '=', 1)) = ANY ($1)
          OR lower(split_part(setting, '=', 1)) = $2 AND setting !~* '=read (un)?committed$')
      ORDER BY 1, 2 NULLS FIRST, 3 NULLS FIRST`,
    [FORBIDDEN, ISOLATION],
  );
  return rows.map(({ name, role, database }) => {
    const whose = [role && `ROLE ${role}`, database && `${role ? 'IN ' : ''}DATABASE ${database}`];
    // For all roles and all databases.
    const target = whose.filter(Boolean).join(' ') || 'ROLE ALL';
    if (name === ISOLATION)
      return {
        kind: 'setting' as const,
        object: `${name} (${target})`,
        invariant: 'sessions-read-what-is-committed',
        severity: 'warning' as const,
        detail: `A transaction that does not say its level keeps its first snapshot, and with it a gate that is closed meanwhile.`,
        mend: `ALTER ${target} RESET ${name};`,
      };
    return {
      kind: 'setting' as const,
      object: `${name} (${target})`,
      invariant: 'session-begins-without-a-tenant',
      detail: `Sessions begin with ${name} set: one that has entered no tenant is not refused, or references are not kept.`,
      mend: `ALTER ${target} RESET ${settingName(name)};`,
    };
  });
}

/** From the server's files, if the connection may read them. */
async function ofTheServer({ ask }: Examination): Promise<Finding[]> {
  const [may] = await ask<{ may: boolean }>(
    `SELECT has_function_privilege('pg_show_all_file_settings()', 'EXECUTE')
        AND has_table_privilege('pg_file_settings', 'SELECT') AS may`,
  );
  if (may?.may !== true) return [];
  const rows = await ask<{ name: string; auto: boolean }>(
    `SELECT lower(name) AS name, bool_and(sourcefile LIKE '%/postgresql.auto.conf') AS auto
       FROM pg_file_settings WHERE lower(name) = ANY ($1) GROUP BY 1 ORDER BY 1`,
    [FORBIDDEN],
  );
  return rows.map(({ name, auto }) => ({
    kind: 'setting',
    object: `${name} (server)`,
    invariant: 'session-begins-without-a-tenant',
    detail: `The server's configuration sets ${name} for every session. ${
      auto
        ? 'Reload it after the mend: SELECT pg_reload_conf().'
        : 'No SQL can mend it: take it out of the configuration file and reload.'
    }`,
    mend: auto ? `ALTER SYSTEM RESET ${settingName(name)};` : undefined,
  }));
}

export const settingName = (name: string): string => name.split('.').map(escapeIdentifier).join('.');
