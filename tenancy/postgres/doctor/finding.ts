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
  /**
   * Absent for a way from one tenant to another. `warning`: none by itself, and right in some cells; whoever runs this one has to
   * know of it.
   */
  readonly severity?: 'warning';
  /** SQL that makes it hold; undefined only where none can, and then the detail says why. */
  readonly mend: string | undefined;
}

export interface Examination {
  readonly manifest: Manifest;
  ask<R extends object>(sql: string, values?: readonly unknown[]): Promise<R[]>;
}

export type Check = (examination: Examination) => Promise<Finding[]>;

/** As what a product's statements, or a purge, reach a cell: by the roles themselves or by what PUBLIC may. */
export const REACHING = `(SELECT oid FROM pg_roles WHERE rolname IN ('${ROLES.runtime}', '${ROLES.purge}')
  UNION ALL SELECT 0::oid)`;

/** A role of an ACL as GRANT and REVOKE have it. */
export const grantee = (oid: string): string =>
  `CASE ${oid} WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(${oid})) END`;

/** The entries of an ACL; where there is none yet, those that PostgreSQL takes for granted. */
export const aclOf = (acl: string, type: 'r' | 'n' | 'd' | 'f' | 'F' | 'S' | 'L', owner: string): string =>
  `aclexplode(coalesce(${acl}, acldefault('${type}', ${owner})))`;

/** Of a namespace `n`: not PostgreSQL's own. */
export const FOREIGN_SCHEMA = `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`;

/** Of a namespace `n`: somebody who reaches the cell may use what is in it, as everybody may with PostgreSQL's own. */
export const USABLE_SCHEMA = `(n.nspowner IN ${REACHING} OR EXISTS (
  SELECT FROM ${aclOf('n.nspacl', 'n', 'n.nspowner')} a
   WHERE a.privilege_type = 'USAGE' AND a.grantee IN ${REACHING}))`;

/**
 * Of a thing, in whatever schema: PostgreSQL did not bring it. What initdb makes has lower numbers (FirstNormalObjectId) and
 * is owned by the superuser that it makes.
 */
export const added = (oid: string, owner: string): string => `(${oid} >= 16384 OR ${owner} <> 10)`;

/** Of relations `c` in namespaces `n`: these with their partitions and children, in whatever schema those are. */
export const withParts = (roots: string): string => `(WITH RECURSIVE family AS (
  SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${roots}
  UNION SELECT i.inhrelid FROM pg_inherits i JOIN family ON family.oid = i.inhparent) SELECT oid FROM family)`;

/** Of a relation `c`: those beside its owner who have a right on it or on one of its columns. */
export const RELATION_GRANTEES = `ARRAY(SELECT DISTINCT ${grantee('a.grantee')} COLLATE "C" AS who
  FROM (SELECT * FROM aclexplode(c.relacl)
        UNION ALL
        SELECT e.* FROM pg_attribute t, aclexplode(t.attacl) e WHERE t.attrelid = c.oid) a
 WHERE a.grantee <> c.relowner ORDER BY who)`;

/** What is made is the owner's, whoever makes it. */
export const asOwner = (statements: string): string =>
  `SET ROLE ${ROLES.owner};\n${statements.trim()}\nRESET ROLE;`;
