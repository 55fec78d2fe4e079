/** What the doctor's checks have in common: what they find, how they ask, and the SQL that each of them needs. */
import type { Manifest } from '../../../domain/manifest.js';
import { ROLES } from '../../../catalogue/bootstrap.js';

export type FindingKind =
  | 'table'
  | 'view'
  | 'materialized view'
  | 'foreign table'
  | 'foreign server'
  | 'column'
  | 'index'
  | 'constraint'
  | 'policy'
  | 'function'
  | 'trigger'
  | 'event trigger'
  | 'rule'
  | 'sequence'
  | 'type'
  | 'schema'
  | 'database'
  | 'large object'
  | 'extension'
  | 'publication'
  | 'role'
  | 'setting'
  | 'grant'
  | 'other';

export interface Finding {
  readonly kind: FindingKind;
  /** Qualified and quoted as SQL has it. */
  readonly object: string;
  /** A stable kebab-case name of what ought to hold. */
  readonly invariant: string;
  readonly detail: string;
  /** Absent: a way from one tenant to another. `warning`: none by itself, and it may be meant. */
  readonly severity?: 'warning';
  /** SQL that makes it hold; undefined only where none can, and then the detail says why. */
  readonly mend: string | undefined;
}

export interface Examination {
  readonly manifest: Manifest;
  ask<R extends object>(sql: string, values?: readonly unknown[]): Promise<R[]>;
}

export type Check = (examination: Examination) => Promise<Finding[]>;

/** Whose rights a product's statements, or a purge's, have: those of the two roles, and of PUBLIC (0). */
export const REACHING = `(SELECT oid FROM pg_roles WHERE rolname IN ('${ROLES.runtime}', '${ROLES.purge}')
  UNION ALL SELECT 0::oid)`;

/** A role of an ACL, as GRANT and REVOKE write it. */
export const grantee = (oid: string): string =>
  `CASE ${oid} WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(${oid})) END`;

/** The entries of an ACL. A null one stands for PostgreSQL's defaults. */
export const aclOf = (acl: string, type: 'r' | 'n' | 'd' | 'f' | 'F' | 'S' | 'L', owner: string): string =>
  `aclexplode(coalesce(${acl}, acldefault('${type}', ${owner})))`;

/** Of a namespace `n`: not PostgreSQL's own. */
export const FOREIGN_SCHEMA = `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`;

/** Of a namespace `n`: somebody of REACHING owns it or has USAGE on it. */
export const USABLE_SCHEMA = `(n.nspowner IN ${REACHING} OR EXISTS (
  SELECT FROM ${aclOf('n.nspacl', 'n', 'n.nspowner')} a
   WHERE a.privilege_type = 'USAGE' AND a.grantee IN ${REACHING}))`;

/**
 * Whether an object did not come with PostgreSQL. What initdb makes has a lower oid (FirstNormalObjectId) and belongs to
 * the first superuser.
 */
export const added = (oid: string, owner: string): string => `(${oid} >= 16384 OR ${owner} <> 10)`;

/** The relations `c` in namespaces `n` for which `roots` holds, with their partitions and children in any schema. */
export const withParts = (roots: string): string => `(WITH RECURSIVE family AS (
  SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${roots}
  UNION SELECT i.inhrelid FROM pg_inherits i JOIN family ON family.oid = i.inhparent) SELECT oid FROM family)`;

/** Of a relation `c`: who beside its owner has a right on it or on one of its columns. */
export const RELATION_GRANTEES = `ARRAY(SELECT DISTINCT ${grantee('a.grantee')} COLLATE "C" AS who
  FROM (SELECT * FROM aclexplode(c.relacl)
        UNION ALL
        SELECT e.* FROM pg_attribute t, aclexplode(t.attacl) e WHERE t.attrelid = c.oid) a
 WHERE a.grantee <> c.relowner ORDER BY who)`;

/** What is made belongs to the owner's role, whoever runs it. */
export const asOwner = (statements: string): string =>
  `SET ROLE ${ROLES.owner};\n${statements.trim()}\nRESET ROLE;`;
