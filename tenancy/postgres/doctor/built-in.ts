/**
 * PostgreSQL's own functions have to be as it brings them. The policies, and the functions that enter a tenant, call a
 * few of them. Any of them can be altered to run with its owner's rights.
 */
import type { Check, Finding } from './finding.js';
import { settingName, settingsAmong, TENANT_SETTINGS } from './settings.js';

type Volatility = 'IMMUTABLE' | 'STABLE' | 'VOLATILE';

/** What isolation calls. Declared more stable than it is, one would leave a tenant's value in a cached plan. */
const RESTED_ON: readonly (readonly [signature: string, volatility: Volatility, source: string])[] = [
  ['current_setting(text)', 'STABLE', 'show_config_by_name'],
  ['current_setting(text, boolean)', 'STABLE', 'show_config_by_name_missing_ok'],
  ['set_config(text, text, boolean)', 'VOLATILE', 'set_config_by_name'],
  ['transaction_timestamp()', 'STABLE', 'now'],
  ['uuid_in(cstring)', 'IMMUTABLE', 'uuid_in'],
  ['uuid_out(uuid)', 'IMMUTABLE', 'uuid_out'],
  ['uuid_eq(uuid, uuid)', 'IMMUTABLE', 'uuid_eq'],
  ['uuid_cmp(uuid, uuid)', 'IMMUTABLE', 'uuid_cmp'],
  ['uuid_hash(uuid)', 'IMMUTABLE', 'uuid_hash'],
  ['texteq(text, text)', 'IMMUTABLE', 'texteq'],
  ['textne(text, text)', 'IMMUTABLE', 'textne'],
  ['textcat(text, text)', 'IMMUTABLE', 'textcat'],
  ['byteacat(bytea, bytea)', 'IMMUTABLE', 'byteacat'],
  ['left(text, integer)', 'IMMUTABLE', 'text_left'],
  ['split_part(text, text, integer)', 'IMMUTABLE', 'split_part'],
  ['sha256(bytea)', 'IMMUTABLE', 'sha256_bytea'],
  ['encode(bytea, text)', 'IMMUTABLE', 'binary_encode'],
  ['convert_to(text, name)', 'STABLE', 'pg_convert_to'],
  ['to_timestamp(double precision)', 'IMMUTABLE', 'float8_timestamptz'],
  ['timestamptz_le(timestamptz, timestamptz)', 'IMMUTABLE', 'timestamp_le'],
];

/**
 * Whether a function `p` may be LEAKPROOF: comparisons, hashes and the widening of numbers tell nothing of their arguments.
 * Some that are named like a comparison quote an argument in an error (timezone, has_table_privilege).
 */
const LEAKS_NOTHING = `(p.proname ~ '(eq|ne|lt|le|gt|ge|cmp)(text|name|int4)?$' AND p.proname !~ '^(pg_)?has_'
    AND p.prorettype IN ('boolean'::regtype, 'integer'::regtype)
  OR p.proname ~ '(hash|hashextended)(text|name|int4)?$|^(hash|sha)|_(larger|smaller)$'
  OR p.proname IN ('md5', 'crc32', 'crc32c', 'name', 'starts_with', 'gen_random_uuid', 'uuid_extract_timestamp',
    'uuid_extract_version')
  OR p.proname IN ('bool', 'bytea', 'float4', 'float8', 'int4', 'int8', 'interval', 'macaddr8', 'numeric', 'text', 'varchar')
    AND NOT '{text,json,jsonb,bit}'::regtype[] && p.proargtypes::oid[]::regtype[])`;

interface Row {
  readonly object: string;
  readonly definer: boolean;
  readonly leakproof: boolean;
  readonly settings: readonly string[];
  /** What it ought to be, if it is not. */
  readonly volatility: Volatility | null;
  readonly replaced: boolean;
}

export const checkBuiltIns: Check = async ({ ask }) => {
  const rows = await ask<Row>(
    `SELECT * FROM (
       SELECT CASE p.pronamespace WHEN 'pg_catalog'::regnamespace THEN 'pg_catalog.' ELSE '' END
                || p.oid::regprocedure::text AS object, p.prosecdef AS definer,
              -- initdb writes in transactions 1 and 2. Which functions it makes LEAKPROOF differs from version to version.
              coalesce(p.proleakproof AND p.xmin::text::bigint > 2 AND NOT ${LEAKS_NOTHING}, false) AS leakproof,
              ${settingsAmong('$1')} AS settings,
              CASE WHEN p.provolatile::text <> lower(left(e.volatility, 1)) THEN e.volatility END AS volatility,
              coalesce(p.prosrc <> e.source OR l.lanname <> 'internal' AND e.source IS NOT NULL
                -- PostgreSQL brings none in another language, and none that says SET.
                OR l.lanname NOT IN ('internal', 'c', 'sql') OR l.lanname = 'sql' AND p.prosrc ~* '\\m(re)?set\\M', false)
                AS replaced
         FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
         LEFT JOIN unnest($2::text[], $3::text[], $4::text[]) AS e (signature, volatility, source)
           ON to_regprocedure(e.signature) = p.oid
        WHERE p.oid < 16384 AND p.pronamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)) AS f
      WHERE definer OR leakproof OR settings <> '{}' OR volatility IS NOT NULL OR replaced ORDER BY object`,
    [TENANT_SETTINGS, ...[0, 1, 2].map((at) => RESTED_ON.map((expected) => expected[at]))],
  );
  return rows.flatMap(findings);
};

function findings({ object, definer, leakproof, settings, volatility, replaced }: Row): Finding[] {
  const altered = (what: string, ...clauses: string[]): Finding => ({
    kind: 'function',
    object,
    invariant: 'built-in-as-made',
    detail: `${object} is PostgreSQL's own and has been altered: ${what}.`,
    mend:
      clauses.length === 0
        ? undefined
        : clauses.map((clause) => `ALTER FUNCTION ${object} ${clause};`).join('\n'),
  });
  return [
    definer && altered("it runs with its owner's rights", 'SECURITY INVOKER'),
    leakproof && altered('conditions with it may see rows before the policies do', 'NOT LEAKPROOF'),
    settings.length > 0 &&
      altered(
        `it sets ${settings.join(', ')} while it runs`,
        ...settings.map((name) => `RESET ${settingName(name)}`),
      ),
    volatility !== null && altered(`it ought to be ${volatility}`, volatility),
    replaced && altered('it does something else. No SQL is proposed: whoever did it has to say why'),
  ].filter((found) => found !== false);
}
