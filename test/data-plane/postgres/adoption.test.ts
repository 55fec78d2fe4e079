/** Tables that a product had before: what keeps them from being adopted, and how they are when they have been. */
import pg from 'pg';
import type { TenantId } from '../../../domain/ids.js';
import { newTenantId } from '../../../domain/ids.js';
import type { Manifest } from '../../../domain/manifest.js';
import { adoptionPlan, adoptTables } from '../../../tenancy/postgres/adoption.js';
import { doctorPostgres } from '../../../tenancy/postgres/doctor.js';
import { ensureProductSchema } from '../../../tenancy/postgres/product-schema.js';
import { codeOf, manifest, openCell, type TestCell } from './support.js';

/** The same tables, and they are there already. */
const adopting: Manifest = {
  ...manifest,
  postgres: {
    ...manifest.postgres,
    tables: Object.fromEntries(
      Object.entries(manifest.postgres.tables).map(([name, table]) => [name, { ...table, adopt: true }]),
    ),
  },
};
const empty: Manifest = { ...manifest, postgres: { ...manifest.postgres, tables: {} } };

let cell: TestCell;
let owner: pg.Client;
const acme: TenantId = newTenantId();
const initech: TenantId = newTenantId();
beforeEach(async () => {
  cell = await openCell({ manifest: empty });
  owner = await cell.raw('owner');
  await cell.gate(acme, 'open');
  await cell.gate(initech, 'open');
});
afterEach(async () => {
  await cell.close();
});

const existing = (things: string, parts: string): Promise<unknown> =>
  owner.query(`
    CREATE SCHEMA app;
    CREATE TABLE app.things (tenant_id uuid NOT NULL, id integer NOT NULL, label text NOT NULL, attributes jsonb,
      note text, ${things});
    CREATE TABLE app.parts (tenant_id uuid NOT NULL, id integer NOT NULL, thing_id integer NOT NULL, ${parts});
    INSERT INTO app.things (tenant_id, id, label) VALUES ('${acme}', 1, 'of acme'), ('${initech}', 2, 'of initech');
    INSERT INTO app.parts VALUES ('${acme}', 1, 1)`);
const sound = (): Promise<unknown> =>
  existing(
    'PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, label)',
    'PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, thing_id) REFERENCES app.things ON DELETE CASCADE',
  );
const labels = async (tenant: TenantId): Promise<unknown[]> =>
  (await cell.scoped(tenant).query('SELECT label FROM app.things')).rows.map((row) => row['label']);

it('without being declared as such they are somebody else’s', async () => {
  await sound();
  expect(await codeOf(ensureProductSchema(owner, manifest))).toBe('NAME_TAKEN');
  expect(await adoptTables(owner, manifest)).toEqual({ adopted: [] });
  expect(await codeOf(ensureProductSchema(owner, manifest))).toBe('NAME_TAKEN');
});

it('that are sound are protected as they are, with their rows, once', async () => {
  await sound();
  await owner.query('GRANT ALL ON app.things TO PUBLIC; GRANT TRUNCATE ON app.parts TO tenantry_runtime');
  const plan = await adoptionPlan(owner, adopting);
  expect(plan.blocking).toEqual([]);
  expect(plan.tables.toSorted()).toEqual(['parts', 'things']);
  const { adopted } = await adoptTables(owner, adopting);
  expect(adopted.toSorted()).toEqual(['parts', 'things']);
  expect(await adoptTables(owner, adopting)).toEqual({ adopted: [] });
  expect(await ensureProductSchema(owner, adopting)).toEqual({ created: [] });
  expect(await labels(acme)).toEqual(['of acme']);
  expect(await labels(initech)).toEqual(['of initech']);
  const raw = await cell.raw('runtime');
  expect(await codeOf(raw.query('SELECT FROM app.things'))).toBe('42704');
  expect(await codeOf(raw.query('TRUNCATE app.parts'))).toBe('42501');
  await cell.gate(acme, 'blocked');
  expect(await labels(acme)).toEqual([]);
  const left = (await doctorPostgres(cell.admin, adopting)).filter(({ object }) => object.startsWith('app.'));
  expect(left).toEqual([]);
  // From here on they are like any other: the word may go.
  expect(await ensureProductSchema(owner, manifest)).toEqual({ created: [] });
});

it('that are not are left alone, with the SQL that mends them; mended, they are adopted', async () => {
  await existing(
    'UNIQUE (label), PRIMARY KEY (id)',
    'PRIMARY KEY (id), FOREIGN KEY (thing_id) REFERENCES app.things',
  );
  await owner.query(`
    ALTER TABLE app.things ALTER COLUMN tenant_id DROP NOT NULL, ALTER COLUMN label TYPE varchar(50);
    CREATE POLICY everybody ON app.things USING (true)`);
  const before = await adoptionPlan(owner, adopting);
  expect(before.blocking.map(({ invariant }) => invariant)).toEqual(
    expect.arrayContaining([
      'column-as-declared',
      'tenant-column-not-null',
      'primary-key-tenant-first',
      'unique-tenant-first',
      'reference-composite',
      'policy-of-ours-only',
    ]),
  );
  const refusal = await adoptTables(owner, adopting).catch((error: unknown) => error as Error);
  expect(refusal).toMatchObject({ code: 'STORE_REFUSED' });
  const told = String((refusal as Error).cause);
  for (const { detail, mend = '' } of before.blocking) expect(told).toContain(mend === '' ? detail : mend);
  expect(await codeOf(ensureProductSchema(owner, adopting))).toBe('NAME_TAKEN');
  const { rows } = await owner.query(
    `SELECT relrowsecurity AS secured FROM pg_class WHERE oid = 'app.things'::regclass`,
  );
  expect(rows).toEqual([{ secured: false }]);
  for (const { mend } of before.blocking) if (mend !== undefined) await cell.admin.query(mend);
  expect((await adoptionPlan(owner, adopting)).blocking).toEqual([]);
  await adoptTables(owner, adopting);
  expect(await labels(acme)).toEqual(['of acme']);
});

it.each([
  ['a table', 'CREATE TABLE app.log (line text); GRANT SELECT ON app.log TO PUBLIC', 'app.log'],
  [
    'a child of one',
    'CREATE TABLE app.old () INHERITS (app.things); GRANT SELECT ON app.old TO PUBLIC',
    'app.old',
  ],
  [
    'a view',
    'CREATE VIEW app.all AS SELECT * FROM app.things; GRANT SELECT ON app.all TO PUBLIC',
    'app."all"',
  ],
  [
    'a materialized view',
    'CREATE MATERIALIZED VIEW app.kept AS SELECT * FROM app.things; GRANT SELECT ON app.kept TO PUBLIC',
    'app.kept',
  ],
  [
    'a function',
    `CREATE FUNCTION app.every() RETURNS SETOF app.things LANGUAGE sql SECURITY DEFINER
       AS 'SELECT * FROM app.things'`,
    'app.every()',
  ],
  [
    'a trigger',
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.copy() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
       AS 'BEGIN RETURN new; END';
     CREATE TRIGGER copy BEFORE UPDATE ON app.things FOR EACH ROW EXECUTE FUNCTION hidden.copy()`,
    'app.things.copy',
  ],
  ['a rule', 'CREATE RULE more AS ON DELETE TO app.parts DO ALSO DELETE FROM app.things', 'app.parts.more'],
])('are not adopted while %s beside them leads around their policies', async (_, way, object) => {
  await sound();
  // As the product's former owner, whom no policy binds.
  await cell.admin.query(way);
  const { blocking } = await adoptionPlan(owner, adopting);
  expect(blocking).toEqual([expect.objectContaining({ object })]);
  expect(await codeOf(adoptTables(owner, adopting))).toBe('STORE_REFUSED');
  const raw = await cell.raw('runtime');
  expect(await codeOf(raw.query('SELECT FROM app.things'))).toBe('42501');
  for (const { mend } of blocking) if (mend !== undefined) await cell.admin.query(mend);
  expect((await adoptTables(owner, adopting)).adopted).toHaveLength(2);
  expect(await labels(acme)).toEqual(['of acme']);
});

it('that lack what a row would need, or belong to another role, are named', async () => {
  await sound();
  await owner.query(`ALTER TABLE app.things ADD COLUMN size integer NOT NULL DEFAULT 0;
    ALTER TABLE app.things ALTER COLUMN size DROP DEFAULT, DROP COLUMN attributes`);
  await cell.admin.query('ALTER TABLE app.parts OWNER TO CURRENT_USER');
  const { blocking } = await adoptionPlan(owner, adopting);
  expect(blocking.map(({ object, mend }) => [object, mend])).toEqual([
    ['app.parts', 'ALTER TABLE app.parts OWNER TO tenantry_owner;'],
    ['app.things.attributes', 'ALTER TABLE app.things ADD COLUMN "attributes" jsonb;'],
    ['app.things.size', undefined],
  ]);
});

it('that are not there are made, beside those that are', async () => {
  await owner.query(`
    CREATE SCHEMA app;
    CREATE TABLE app.things (tenant_id uuid, id integer, label text NOT NULL, attributes jsonb,
      PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, label))`);
  expect(await adoptTables(owner, adopting)).toEqual({ adopted: ['things'] });
  expect(await ensureProductSchema(owner, adopting)).toEqual({ created: ['parts'] });
});
