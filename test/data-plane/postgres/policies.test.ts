/**
 * Each policy by itself: statements that name no rows and return none are held by no other policy than their own, so
 * that one that was widened shows itself here.
 */
import type { TenantId } from '../../../domain/ids.js';
import { ENTER, ENTER_ALONE } from '../../../tenancy/postgres/context-sql.js';
import { ensureProductSchema } from '../../../tenancy/postgres/product-schema.js';
import type { ScopedPostgres } from '../../../tenancy/postgres/scoped.js';
import { codeOf, openCell, type TestCell } from './support.js';

let cell: TestCell;
let [acme, initech] = ['', ''] as TenantId[] as [TenantId, TenantId];
let scoped: ScopedPostgres;
beforeAll(async () => {
  cell = await openCell();
});
beforeEach(async () => {
  [acme, initech] = [await cell.tenant(), await cell.tenant()];
  scoped = cell.scoped(acme);
});
afterEach(() => cell.settle());
afterAll(() => cell.close());

const labelsOf = async (tenant: TenantId): Promise<unknown[]> =>
  (await cell.admin.query('SELECT label, attributes FROM app.things WHERE tenant_id = $1', [tenant])).rows;
const untouched = (tenant: TenantId): unknown[] => [{ label: tenant, attributes: null }];

it('SELECT: all rows are the tenant’s own', async () => {
  const { rows } = await scoped.query('SELECT tenant_id FROM app.things');
  expect(rows).toEqual([{ tenant_id: acme }]);
});

it('INSERT: a row of another tenant is refused', async () => {
  const insert = 'INSERT INTO app.things (tenant_id, id, label) VALUES ($1, 2, $2)';
  expect(await codeOf(scoped.query(insert, [initech, 'x']))).toBe('42501');
  expect(await labelsOf(initech)).toEqual(untouched(initech));
});

it('UPDATE: of all rows changes the tenant’s own', async () => {
  const update = scoped.query(`UPDATE app.things SET attributes = '{}'`);
  expect(await codeOf(update)).toBe('nothing');
  expect(await update).toMatchObject({ rowCount: 1 });
  expect(await labelsOf(acme)).toEqual([{ label: acme, attributes: {} }]);
  expect(await labelsOf(initech)).toEqual(untouched(initech));
});

it('UPDATE: a row is not handed over to another tenant', async () => {
  expect(await codeOf(scoped.query('UPDATE app.things SET tenant_id = $1, id = 2', [initech]))).toBe('42501');
  expect(await labelsOf(initech)).toEqual(untouched(initech));
});

it('DELETE: of all rows deletes the tenant’s own', async () => {
  expect(await scoped.query('DELETE FROM app.things')).toMatchObject({ rowCount: 1 });
  expect(await labelsOf(initech)).toEqual(untouched(initech));
});

it('the gate: a context sees its own and no list of the cell’s tenants', async () => {
  const { rows } = await scoped.query('SELECT tenant_id FROM tenantry.gate');
  expect(rows).toEqual([{ tenant_id: acme }]);
  expect(await codeOf(scoped.query(`UPDATE tenantry.gate SET mode = 'open'`))).toBe('42501');
});

it('the context: ends with its transaction', async () => {
  const raw = await cell.raw('runtime');
  await raw.query(ENTER, [acme, null, null]);
  expect(await codeOf(raw.query('SELECT FROM app.things'))).toBe('22P02');
  await raw.query(ENTER_ALONE, [acme]);
  expect(await codeOf(raw.query('SELECT FROM app.things'))).toBe('22P02');
});

it('the ways into a tenant: a cell that an earlier version made is given those that it lacks', async () => {
  await cell.admin.query(`
    DROP FUNCTION tenantry.enter_alone(text), tenantry.enter_alone_with_token(text);
    COMMENT ON TABLE tenantry.product_table IS 'as of an earlier version'`);
  expect(await codeOf(scoped.query('SELECT FROM app.things'))).toBe('STORE_UNAVAILABLE');
  expect(await ensureProductSchema(await cell.raw('owner'), cell.manifest)).toEqual({ created: [] });
  expect(await scoped.query('SELECT FROM app.things')).toMatchObject({ rowCount: 1 });
});

describe('the role that erases', () => {
  const asPurge = async (work: (query: (text: string) => Promise<number | null>) => Promise<void>) => {
    const raw = await cell.raw('purge');
    await raw.query('BEGIN');
    await raw.query(ENTER, [acme, null, null]);
    await work(async (text) => (await raw.query(text)).rowCount);
    await raw.query('COMMIT');
  };

  it('reaches nothing of a tenant whose gate is open', async () => {
    await asPurge(async (query) => {
      expect(await query('SELECT FROM app.things')).toBe(0);
      expect(await query('DELETE FROM app.things')).toBe(0);
    });
    expect(await labelsOf(acme)).toEqual(untouched(acme));
  });

  it('reaches the rows of the tenant that is purged, and no others', async () => {
    await cell.gate(acme, 'purging');
    await asPurge(async (query) => {
      expect(await query('SELECT FROM tenantry.gate')).toBe(1);
      expect(await query('SELECT FROM app.things')).toBe(1);
      expect(await query('DELETE FROM app.things')).toBe(1);
    });
    expect(await labelsOf(acme)).toEqual([]);
    expect(await labelsOf(initech)).toEqual(untouched(initech));
  });
});
