/**
 * How a transaction becomes a tenant's, as SQL functions of the cell: `enter` sets the context once, until the end of
 * the transaction, and refuses another tenant after that. Those who run statements may call it and nothing else that
 * changes a setting: set_config is not theirs (catalogue/bootstrap.ts).
 */
import { escapeLiteral, type QueryConfig } from 'pg';
import type { TenantId } from '../../domain/ids.js';

/** The setting that carries the tenant of a transaction. Read without missing_ok: no context is an error. */
export const TENANT_SETTING = 'app.tenant_id';
/** Hardened mode: the signed token that says the same, and that policies go by. */
export const TOKEN_SETTING = 'app.tenant_token';

/** SQLSTATEs of our own. */
export const SQLSTATE = {
  /** Another tenant is entered in this transaction, or was left behind in the session. */
  otherTenant: 'TN001',
  /** Hardened: the token is malformed, forged, or signed by a key that is not valid. */
  badToken: 'TN002',
  expiredToken: 'TN003',
} as const;

/**
 * Statements that enter a tenant: $1 the tenant or its token, $2 and $3 time-outs in ms, null for none. Not in the FROM:
 * there the server would store the function's rows first, which takes as long as the function.
 */
export const ENTER = 'SELECT tenantry.enter($1, $2, $3)';
export const ENTER_WITH_TOKEN = 'SELECT tenantry.enter_with_token($1, $2, $3)';

/** The same for a statement alone, whose time-out is the session's: $1 the tenant or its token. */
export const ENTER_ALONE = 'SELECT tenantry.enter_alone($1)';
export const ENTER_ALONE_WITH_TOKEN = 'SELECT tenantry.enter_alone_with_token($1)';

/**
 * Statements that make the transaction a tenant's. For probes, which become one tenant after the other in one transaction, on
 * connections where no product's text runs.
 */
export type SwitchTo = (tenant: TenantId) => readonly (string | QueryConfig)[];

/** Makes the transaction the named tenant's, or nobody's: `enter` would refuse the second. */
export const setTenant = (tenant: TenantId | ''): string =>
  `SET LOCAL ${TENANT_SETTING} = ${escapeLiteral(tenant)}`;

export const switchTo: SwitchTo = (tenant) => [setTenant(tenant)];

/**
 * The same in hardened mode. The token goes as a value, which no list of statements shows and no log of a failed one: a SET
 * takes none, so it only has the transaction forget whose it was.
 */
export const switchByToken =
  (sign: (tenant: TenantId) => string): SwitchTo =>
  (tenant) => [setTenant(''), { text: ENTER_WITH_TOKEN, values: [sign(tenant), null, null] }];

/** Within a transaction: the time-out that it began with, in ms, once it was changed. */
const LIMIT_SETTING = 'tenantry.statement_ms';

/**
 * The first time sets everything. Whoever is in already, an injected call too, can make its own time shorter, and no
 * longer than it was. `SET search_path` on a function costs more than all it does, so names are qualified instead,
 * operators included.
 */
const enter = (parameter: string, tenant: string, also: string): string => `
  CREATE OR REPLACE FUNCTION tenantry.${parameter}, statement_ms integer, idle_ms integer)
  RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $enter$
  DECLARE
    entered CONSTANT pg_catalog.text := pg_catalog.current_setting('${TENANT_SETTING}', true);
    known pg_catalog.text;
    limit_ms pg_catalog.int4;
    done pg_catalog.text;
  BEGIN
    IF entered IS NULL OR entered OPERATOR(pg_catalog.=) '' THEN
      done := pg_catalog.set_config('${TENANT_SETTING}', ${tenant}, true);${also}
      IF statement_ms IS NOT NULL THEN
        done := pg_catalog.set_config('statement_timeout', statement_ms::pg_catalog.text, true);
      END IF;
      IF idle_ms IS NOT NULL THEN
        done := pg_catalog.set_config('idle_in_transaction_session_timeout', idle_ms::pg_catalog.text, true);
      END IF;
      RETURN;
    END IF;
    IF entered OPERATOR(pg_catalog.<>) ${tenant} THEN
      RAISE EXCEPTION USING ERRCODE = '${SQLSTATE.otherTenant}', MESSAGE = 'another tenant is entered';
    END IF;${also}
    IF statement_ms IS NOT NULL THEN
      known := pg_catalog.current_setting('${LIMIT_SETTING}', true);
      IF known IS NULL OR known OPERATOR(pg_catalog.=) '' THEN
        SELECT s.setting INTO known FROM pg_catalog.pg_settings s
         WHERE s.name OPERATOR(pg_catalog.=) 'statement_timeout';
        done := pg_catalog.set_config('${LIMIT_SETTING}', known, true);
      END IF;
      limit_ms := known::pg_catalog.int4;
      IF limit_ms OPERATOR(pg_catalog.>) 0
         AND (statement_ms OPERATOR(pg_catalog.<=) 0 OR statement_ms OPERATOR(pg_catalog.>) limit_ms) THEN
        statement_ms := limit_ms;
      END IF;
      done := pg_catalog.set_config('statement_timeout', statement_ms::pg_catalog.text, true);
    END IF;
  END $enter$;`;

/**
 * For the usual statement, so every expression counts: the server makes each anew in every transaction. The tenant comes
 * as text, which is what a setting holds; one that is no uuid fails where a policy reads it.
 */
const enterAlone = (parameter: string, tenant: string, also: string): string => `
  CREATE OR REPLACE FUNCTION tenantry.${parameter})
  RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $enter$
  DECLARE
    done pg_catalog.text;
  BEGIN
    IF coalesce(pg_catalog.current_setting('${TENANT_SETTING}', true), '') OPERATOR(pg_catalog.=) '' THEN
      done := pg_catalog.set_config('${TENANT_SETTING}', ${tenant}, true);
    ELSIF pg_catalog.current_setting('${TENANT_SETTING}') OPERATOR(pg_catalog.<>) ${tenant} THEN
      RAISE EXCEPTION USING ERRCODE = '${SQLSTATE.otherTenant}', MESSAGE = 'another tenant is entered';
    END IF;${also}
  END $enter$;`;

const SET_TOKEN = `
    done := pg_catalog.set_config('${TOKEN_SETTING}', token, true);`;

const ENTER_FUNCTIONS = `
  ${enter('enter(tenant uuid', 'tenant::pg_catalog.text', '')}
  ${enter('enter_with_token(token text', 'pg_catalog.left(token, 36)', SET_TOKEN)}
  ${enterAlone('enter_alone(tenant text', 'tenant', '')}
  ${enterAlone('enter_alone_with_token(token text', 'pg_catalog.left(token, 36)', SET_TOKEN)}
  REVOKE ALL ON FUNCTION tenantry.enter(uuid, integer, integer), tenantry.enter_alone(text),
    tenantry.enter_with_token(text, integer, integer), tenantry.enter_alone_with_token(text) FROM PUBLIC;
  GRANT EXECUTE ON FUNCTION tenantry.enter(uuid, integer, integer) TO tenantry_runtime, tenantry_purge;
  GRANT EXECUTE ON FUNCTION tenantry.enter_with_token(text, integer, integer), tenantry.enter_alone(text),
    tenantry.enter_alone_with_token(text) TO tenantry_runtime;`;

/**
 * Hardened mode. The token is `tenant . expiry . key id . mac`: 36 characters, seconds since 1970, a number, 64 hex
 * digits of HMAC-SHA-256 (RFC 2104) over what is before the last dot. A key is stored as the two padded blocks that
 * HMAC begins its two hashes with, so that the builtin sha256 is enough.
 */
const TOKEN_FUNCTIONS = `
  CREATE TABLE IF NOT EXISTS tenantry.context_key (
    id          integer PRIMARY KEY CHECK (id > 0),
    inner_pad   bytea NOT NULL CHECK (length(inner_pad) = 64),
    outer_pad   bytea NOT NULL CHECK (length(outer_pad) = 64),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
  );
  CREATE OR REPLACE FUNCTION tenantry.verified_tenant()
  RETURNS uuid LANGUAGE plpgsql STABLE SECURITY DEFINER AS $verify$
  DECLARE
    token CONSTANT pg_catalog.text := pg_catalog.current_setting('${TOKEN_SETTING}');
    signed CONSTANT pg_catalog.text := pg_catalog.left(token, -65);
    mac pg_catalog.text;
    expiry pg_catalog.text;
  BEGIN
    SELECT pg_catalog.encode(pg_catalog.sha256(k.outer_pad OPERATOR(pg_catalog.||)
             pg_catalog.sha256(k.inner_pad OPERATOR(pg_catalog.||) pg_catalog.convert_to(signed, 'UTF8'))), 'hex')
      INTO mac FROM tenantry.context_key k
     WHERE k.id::pg_catalog.text OPERATOR(pg_catalog.=) pg_catalog.split_part(signed, '.', 3);
    IF mac IS NULL OR signed OPERATOR(pg_catalog.||) '.' OPERATOR(pg_catalog.||) mac OPERATOR(pg_catalog.<>) token THEN
      RAISE EXCEPTION USING ERRCODE = '${SQLSTATE.badToken}', MESSAGE = 'the tenant token is not valid',
        HINT = 'Sign with a context key that is installed in this cell: contextKeyId, TENANTRY_CONTEXT_KEY_IDS.';
    END IF;
    expiry := pg_catalog.split_part(signed, '.', 2);
    -- As of the transaction's beginning: a long one does not lose its tenant half-way.
    IF pg_catalog.to_timestamp(expiry::pg_catalog.float8) OPERATOR(pg_catalog.<=) pg_catalog.transaction_timestamp() THEN
      RAISE EXCEPTION USING ERRCODE = '${SQLSTATE.expiredToken}', MESSAGE = 'the tenant token has expired',
        HINT = 'Set the clocks: that of the process which signed it is minutes behind that of this server.';
    END IF;
    RETURN pg_catalog.left(token, 36)::pg_catalog.uuid;
  END $verify$;
  REVOKE ALL ON TABLE tenantry.context_key FROM PUBLIC;
  REVOKE ALL ON FUNCTION tenantry.verified_tenant() FROM PUBLIC;
  GRANT EXECUTE ON FUNCTION tenantry.verified_tenant() TO tenantry_runtime;`;

export const CONTEXT_FUNCTIONS = `${ENTER_FUNCTIONS}${TOKEN_FUNCTIONS}`;
