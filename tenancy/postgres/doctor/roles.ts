/** The roles: none beyond row-level security, none that can become another. */
import { escapeIdentifier } from 'pg';
import { ROLES } from '../../../catalogue/bootstrap.js';
import type { Check, Examination, Finding } from './finding.js';

/** Those without which a cell cannot work. */
const NEEDED = [ROLES.owner, ROLES.catalogue, ROLES.runtime, ROLES.purge];
const ALL: readonly string[] = Object.values(ROLES);
/** The owner changes tables and runs no statement of a product's; what it is a member of is a DBA's affair. */
const MEMBERS_OF_NOTHING = ALL.filter((role) => role !== ROLES.owner);

interface RoleRow {
  readonly rolname: string;
  readonly attributes: readonly string[];
}

export const checkRoles: Check = async (examination) => {
  const roles = await examination.ask<RoleRow>(
    `SELECT rolname, array_remove(ARRAY[
        CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolbypassrls THEN 'BYPASSRLS' END,
        CASE WHEN rolcreaterole THEN 'CREATEROLE' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,
        CASE WHEN rolreplication THEN 'REPLICATION' END], NULL) AS attributes
       FROM pg_roles WHERE rolname = ANY ($1) ORDER BY rolname COLLATE "C"`,
    [ALL],
  );
  const there = new Set(roles.map(({ rolname }) => rolname));
  return [
    ...NEEDED.filter((role) => !there.has(role)).map(missing),
    ...roles.filter(({ attributes }) => attributes.length > 0).map(tooPowerful),
    ...(await memberships(examination)),
  ];
};

const missing = (role: string): Finding => ({
  kind: 'role',
  object: role,
  invariant: 'role-present',
  detail: `The role ${role} is missing; the bootstrap also gives it its password and its right to connect.`,
  mend: `CREATE ROLE ${escapeIdentifier(role)} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT;`,
});

const tooPowerful = ({ rolname, attributes }: RoleRow): Finding => ({
  kind: 'role',
  object: rolname,
  invariant: 'role-without-attributes',
  detail: `The role ${rolname} is ${attributes.join(', ')}, and so beyond what isolates tenants, or on its way there.`,
  mend: `ALTER ROLE ${escapeIdentifier(rolname)} ${attributes.map((attribute) => `NO${attribute}`).join(' ')};`,
});

/** NOINHERIT does not help: a member may SET ROLE. */
async function memberships({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ role: string; member: string; grantor: string; modern: boolean }>(
    `SELECT quote_ident(r.rolname) AS role, quote_ident(m.rolname) AS member,
            quote_ident(pg_get_userbyid(a.grantor)) AS grantor,
            current_setting('server_version_num')::int >= 160000 AS modern
       FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
      WHERE m.rolname = ANY ($1) ORDER BY m.rolname, r.rolname, 3`,
    [MEMBERS_OF_NOTHING],
  );
  return rows.map(({ role, member, grantor, modern }) => ({
    kind: 'role',
    object: member,
    invariant: 'role-member-of-none',
    detail: `The role ${member} is a member of ${role}, which it can become and whose rights it has then.`,
    // Before version 16 a membership is there once, whoever granted it.
    mend: `REVOKE ${role} FROM ${member}${modern ? ` GRANTED BY ${grantor}` : ''} CASCADE;`,
  }));
}
