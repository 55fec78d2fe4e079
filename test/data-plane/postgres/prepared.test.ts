/** Statements that a connection has prepared: they may go stale, they are few, and nobody notices either. */
import type { TenantId } from '../../../domain/ids.js';
import type { ScopedPostgres } from '../../../tenancy/postgres/scoped.js';
import { codeOf, labels, openCell, type TestCell } from './support.js';

let cell: TestCell;
let acme: TenantId;
beforeAll(async () => {
  cell = await openCell();
});
beforeEach(async () => {
  acme = await cell.tenant();
});
afterEach(() => cell.settle());
afterAll(() => cell.close());

describe('a prepared statement', () => {
  it('is sent again when a table changed its columns under it', async () => {
    const scoped = cell.scoped(acme, { connections: 1 });
    const select = 'SELECT * FROM app.things';
    for (let i = 0; i < 4; i++) await scoped.query(select);
    await cell.admin.query('ALTER TABLE app.things ADD COLUMN further integer DEFAULT 5');
    expect((await scoped.query(select)).rows).toEqual([expect.objectContaining({ id: 1, further: 5 })]);
    expect((await scoped.query(select)).rows).toEqual([expect.objectContaining({ id: 1, further: 5 })]);
    await cell.admin.query('ALTER TABLE app.things RENAME further TO renamed');
    for (let i = 0; i < 4; i++)
      expect((await scoped.query(select)).rows).toEqual([expect.objectContaining({ id: 1, renamed: 5 })]);
    await cell.admin.query('ALTER TABLE app.things ALTER renamed TYPE text');
    for (let i = 0; i < 4; i++)
      expect((await scoped.query(select)).rows).toEqual([expect.objectContaining({ id: 1, renamed: '5' })]);
    await cell.admin.query('ALTER TABLE app.things DROP COLUMN renamed');
  });

  it('is sent again when a column changed its type under its parameters', async () => {
    const scoped = cell.scoped(acme, { connections: 1 });
    const become = 'UPDATE app.things SET further = $1';
    const find = 'SELECT id FROM app.things WHERE further = $1';
    const prepare = async (value: unknown): Promise<void> => {
      for (let i = 0; i < 4; i++) for (const text of [become, find]) await scoped.query(text, [value]);
    };
    await cell.admin.query('ALTER TABLE app.things ADD COLUMN further integer');
    for (const [type, value, using] of [
      // More than the parameters that were prepared take; another text of theirs; no operator for them.
      ['bigint', '3000000000', 'further'],
      ['text', 'no number', 'further'],
      ['uuid', acme, 'NULL'],
    ] as const) {
      await prepare(await scoped.query<{ v: unknown }>('SELECT further AS v FROM app.things').then(first));
      await cell.admin.query(`ALTER TABLE app.things ALTER further TYPE ${type} USING ${using}`);
      // Several at once: each was sent before it could be known.
      const updated = await Promise.all([1, 2, 3].map(() => scoped.query(become, [value])));
      expect(updated.map(({ rowCount }) => rowCount)).toEqual([1, 1, 1]);
      const found = await Promise.all([1, 2, 3].map(() => scoped.query(find, [value])));
      expect(found.map(({ rows }) => rows)).toEqual([[{ id: 1 }], [{ id: 1 }], [{ id: 1 }]]);
    }
    // A value that is none is one now as before.
    for (let i = 0; i < 3; i++) expect(await codeOf(scoped.query(find, ['no uuid']))).toBe('22P02');
    await cell.admin.query('ALTER TABLE app.things DROP COLUMN further');
  });

  it('gives each result columns of its own, also when the server describes them no more', async () => {
    const scoped = cell.scoped(acme, { connections: 1 });
    const select = 'SELECT id, label, attributes FROM app.things';
    const first = await scoped.query(select);
    for (let i = 0; i < 4; i++) {
      const { rows, fields } = await scoped.query(select);
      expect(rows).toEqual([{ id: 1, label: acme, attributes: null }]);
      expect(fields).toEqual(first.fields);
      // What one caller does to them another one does not see.
      fields.length = 0;
    }
    const array = await scoped.query({ text: select, rowMode: 'array' });
    expect(array.rows).toEqual([[1, acme, null]]);
    expect((await scoped.query(`${select} WHERE id = 2`)).rows).toEqual([]);
  });

  it('that returns no rows is one as well', async () => {
    const scoped = cell.scoped(acme, { connections: 1 });
    for (let i = 0; i < 4; i++)
      expect(await scoped.query('UPDATE app.things SET attributes = $1', [`${i}`])).toMatchObject({
        rowCount: 1,
        rows: [],
        fields: [],
      });
  });

  it('is one of a bounded number on a connection', async () => {
    const scoped = cell.scoped(acme, { connections: 1, preparedPerConnection: 5 });
    const texts = Array.from({ length: 40 }, (_, i) => `SELECT ${i} AS i`);
    for (let round = 0; round < 3; round++)
      for (const [i, text] of texts.entries())
        for (let twice = 0; twice < 2; twice++) expect((await scoped.query(text)).rows).toEqual([{ i }]);
    // Five, and the two that enter a tenant.
    expect(await preparedIn(scoped)).toBeLessThanOrEqual(7);
  });

  it('is none of a text so long that keeping many such would fill the memory', async () => {
    const scoped = cell.scoped(acme, { connections: 1 });
    const before = await preparedIn(scoped);
    for (const length of [16_000, 17_000])
      for (let i = 0; i < 3; i++)
        expect((await scoped.query(`SELECT ${' '.repeat(length)} ${length} AS n`)).rows).toEqual([
          { n: length },
        ]);
    // The shorter one, and the one that counts.
    expect(await preparedIn(scoped)).toBe(before + 2);
  });

  it('whose parsing failed is parsed anew the next time', async () => {
    const scoped = cell.scoped(acme, { connections: 1 });
    const text = 'SELECT id FROM app.later';
    for (let i = 0; i < 3; i++) expect(await codeOf(scoped.query(text))).toBe('42P01');
    await cell.admin.query(
      `CREATE TABLE app.later (id integer); GRANT SELECT ON app.later TO tenantry_runtime`,
    );
    for (let i = 0; i < 3; i++) expect((await scoped.query(text)).rows).toEqual([]);
    await cell.admin.query('DROP TABLE app.later');
  });

  it('is not prepared at all where that is off', async () => {
    const scoped = cell.scoped(acme, { connections: 1, prepare: false });
    for (let i = 0; i < 4; i++) expect(await labels(scoped)).toEqual([acme]);
    expect(await preparedIn(scoped)).toBe(0);
  });

  async function preparedIn(scoped: ScopedPostgres): Promise<number> {
    // Else nobody's to know: the texts are those of other tenants' statements.
    await cell.admin.query('GRANT EXECUTE ON FUNCTION pg_prepared_statement() TO tenantry_runtime');
    const { rows } = await scoped.query<{ count: number }>(
      'SELECT count(*)::int AS count FROM pg_prepared_statements',
    );
    return rows[0]?.count ?? -1;
  }
});

const first = ({ rows }: { readonly rows: readonly { readonly v: unknown }[] }): unknown => rows[0]?.v;
