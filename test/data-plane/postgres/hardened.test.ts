/** Hardened mode: the policies go by a token that the database verifies, so that no SQL chooses another tenant. */
import { inspect } from 'node:util';
import pg from 'pg';
import { ROLES } from '../../../catalogue/bootstrap.js';
import { createPool } from '../../../catalogue/pool.js';
import type { TenantId } from '../../../domain/ids.js';
import { ensureProductSchema } from '../../../tenancy/postgres/product-schema.js';
import type { ScopedPostgres } from '../../../tenancy/postgres/scoped.js';
import { installContextKeys, signToken } from '../../../tenancy/postgres/token.js';
import {
  codeOf,
  connect,
  hardenedManifest,
  manifest,
  newContextKey,
  openCell,
  type TestCell,
} from './support.js';

let shared: TestCell;
let cell: TestCell;
let acme: TenantId;
let initech: TenantId;
let scoped: ScopedPostgres;
const enter = async (which: TestCell): Promise<void> => {
  cell = which;
  [acme, initech] = await Promise.all([cell.tenant(), cell.tenant()]);
  scoped = cell.scoped(acme);
};
beforeAll(async () => {
  shared = await openCell({ manifest: hardenedManifest });
});
beforeEach(() => enter(shared));
afterEach(() => (cell === shared ? cell.settle() : cell.close()));
afterAll(() => shared.close());

/** For a test that changes what is every tenant's. */
const inACellOfItsOwn = async (): Promise<void> => enter(await openCell({ manifest: hardenedManifest }));

const SELECT = 'SELECT label FROM app.things';
const INSERT = 'INSERT INTO app.things (tenant_id, id, label) VALUES ($1, $2, $3)';
const ENTER = 'SELECT FROM tenantry.enter($1, NULL, NULL)';
const ENTER_WITH_TOKEN = 'SELECT FROM tenantry.enter_with_token($1, NULL, NULL)';
const inAMinute = (): Date => new Date(Date.now() + 60_000);
const labels = async (on: ScopedPostgres = scoped): Promise<string[]> =>
  (await on.query<{ label: string }>(SELECT)).rows.map(({ label }) => label);

it('a tenant works as in plain mode: statements, transactions, its own rows and gate', async () => {
  expect(await labels()).toEqual([acme]);
  expect(await labels(cell.scoped(initech))).toEqual([initech]);
  await scoped.transaction(async (tx) => {
    await tx.query(INSERT, [acme, 2, 'two']);
    await tx.query({ text: 'UPDATE app.things SET label = label', timeoutMs: 1_000 });
  });
  expect(await codeOf(scoped.query(INSERT, [initech, 3, 'three']))).toBe('42501');
  expect((await scoped.query('SELECT tenant_id, mode FROM tenantry.gate')).rows).toEqual([
    { tenant_id: acme, mode: 'open' },
  ]);
  await cell.gate(acme, 'read-only');
  expect(await codeOf(scoped.query(INSERT, [acme, 3, 'three']))).toBe('42501');
  await cell.gate(acme, 'blocked');
  expect(await labels()).toEqual([]);
});

describe('on a connection of the product’s role that nothing guards', () => {
  let raw: pg.Client;
  beforeEach(async () => {
    raw = await cell.raw('runtime');
  });
  /** What a transaction that begins like this gets to see, or the SQLSTATE. */
  const sees = async (...first: readonly (readonly [string, unknown[]?])[]): Promise<unknown> => {
    try {
      await raw.query('BEGIN');
      for (const [text, values] of first) await raw.query(text, values);
      const { rows } = await raw.query<{ label: string }>(SELECT);
      return rows.map(({ label }) => label);
    } catch (error) {
      return (error as { code?: string }).code;
    } finally {
      await raw.query('ROLLBACK');
    }
  };
  const withToken = (token: string): Promise<unknown> => sees([ENTER_WITH_TOKEN, [token]]);

  it('a tenant’s token opens that tenant’s rows', async () => {
    expect(await withToken(signToken(initech, cell.key, inAMinute()))).toEqual([initech]);
  });

  it('a tenant’s name opens nothing', async () => {
    expect(await sees()).toBe('42704');
    expect(await sees([`SET LOCAL app.tenant_id = '${initech}'`])).toBe('42704');
    expect(await sees([ENTER, [initech]])).toBe('42704');
    await raw.query(`SET app.tenant_id = '${initech}'; SET app.tenant_token = ''`);
    expect(await sees()).toBe('TN002');
    expect(await codeOf(raw.query(INSERT, [initech, 5, 'five']))).toBe('TN002');
    expect(await codeOf(raw.query('SELECT * FROM tenantry.gate'))).toBe('TN002');
  });

  it('another name beside a tenant’s token opens neither', async () => {
    const token = signToken(acme, cell.key, inAMinute());
    expect(
      await sees(
        [`SET LOCAL app.tenant_id = '${initech}'`],
        [`SET LOCAL app.tenant_token = ${pg.escapeLiteral(token)}`],
      ),
    ).toEqual([]);
    expect(await sees([ENTER, [initech]], [ENTER_WITH_TOKEN, [token]])).toBe('TN001');
  });

  it('a token that is forged, altered, expired, of another key or no token at all opens nothing', async () => {
    const good = signToken(acme, cell.key, inAMinute());
    const [tenant = '', expiry = '', id = '', mac = ''] = good.split('.');
    const bad: Record<string, string> = {
      'of another tenant': [initech, expiry, id, mac].join('.'),
      'longer alive': [tenant, String(Number(expiry) + 1), id, mac].join('.'),
      'of another id': [tenant, expiry, '2', mac].join('.'),
      'of another key': signToken(initech, newContextKey(1), inAMinute()),
      'of a key that is not there': signToken(initech, newContextKey(2), inAMinute()),
      'in capitals': [tenant, expiry, id, mac.toUpperCase()].join('.'),
      'without a mac': [tenant, expiry, id, ''].join('.'),
      longer: `${good}0`,
      shorter: good.slice(0, -1),
      'with more in it': [tenant, expiry, id, '1', mac].join('.'),
      'a name': initech,
      'of no key': [initech, expiry, '', mac].join('.'),
    };
    for (const [what, token] of Object.entries(bad))
      expect([what, await withToken(token)]).toEqual([what, 'TN002']);
    expect(await withToken('')).toMatch(/^(TN002|22P02)$/);
    expect(await withToken(signToken(acme, cell.key, new Date(Date.now() - 1_000)))).toBe('TN003');
    expect(await withToken(good)).toEqual([acme]);
    const behind = cell.scoped(acme, { hardened: { key: () => cell.key, lifetimeMs: -2_000 } });
    await expect(behind.query(SELECT)).rejects.toMatchObject({
      code: 'TN003',
      hint: expect.stringContaining('clocks') as string,
    });
  });

  it('the key is not to be read', async () => {
    expect(await codeOf(raw.query('SELECT * FROM tenantry.context_key'))).toBe('42501');
    expect(await codeOf(raw.query('COPY tenantry.context_key TO STDOUT'))).toBe('42501');
    expect(await codeOf(raw.query('CREATE FUNCTION tenantry.verified_tenant2() RETURNS int RETURN 1'))).toBe(
      '42501',
    );
  });

  it('operators and functions of somebody’s own, first on the search path, change nothing', async () => {
    await cell.admin.query(`
      CREATE SCHEMA evil;
      CREATE FUNCTION evil.yes(text, text) RETURNS boolean IMMUTABLE RETURN true;
      CREATE FUNCTION evil.no(text, text) RETURNS boolean IMMUTABLE RETURN false;
      CREATE FUNCTION evil.yes(uuid, uuid) RETURNS boolean IMMUTABLE RETURN true;
      CREATE FUNCTION evil.never(timestamptz, timestamptz) RETURNS boolean IMMUTABLE RETURN false;
      CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.yes);
      CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.no);
      CREATE OPERATOR evil.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = evil.yes);
      CREATE OPERATOR evil.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.never);
      CREATE FUNCTION evil.sha256(bytea) RETURNS bytea IMMUTABLE RETURN 'x'::bytea;
      CREATE FUNCTION evil.left(text, int) RETURNS text IMMUTABLE RETURN '${initech}';
      CREATE FUNCTION evil.current_setting(text) RETURNS text IMMUTABLE RETURN '${initech}';
      GRANT USAGE ON SCHEMA evil TO PUBLIC`);
    const path = ['SET LOCAL search_path = evil, pg_catalog'] as const;
    expect(await sees(path, [ENTER_WITH_TOKEN, [signToken(initech, newContextKey(1), inAMinute())]])).toBe(
      'TN002',
    );
    expect(await sees(path, [ENTER_WITH_TOKEN, [signToken(acme, cell.key, new Date(0))]])).toBe('TN003');
    const own = signToken(acme, cell.key, inAMinute());
    expect(await sees(path, [ENTER_WITH_TOKEN, [own]])).toEqual([acme]);
    expect(await sees(path, [ENTER_WITH_TOKEN, [own]], [ENTER, [initech]])).toBe('TN001');
  });

  it('the token is verified once for each statement, however many rows there are', async () => {
    const { rows } = await cell.admin.query<{ name: string }>('SELECT current_database() AS name');
    await cell.admin.query(`
      ALTER DATABASE ${rows[0]?.name} SET track_functions = 'all';
      GRANT EXECUTE ON FUNCTION pg_stat_get_xact_function_calls(oid) TO ${ROLES.runtime}`);
    await cell.admin.query(
      `INSERT INTO app.things (tenant_id, id, label) SELECT $1, i, i FROM generate_series(2, 500) AS i`,
      [acme],
    );
    const counted = await connect(cell.url('runtime'));
    try {
      await counted.query('BEGIN');
      await counted.query(ENTER_WITH_TOKEN, [signToken(acme, cell.key, inAMinute())]);
      const { rowCount } = await counted.query(SELECT);
      const { rows: calls } = await counted.query(
        `SELECT pg_stat_get_xact_function_calls('tenantry.verified_tenant()'::regprocedure) AS calls`,
      );
      expect({ rowCount, calls }).toEqual({ rowCount: 500, calls: [{ calls: '1' }] });
    } finally {
      await counted.end();
    }
  });
});

it('SQL that was injected into a statement cannot choose another tenant', async () => {
  const forged = signToken(initech, newContextKey(1), inAMinute());
  /** A product's mistake: what a user typed stands in the text. */
  const search = (typed: string): Promise<unknown> =>
    scoped.query(`SELECT label FROM app.things WHERE label = '${typed}'`).then(
      ({ rows }) => rows,
      (error: { code?: string }) => error.code,
    );
  const typed: Record<string, unknown> = {
    [`' OR true --`]: [{ label: acme }],
    [`' OR tenant_id = '${initech}`]: [],
    [`'; SET LOCAL app.tenant_id = '${initech}'; SELECT label FROM app.things --`]: '42601',
    [`' UNION SELECT tenantry.enter('${initech}', NULL, NULL)::text UNION SELECT label FROM app.things --`]:
      'TN001',
    [`' OR (SELECT tenantry.enter_with_token('${forged}', NULL, NULL)) IS NULL --`]: 'TN001',
    [`' UNION SELECT tenantry.enter_alone('${initech}')::text UNION SELECT label FROM app.things --`]:
      'TN001',
    [`' OR (SELECT tenantry.enter_alone_with_token('${forged}')) IS NULL --`]: 'TN001',
    [`' OR set_config('app.tenant_token', '${forged}', true) IS NOT NULL --`]: '42501',
    [`' UNION SELECT query_to_xml('SET LOCAL app.tenant_id = ''${initech}''', true, true, '')::text --`]:
      '0A000',
    [`' UNION SELECT query_to_xml('SELECT tenantry.enter(''${initech}'', NULL, NULL)', true, true, '')::text --`]:
      'TN001',
    [`' UNION SELECT encode(inner_pad, 'hex') FROM tenantry.context_key --`]: '42501',
    [`' UNION SELECT query FROM pg_stat_activity --`]: '42501',
    [`' UNION SELECT tenant_id::text FROM tenantry.gate --`]: [{ label: acme }],
  };
  for (const [text, outcome] of Object.entries(typed))
    expect([text, await search(text)]).toEqual([text, outcome]);
  expect(await labels()).toEqual([acme]);
});

it('a token shows in no error and in no list of statements', async () => {
  const seen: unknown[] = [];
  for (const text of ['SELECT 1 / 0', 'SELECT FROM nowhere', INSERT.replace('$1', `'${initech}'`)])
    seen.push(
      await scoped.query(text, text.startsWith('INSERT') ? [acme, 1, 'x'] : []).catch((e: unknown) => e),
    );
  const wrong = cell.scoped(acme, { hardened: { key: () => newContextKey(1) } });
  seen.push(await wrong.query(SELECT).catch((e: unknown) => e));
  const old = cell.scoped(acme, { hardened: { key: () => cell.key, lifetimeMs: -1_000 } });
  seen.push(await old.query(SELECT).catch((e: unknown) => e));
  // The server is that of other tests too, and those that attack have tokens in their texts.
  seen.push(
    (await cell.admin.query('SELECT query FROM pg_stat_activity WHERE datname = current_database()')).rows,
  );
  expect(seen.slice(-3, -1)).toEqual([
    expect.objectContaining({ code: 'TN002' }),
    expect.objectContaining({ code: 'TN003' }),
  ]);
  const text = inspect(seen, { depth: 10, showHidden: true, maxStringLength: null });
  expect(text).not.toMatch(/\.[0-9a-f]{64}/);
  expect(text).not.toContain(`${acme}.`);
});

it('the mode changes under tables that are there, both ways, and nothing else is touched', async () => {
  await inACellOfItsOwn();
  const owner = await cell.raw('owner');
  const plain = cell.scoped(acme, { hardened: undefined });
  expect(await codeOf(plain.query(SELECT))).toBe('42704');
  await ensureProductSchema(owner, manifest);
  expect(await labels(plain)).toEqual([acme]);
  // Those who come with a token are let in as well: the product changes first, then the cell.
  expect(await labels()).toEqual([acme]);
  await ensureProductSchema(owner, hardenedManifest);
  expect(await codeOf(plain.query(SELECT))).toBe('42704');
  expect(await labels()).toEqual([acme]);
  expect(await ensureProductSchema(owner, hardenedManifest)).toEqual({ created: [] });
});

it('erasing is as it was: the purge role enters by name, while the gate stands at purging', async () => {
  const purge = await cell.raw('purge');
  await cell.gate(acme, 'purging');
  await purge.query('BEGIN');
  await purge.query(ENTER, [acme]);
  expect((await purge.query('DELETE FROM app.things')).rowCount).toBe(1);
  await purge.query('COMMIT');
  expect(await labels(cell.scoped(initech))).toEqual([initech]);
});

it('a key is replaced under 64 callers without a refused statement: two are valid, and then the new one alone', async () => {
  await inACellOfItsOwn();
  const owner = createPool({ url: cell.url('owner'), name: 'test-owner', max: 1 });
  const next = newContextKey(2);
  const over = new AbortController();
  let signing = cell.key;
  const rotating = cell.pool({ hardened: { key: () => signing } });
  const asked = new Set<Promise<void>>();
  const calls = async (tenantId: TenantId): Promise<void> => {
    const mine = rotating.forTenant({ tenantId });
    for (let call = 0; !over.signal.aborted; call++) {
      const one = call % 8 === 0 ? mine.transaction((tx) => tx.query(SELECT)) : mine.query(SELECT);
      const seen = one.then(({ rows }) => expect(rows).toEqual([{ label: tenantId }]));
      asked.add(seen);
      await seen.finally(() => asked.delete(seen));
    }
  };
  // Whatever was asked for by now has its answer.
  const answered = (): Promise<unknown> => Promise.all(asked);
  const callers = Promise.all(Array.from({ length: 64 }, (_, at) => calls(at % 2 === 0 ? acme : initech)));
  try {
    await answered();
    await installContextKeys(owner, [cell.key, next]);
    await answered();
    signing = next;
    await answered();
    await installContextKeys(owner, [next]);
    await answered();
    await expect(scoped.query(SELECT)).rejects.toMatchObject({
      code: 'TN002',
      hint: expect.stringContaining('contextKeyId') as string,
    });
    // A worker of before does not bring the old one back.
    await installContextKeys(owner, [cell.key]);
    expect(await codeOf(scoped.query(SELECT))).toBe('TN002');
    await answered();
  } finally {
    over.abort();
    await owner.end();
    await callers;
  }
});
